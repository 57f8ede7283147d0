"""Featherless: serves most of the Hub's open text models under the Hub's own ids."""

from providers.openai_shaped import openai_shaped
from providers.spec import CONVERSATIONAL, TEXT_GENERATION

PROVIDER = openai_shaped(
    "featherless-ai",
    "https://api.featherless.ai",
    tasks=(CONVERSATIONAL, TEXT_GENERATION),
    env=("FEATHERLESS_API_KEY",),
    lists_models=True,
)
