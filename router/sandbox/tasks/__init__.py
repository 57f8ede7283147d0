"""`POST /pipeline/{task}`: every task of the Hub, answered in its own shape. TASKS says who answers which.

Text generation is TGI's (tgi.py) and chat OpenAI's (chat.py); neither stands here.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from router.sandbox.exchange import Ask, Reply
from router.sandbox.tasks import audio, films, images, labels, questions, seen, similar, tables, texts

TASKS: Final[Mapping[str, Callable[[Ask], Reply]]] = MappingProxyType(
    {
        "text-classification": labels.text,
        "zero-shot-classification": labels.zero_shot,
        "image-classification": labels.picture,
        "zero-shot-image-classification": labels.zero_shot_picture,
        "audio-classification": labels.sound,
        "video-classification": labels.film,
        "token-classification": texts.entities,
        "fill-mask": texts.fill_mask,
        "summarization": texts.summarise,
        "translation": texts.translate,
        "text2text-generation": texts.rewrite,
        "question-answering": questions.in_text,
        "table-question-answering": questions.in_table,
        "visual-question-answering": questions.in_picture,
        "document-question-answering": questions.in_document,
        "feature-extraction": similar.vectors,
        "sentence-similarity": similar.sentences,
        "text-ranking": similar.ranking,
        "object-detection": seen.objects,
        "zero-shot-object-detection": seen.named_objects,
        "image-segmentation": seen.segments,
        "mask-generation": seen.masks,
        "depth-estimation": seen.depth,
        "image-to-text": seen.caption,
        "text-to-image": images.painted,
        "image-to-image": images.repainted,
        "image-text-to-image": images.repainted_or_painted,
        "text-to-video": films.shot,
        "image-to-video": films.animated,
        "image-text-to-video": films.animated_or_shot,
        "automatic-speech-recognition": audio.heard,
        "audio-to-audio": audio.returned,
        "text-to-speech": audio.spoken,
        "text-to-audio": audio.spoken,
        "tabular-classification": tables.classes,
        "tabular-regression": tables.numbers,
    }
)
