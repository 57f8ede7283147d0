"""Clarifai's OpenAI-compatible endpoint. Bearer as OpenAI's SDKs send it; its own API writes `Key` instead."""

from providers.openai_shaped import openai_shaped

PROVIDER = openai_shaped(
    "clarifai",
    "https://api.clarifai.com",
    prefix="/v2/ext/openai/v1",
    env=("CLARIFAI_PAT", "CLARIFAI_API_KEY"),
    lists_models=True,
)
