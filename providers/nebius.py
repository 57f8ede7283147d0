"""Nebius AI Studio (Token Factory)."""

from providers.openai_shaped import openai_shaped
from providers.response_format import schema_of
from providers.spec import CONVERSATIONAL, FEATURE_EXTRACTION, TEXT_GENERATION, Fields


def with_guided_json(fields: Fields) -> Fields:
    """Nebius obeys a JSON Schema only as vLLM's `guided_json`, beside response_format."""
    schema = schema_of(fields)
    return fields if schema is None else fields | {"guided_json": schema}


PROVIDER = openai_shaped(
    "nebius",
    "https://api.studio.nebius.ai",
    tasks=(CONVERSATIONAL, TEXT_GENERATION, FEATURE_EXTRACTION),
    adapts={CONVERSATIONAL: with_guided_json},
    env=("NEBIUS_API_KEY",),
    lists_models=True,
)
