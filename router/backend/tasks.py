"""Which tasks there are, and which module loads a model for each: one that exports `load(Order) -> Loaded`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

DIFFUSION: Final = "router.backend.diffusion"
PIPELINES: Final = "router.backend.pipelines"
SPEECH: Final = "router.backend.speech"
VECTORS: Final = "router.backend.vectors"
WRITING: Final = "router.backend.writing"
QUESTIONS: Final = "router.backend.questions"

TASKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "text-to-image": DIFFUSION,
        "image-to-image": DIFFUSION,
        "text-classification": PIPELINES,
        "token-classification": PIPELINES,
        "zero-shot-classification": PIPELINES,
        "fill-mask": PIPELINES,
        "table-question-answering": PIPELINES,
        "image-classification": PIPELINES,
        "zero-shot-image-classification": PIPELINES,
        "object-detection": PIPELINES,
        "zero-shot-object-detection": PIPELINES,
        "image-segmentation": PIPELINES,
        "depth-estimation": PIPELINES,
        "document-question-answering": PIPELINES,
        "automatic-speech-recognition": SPEECH,
        "audio-classification": SPEECH,
        "text-to-speech": SPEECH,
        "text-to-audio": SPEECH,
        "feature-extraction": VECTORS,
        "sentence-similarity": VECTORS,
        "text-ranking": VECTORS,
        "text-generation": WRITING,
        "text2text-generation": WRITING,
        "summarization": WRITING,
        "translation": WRITING,
        "image-to-text": WRITING,
        "question-answering": QUESTIONS,
        "visual-question-answering": QUESTIONS,
    }
)
