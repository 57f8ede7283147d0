"""Fireworks, below /inference/v1. Its ids look like accounts/fireworks/models/deepseek-v3p2."""

from providers.openai_shaped import openai_shaped
from providers.response_format import as_json_object
from providers.spec import CONVERSATIONAL, FEATURE_EXTRACTION, RESPONSES, TEXT_GENERATION

PROVIDER = openai_shaped(
    "fireworks-ai",
    "https://api.fireworks.ai",
    prefix="/inference/v1",
    # Beyond chat: docs.fireworks.ai, "Completions API", "Responses API", guides/querying-embeddings-models.
    tasks=(CONVERSATIONAL, TEXT_GENERATION, FEATURE_EXTRACTION, RESPONSES),
    adapts={CONVERSATIONAL: as_json_object},
    env=("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"),
    key_prefixes=("fw_",),
    lists_models=True,
)
