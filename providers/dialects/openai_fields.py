"""The fields of OpenAI's task bodies, read for a crossing and written for an upstream.

Nulls count as absent. A wrong type, and what no other API can do, is refused by name; names that OpenAI does not know
pass on as parameters, since they may be the serving API's own.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from providers import media
from providers.multipart import Part
from providers.spec import Ask, Blob, Fields, Link, Send, Unreadable, read_value

JSON: Final = msgspec.json.Encoder()


def refused(param: str, why: str) -> Unreadable:
    return Unreadable(param, f"`{param}` {why}.", status=400)


def values_of(fields: Fields) -> dict[str, Any]:
    """Every field that is not null, parsed."""
    try:
        return {name: value for name in fields if (value := read_value(fields, name)) is not None}
    except RecursionError:
        raise Unreadable("", "The body is nested too deep.", status=400) from None


def take_text(values: dict[str, Any], name: str, default: str | None = None) -> str:
    """Takes a string out; without a default it must be there, and not be empty."""
    text = values.pop(name, default)
    if not isinstance(text, str) or (default is None and not text):
        raise refused(name, "must be a string" if default is not None else "must be a string, and not empty")
    return text


def take_choice(values: dict[str, Any], name: str, choices: Iterable[str], default: str) -> str:
    choice = values.pop(name, default)
    if not isinstance(choice, str) or choice not in choices:
        raise refused(name, f"must be one of {', '.join(choices)}")
    return choice


def refuse_all_but(values: dict[str, Any], tolerated: Mapping[str, tuple[Any, ...]]) -> None:
    """Takes out the fields that can only be honoured by OpenAI itself; each may say what says nothing ("auto")."""
    for name, harmless in tolerated.items():
        value = values.pop(name, None)
        if value is not None and value not in harmless:
            raise refused(name, "is not supported: this model is not served by OpenAI's API")


def form_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a form, which knows only text: numbers and booleans as such, and an empty text is none."""
    return {name: typed(value) for name, value in values.items() if value != ""}


def typed(value: Any) -> Any:
    """A text as the number or the boolean that it spells; anything else as it is."""
    if not isinstance(value, str) or len(value) > _LONGEST:
        return value
    try:
        found = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return value
    return found if isinstance(found, bool | int | float) and math.isfinite(found) else value


_LONGEST: Final = 32  # characters of a number


def body_of(fields: Mapping[str, Any]) -> Send:
    return Send("", JSON.encode(fields))


def form_parts(fields: Mapping[str, Any]) -> Iterator[Part]:
    """Fields as text parts: `name[]` once for each of its values, what is neither text nor number as JSON."""
    for name, value in fields.items():
        for each in value if name.endswith("[]") and isinstance(value, list) else [value]:
            yield name, each if isinstance(each, str) else json.dumps(each)


def file_of(ask: Ask) -> Blob:
    """The file of a task that goes up as a form, which has no place for a URL."""
    if isinstance(ask.inputs, Blob):
        return ask.inputs
    if isinstance(ask.inputs, Link):
        raise refused("inputs", "must be the file itself: this model is served by an API that takes no URLs")
    raise refused("inputs", "must be a file")


def filename(stem: str, file: Blob, default: str) -> str:
    """A name whose ending tells the format, because that is where many servers look for it."""
    return f"{stem}.{_ENDINGS.get(media.mime_of(file), default)}"


_ENDINGS: Final[Mapping[str, str]] = {
    "audio/flac": "flac",
    "audio/x-flac": "flac",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/mp4": "m4a",
    "audio/x-m4a": "m4a",
    "audio/ogg": "ogg",
    "audio/opus": "opus",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/webm": "webm",
    "video/webm": "webm",
    "video/mp4": "mp4",
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
}
