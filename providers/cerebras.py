"""Cerebras: a few models, very fast; validates strictly."""

from providers.openai_shaped import openai_shaped
from providers.spec import CONVERSATIONAL, TEXT_GENERATION, Fields, without


def without_store(fields: Fields) -> Fields:
    """OpenAI's SDKs send `store`; Cerebras answers it with 400 "wrong_api_format". It keeps nothing either way."""
    return without(fields, "store") if "store" in fields else fields


PROVIDER = openai_shaped(
    "cerebras",
    "https://api.cerebras.ai",
    # Completions: the legacy completions of Cerebras' own SDK, cerebras_cloud_sdk.resources.completions.
    tasks=(CONVERSATIONAL, TEXT_GENERATION),
    adapts={CONVERSATIONAL: without_store},
    env=("CEREBRAS_API_KEY",),
    key_prefixes=("csk-",),
    lists_models=True,
)
