"""Hugging Face's own serverless servers, one path a model. `provider: huggingface` is the Hub's router instead.

Nothing is translated for callers of the Hub's dialect: these servers are what it was written for.
"""

from typing import Final

from providers.response_format import as_tgi_grammar
from providers.spec import (
    AUDIO_TO_AUDIO,
    CONVERSATIONAL,
    FEATURE_EXTRACTION,
    IMAGE_SEGMENTATION,
    IMAGE_TO_IMAGE,
    IMAGE_TO_TEXT,
    SENTENCE_SIMILARITY,
    SPEECH_RECOGNITION,
    TEXT_GENERATION,
    TEXT_TO_AUDIO,
    TEXT_TO_IMAGE,
    TEXT_TO_SPEECH,
    Adapter,
    Provider,
    Task,
)

# What huggingface_hub 2.4 and huggingface.js ask these servers for, and the tasks that are in the Hub's schemas alone.
TASKS: Final[tuple[Task, ...]] = (
    AUDIO_TO_AUDIO,
    IMAGE_SEGMENTATION,
    IMAGE_TO_IMAGE,
    IMAGE_TO_TEXT,
    SPEECH_RECOGNITION,
    TEXT_GENERATION,
    TEXT_TO_AUDIO,
    TEXT_TO_IMAGE,
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
    "tabular-classification",
    "tabular-regression",
    "text-classification",
    "token-classification",
    "translation",
    "visual-question-answering",
    "zero-shot-classification",
    "zero-shot-image-classification",
    "zero-shot-object-detection",
)

# A model of sentences serves both of these, so that its path must say which.
OF_SENTENCES: Final[tuple[Task, ...]] = (FEATURE_EXTRACTION, SENTENCE_SIMILARITY)

PROVIDER = Provider(
    name="hf-inference",
    base_url="https://router.huggingface.co/hf-inference",
    adapters={
        (CONVERSATIONAL, "openai"): Adapter("/models/{id}/v1/chat/completions", adapt=as_tgi_grammar),
        (TEXT_GENERATION, "openai"): Adapter("/models/{id}/v1/completions"),
        **{(task, "huggingface"): Adapter("/models/{id}") for task in TASKS},
        **{(task, "huggingface"): Adapter(f"/models/{{id}}/pipeline/{task}") for task in OF_SENTENCES},
    },
    env=("HF_TOKEN",),
)
