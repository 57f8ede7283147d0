"""Groq: LPU-served open models and Whisper, below /openai/v1. It has no /completions."""

from providers.openai_shaped import openai_shaped
from providers.spec import CONVERSATIONAL, RESPONSES, SPEECH_RECOGNITION, SPEECH_TRANSLATION, TEXT_TO_SPEECH

PROVIDER = openai_shaped(
    "groq",
    "https://api.groq.com",
    prefix="/openai/v1",
    # Beyond chat: console.groq.com/docs/speech-to-text, /text-to-speech, /responses-api.
    tasks=(CONVERSATIONAL, SPEECH_RECOGNITION, SPEECH_TRANSLATION, TEXT_TO_SPEECH, RESPONSES),
    env=("GROQ_API_KEY",),
    key_prefixes=("gsk_",),
    lists_models=True,
)
