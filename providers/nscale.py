"""Nscale. Its images are OpenAI's: `size` as "512x768", answers as b64_json."""

from providers.openai_shaped import openai_shaped
from providers.spec import CONVERSATIONAL, TEXT_TO_IMAGE

PROVIDER = openai_shaped(
    "nscale",
    "https://inference.api.nscale.com",
    tasks=(CONVERSATIONAL, TEXT_TO_IMAGE),
    env=("NSCALE_SERVICE_TOKEN", "NSCALE_API_KEY"),
    lists_models=True,
)
