"""OpenAI's shape of every task but text: which codec takes which."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from providers.dialects.openai_embeddings import Embeddings
from providers.dialects.openai_images import Edits, Images
from providers.dialects.openai_rerank import Rerank
from providers.dialects.openai_speech import Speech
from providers.dialects.openai_transcription import Transcription
from providers.spec import (
    FEATURE_EXTRACTION,
    IMAGE_TO_IMAGE,
    SPEECH_RECOGNITION,
    TEXT_RANKING,
    TEXT_TO_IMAGE,
    TEXT_TO_SPEECH,
    Task,
    TaskCodec,
)

TASKS: Final[Mapping[Task, TaskCodec]] = MappingProxyType(
    {
        FEATURE_EXTRACTION: Embeddings(),
        TEXT_TO_IMAGE: Images(),
        IMAGE_TO_IMAGE: Edits(),
        TEXT_TO_SPEECH: Speech(),
        SPEECH_RECOGNITION: Transcription(),
        TEXT_RANKING: Rerank(),
    }
)
