"""Scaleway Generative APIs, in Europe."""

from providers.openai_shaped import openai_shaped
from providers.spec import CONVERSATIONAL, FEATURE_EXTRACTION, SPEECH_RECOGNITION, TEXT_GENERATION

PROVIDER = openai_shaped(
    "scaleway",
    "https://api.scaleway.ai",
    # Transcriptions: scaleway.com/en/docs/generative-apis/how-to/query-audio-models.
    tasks=(CONVERSATIONAL, TEXT_GENERATION, FEATURE_EXTRACTION, SPEECH_RECOGNITION),
    env=("SCW_SECRET_KEY",),
    lists_models=True,
)
