"""The contract of the servers inside Inference Endpoints (huggingface-inference-toolkit), which `inference-router
backend` speaks too: one model, one task, one path, the Hub's shape more or less.

What is less: the toolkit knows content types only as they stand in its table, charset and all; it takes one type in
`accept`, and none for sound; pictures are base64 unless asked for by type; vectors come for each token, or under a
name, and what was asked of them is not done. It never streams, and calls every error 400. (webservice_starlette.py,
handler.py, serialization/ and sentence_transformers_utils.py in its repository.)
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from providers import media
from providers.dialects.hf_tasks import CODECS, MEDIA
from providers.spec import (
    FEATURE_EXTRACTION,
    IMAGE_TO_IMAGE,
    OWN,
    TEXT_GENERATION,
    TEXT_TO_AUDIO,
    TEXT_TO_IMAGE,
    TEXT_TO_SPEECH,
    Adapter,
    Ask,
    Blob,
    Fields,
    Play,
    Result,
    Send,
    Task,
    Unreadable,
    read_value,
)

_PICTURES: Final = ("image/png", "image/jpeg", "image/webp")  # that it writes; the first for callers who do not mind
_FILES: Final = frozenset(
    {
        *("image/png", "image/jpeg", "image/tiff", "image/bmp", "image/gif", "image/webp"),
        *("audio/flac", "audio/x-flac", "audio/mpeg", "audio/wav", "audio/x-wav", "audio/ogg", "audio/webm"),
        *("audio/amr", "audio/m4a", "audio/x-m4a"),
    }
)
_HEARD: Final = ("automatic-speech-recognition", "audio-classification")
_VOICES: Final = frozenset(  # platform.openai.com/docs/guides/text-to-speech
    {"alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse"}
)
_WHOLE: Final = {"accept": "*/*"}  # of sound, it would refuse any type that is one


def adapters(tasks: Iterable[Task]) -> dict[tuple[Task, str], Adapter]:
    return {(task, OWN): Adapter(play=PLAYS.get(task, answered)) for task in tasks}


def answered(ask: Ask) -> Play:
    """What the answer is, decoded: JSON, or sound."""
    reply = yield _sent(ask, _WHOLE if ask.task in MEDIA else {"accept": "application/json"})
    return CODECS[ask.task].decode(reply, ask)


def classified(ask: Ask) -> Play:
    """Every label, as the Hub's API has it; unasked, a pipeline gives the likeliest alone."""
    return (yield from answered(replace(ask, parameters={"top_k": None} | ask.parameters)))


def painted(ask: Ask) -> Play:
    """A picture, handed on as it comes."""
    accept = ask.accept if ask.accept in _PICTURES else _PICTURES[0]
    yield from ()
    return Result(_sent(ask, {"accept": accept}))


def embedded(ask: Ask) -> Play:
    """One vector a text: the mean of its tokens' where they come by themselves; and cut and normalised as was asked."""
    found = yield from answered(ask)
    texts = 1 if isinstance(ask.inputs, str) else len(ask.inputs)
    vectors = [_pooled(each) for each in found.value]
    if len(vectors) != texts:
        raise ValueError("not one vector a text")
    dimensions, normal = ask.parameters.get("dimensions"), ask.parameters.get("normalize")
    if isinstance(dimensions, int):
        vectors = [each[:dimensions] for each in vectors]
    return Result([_normal(each) for each in vectors] if normal else vectors)


def spoken(ask: Ask) -> Play:
    """OpenAI's clients cannot leave the voice out: one of OpenAI's own is no wish of the caller's for this model."""
    parameters = dict(ask.parameters)
    if parameters.get("voice") in _VOICES:
        del parameters["voice"]
    return (yield from answered(replace(ask, parameters=parameters)))


PLAYS: Final = {
    FEATURE_EXTRACTION: embedded,
    IMAGE_TO_IMAGE: painted,
    TEXT_TO_IMAGE: painted,
    TEXT_TO_SPEECH: spoken,
    TEXT_TO_AUDIO: spoken,
    "text-classification": classified,
}


def whole(fields: Fields) -> Fields:
    """Text generation, the caller's own bytes; but nobody would answer a stream."""
    if read_value(fields, "stream"):
        raise Unreadable("stream", "`stream` is not supported by this model's server")
    return fields


GENERATION: Final = {(TEXT_GENERATION, "huggingface"): Adapter("/", adapt=whole)}


def _sent(ask: Ask, headers: dict[str, str]) -> Send:
    made = CODECS[ask.task].encode(ask)
    return Send("/", made.body, mime=_exact(made.mime, ask), headers=headers)


def _exact(mime: str, ask: Ask) -> str:
    if not isinstance(ask.inputs, Blob) or ask.parameters:
        return "application/json"
    if mime not in _FILES:
        mime = media.sniff(ask.inputs.data)
    if mime in _FILES:
        return mime
    return "audio/x-audio" if ask.task in _HEARD else "image/x-image"


def _pooled(vector: list[Any]) -> list[float]:
    while len(vector) == 1 and isinstance(vector[0], list):
        vector = vector[0]
    if not vector:
        raise ValueError("an empty vector")
    if not isinstance(vector[0], list):
        return vector
    return [math.fsum(column) / len(vector) for column in zip(*vector, strict=True)]


def _normal(vector: list[float]) -> list[float]:
    length = math.hypot(*vector)
    return [each / length for each in vector] if length else vector
