"""Models of transformers: `inference-router backend` of any of these tasks, and Inference Endpoints of such models."""

from providers import toolkit
from providers.spec import (
    FEATURE_EXTRACTION,
    IMAGE_SEGMENTATION,
    IMAGE_TO_TEXT,
    SENTENCE_SIMILARITY,
    SPEECH_RECOGNITION,
    TEXT_RANKING,
    TEXT_TO_AUDIO,
    TEXT_TO_SPEECH,
    Provider,
)

TASKS = (
    FEATURE_EXTRACTION,
    IMAGE_SEGMENTATION,
    IMAGE_TO_TEXT,
    SENTENCE_SIMILARITY,
    SPEECH_RECOGNITION,
    TEXT_RANKING,
    TEXT_TO_AUDIO,
    TEXT_TO_SPEECH,
    "audio-classification",
    "depth-estimation",
    "document-question-answering",
    "fill-mask",
    "image-classification",
    "object-detection",
    "question-answering",
    "summarization",
    "table-question-answering",
    "text-classification",
    "text2text-generation",
    "token-classification",
    "translation",
    "visual-question-answering",
    "zero-shot-classification",
    "zero-shot-image-classification",
    "zero-shot-object-detection",
)

PROVIDER = Provider(
    name="transformers",
    base_url=None,
    adapters=toolkit.GENERATION | toolkit.adapters(TASKS),
    needs_key=False,
)
