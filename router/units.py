"""What is paid by the piece: images, seconds of sound or film, characters that were spoken. Asked for, and delivered.

Figures come from the request, from JSON answers, and from the headers of files that are held in memory. A file that
only passes through is not looked into: of a sound that is streamed up, its answer must say how long it is.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from providers import spec
from providers.spec import Ask, Blob, Task
from router.call import Call
from router.durations import seconds_of
from router.routing import Candidate
from router.usage import Usage

PAINTED: Final = frozenset({spec.TEXT_TO_IMAGE, spec.IMAGE_TO_IMAGE, "image-text-to-image"})
FILMED: Final = frozenset({spec.TEXT_TO_VIDEO, spec.IMAGE_TO_VIDEO, "image-text-to-video"})
SPOKEN: Final = frozenset({spec.TEXT_TO_SPEECH, spec.TEXT_TO_AUDIO})
HEARD: Final = frozenset({spec.SPEECH_RECOGNITION, spec.SPEECH_TRANSLATION})
TASKS: Final = PAINTED | FILMED | SPOKEN | HEARD

_IMAGES: Final = ("n", "num_images", "num_images_per_prompt", "num_outputs")
_LENGTHS: Final = ("duration", "seconds", "num_seconds")
_FRAMES: Final = ("num_frames", "frames")
_RATES: Final = ("fps", "frame_rate", "frames_per_second")
_TEXTS: Final = ("input", "inputs", "text", "prompt")
_MOST: Final = 10**6

_any = msgspec.json.Decoder().decode


class Pieces(msgspec.Struct, frozen=True):
    """How many images are in an OpenAI-shaped answer, without building them; and how long what was heard is."""

    data: list[msgspec.Raw] | None = None
    duration: Any = None


_pieces = msgspec.json.Decoder(Pieces).decode


def asked(call: Call) -> Usage:
    """What a request of such a task asks for, before it is sent: the most that it will be."""
    task = call.endpoint.task
    if task not in TASKS or call.raw or call.upload is not None:
        return _of(task, {}, call.body if call.raw else None)
    said = _values(call)
    return _of(task, said, None)


def of_ask(task: Task, ask: Ask) -> Usage:
    """The same of a task in the Hub's form, whose files are in memory."""
    file = ask.inputs.data if isinstance(ask.inputs, Blob) else None
    text = {"inputs": ask.inputs} if isinstance(ask.inputs, str) else {}
    return _of(task, {**ask.parameters, **text}, file)


def units_of(call: Call, candidate: Candidate, body: bytes = b"", ask: Ask | None = None) -> Usage | None:
    """What an answer delivered. `body`: of a JSON answer; empty for a file. None: the task is not paid by the piece."""
    task = candidate.task
    if task not in TASKS:
        return None
    wanted = asked(call) if ask is None else of_ask(call.endpoint.task, ask)
    if task in PAINTED:
        return Usage(images=(ask is None and body and _length_of_data(body)) or 1)
    if task in HEARD and body and ask is None and (seconds := _duration(body)) is not None:
        return Usage(seconds=seconds)
    return wanted


def _of(task: Task, said: Mapping[str, Any], file: bytes | None) -> Usage:
    if task in PAINTED:
        return Usage(images=_count(said, _IMAGES) or 1)
    if task in FILMED:
        return Usage(seconds=_film(said))
    if task in SPOKEN:
        return Usage(characters=next((len(said[each]) for each in _TEXTS if isinstance(said.get(each), str)), None))
    if task in HEARD and file is not None:
        return Usage(seconds=seconds_of(file))
    return Usage()


def _values(call: Call) -> dict[str, Any]:
    """The fields that matter, those of `parameters` among them."""
    found: dict[str, Any] = {}
    for name in (*_IMAGES, *_LENGTHS, *_FRAMES, *_RATES, *_TEXTS, "parameters"):
        if name in call.fields:
            try:
                found[name] = _any(call.fields[name])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
    inner = found.pop("parameters", None)
    return {**found, **inner} if isinstance(inner, dict) else found


def _number(said: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    """OpenAI's films write `seconds` as text."""
    for name in names:
        value = said.get(name)
        if isinstance(value, str) and value.rstrip("s").isdigit() and len(value) < 8:
            value = int(value.rstrip("s"))
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _MOST:
            return float(value)
    return None


def _count(said: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    found = _number(said, names)
    return None if found is None else int(found)


def _film(said: Mapping[str, Any]) -> float | None:
    seconds, frames, rate = _number(said, _LENGTHS), _number(said, _FRAMES), _number(said, _RATES)
    return frames / rate if seconds is None and frames and rate else seconds


def _length_of_data(body: bytes) -> int | None:
    try:
        return len(_pieces(body).data or ())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _duration(body: bytes) -> float | None:
    """Of OpenAI's verbose answer, where it may be text too; the plain one has it in its usage."""
    if b'"duration"' not in body:
        return None
    try:
        said = _pieces(body).duration
        seconds = float(said) if isinstance(said, int | float | str) and not isinstance(said, bool) else 0.0
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError):
        return None
    return seconds if 0 < seconds <= _MOST else None
