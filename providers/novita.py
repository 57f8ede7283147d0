"""Novita, below /v3/openai. Its ids are lower-case; its videos are no OpenAI-shaped task of this file."""

from providers.openai_shaped import openai_shaped
from providers.spec import CONVERSATIONAL, TEXT_GENERATION

PROVIDER = openai_shaped(
    "novita",
    "https://api.novita.ai",
    prefix="/v3/openai",
    tasks=(CONVERSATIONAL, TEXT_GENERATION),
    env=("NOVITA_API_KEY",),
    lists_models=True,
)
