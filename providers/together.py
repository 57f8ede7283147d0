"""Together. Its images and videos take fields of their own, so they are no OpenAI-shaped tasks of this file."""

from providers.openai_shaped import openai_shaped
from providers.response_format import as_flat_json_schema
from providers.spec import (
    CONVERSATIONAL,
    FEATURE_EXTRACTION,
    SPEECH_RECOGNITION,
    SPEECH_TRANSLATION,
    TEXT_GENERATION,
    TEXT_RANKING,
    TEXT_TO_SPEECH,
)

PROVIDER = openai_shaped(
    "together",
    "https://api.together.xyz",
    # Rerank and speech recognition: docs.together.ai/docs/together-and-llamarank, /reference/audio-transcriptions,
    # /reference/audio-translations. GET /v1/models answers a bare array, which is not OpenAI's shape.
    tasks=(
        CONVERSATIONAL,
        TEXT_GENERATION,
        FEATURE_EXTRACTION,
        TEXT_TO_SPEECH,
        SPEECH_RECOGNITION,
        SPEECH_TRANSLATION,
        TEXT_RANKING,
    ),
    adapts={CONVERSATIONAL: as_flat_json_schema},
    env=("TOGETHER_API_KEY",),
    key_prefixes=("tgp_v1_",),
)
