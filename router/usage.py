"""What was used, found in answers and events: typed decodes that skip everything else, never a parse of each chunk.

Where the typed decode stumbles, the answer is read again without types. No text is ever looked into here; what nobody
said is for router/estimates.py.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from router.told import Count, Generated, Told, Usage, generated_of, told_of, whole

__all__ = ["Reply", "Usage", "both", "event", "of_event", "of_head", "of_reply", "of_value", "says_error"]


_RENAMED: Final = {"told": "usage"}


class Reply(msgspec.Struct, frozen=True, rename=_RENAMED):
    """What the router reads of a full answer. Decoding it also proves that the whole body is JSON."""

    told: Told | None = None
    error: Any = None
    details: Generated | None = None
    meta: msgspec.Raw | None = None  # Cohere
    x_groq: msgspec.Raw | None = None
    prompt_eval_count: Count | None = None  # Ollama
    eval_count: Count | None = None

    @property
    def usage(self) -> Usage | None:
        if self.told is not None:
            return self.told.usage()
        if self.details is not None:
            return self.details.usage()
        if self.eval_count is not None or self.prompt_eval_count is not None:
            return Usage(self.prompt_eval_count, self.eval_count)
        return None if self.meta is None and self.x_groq is None else _within(self.meta, self.x_groq)


class Holder(msgspec.Struct, frozen=True, rename=_RENAMED):
    """What a usage may stand in: Groq's last chunk, Moonshot's last choice, Anthropic's first message."""

    told: Told | None = None


class Chunk(Reply, frozen=True, rename=_RENAMED):
    choices: list[msgspec.Raw] | None = None
    response: Reply | None = None  # /v1/responses: inside response.completed
    message: Holder | None = None
    delta: Holder | None = None


class Event(msgspec.Struct, frozen=True):
    """The top level of a streamed event, as far as it concerns a relay: null nearly always. Any of the last three:
    it may say what was used.
    """

    error: Any = None
    usage: Any = None
    details: Any = None
    response: Any = None


_NOTHING: Final = Event()
_event = msgspec.json.Decoder(Event).decode
_reply = msgspec.json.Decoder(Reply).decode
_chunk = msgspec.json.Decoder(Chunk).decode
_choice = msgspec.json.Decoder(Holder).decode
_raw = msgspec.json.Decoder(msgspec.Raw).decode
_any = msgspec.json.Decoder().decode
_top = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_tops = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_TAIL: Final = 160
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def of_reply(body: bytes) -> Reply | None:
    """A full JSON answer's usage and error; None where the body is JSON of another shape. ValueError if not JSON."""
    try:
        try:
            return _reply(body)
        except msgspec.ValidationError:
            _raw(body)
    except _UNREADABLE as error:
        raise ValueError("not JSON") from error
    return _untyped(body)


def says_error(body: bytes) -> bool:
    """Whether a 2xx answer is an error all the same. ValueError if it is not JSON."""
    reply = of_reply(body)
    return reply is not None and reply.error is not None


def of_event(payload: bytes) -> tuple[Usage | None, bool]:
    """The usage that an event carries, and whether it carries nothing else (a usage chunk: no choices)."""
    try:
        chunk = _chunk(payload)
    except msgspec.ValidationError:
        reply = _untyped(payload)
        return (None if reply is None else reply.usage), b'"choices":[]' in payload.replace(b" ", b"")
    except _UNREADABLE:
        return None, False
    if chunk.told is not None:
        return chunk.told.usage(), chunk.choices == []
    found = chunk.response.usage if chunk.response is not None else chunk.usage
    for holder in (chunk.message, chunk.delta):
        if found is None and holder is not None and holder.told is not None:
            found = holder.told.usage()
    if found is None and chunk.choices:
        found = _of_choice(chunk.choices[0])
    return found, False


def _of_choice(choice: msgspec.Raw) -> Usage | None:
    try:
        told = _choice(choice).told
    except _UNREADABLE:
        return None
    return None if told is None else told.usage()


def event(payload: bytes) -> Event:
    """What of an event the relay must know of, without building the rest. ValueError: it is not JSON."""
    try:
        found = _event(payload)
    except msgspec.ValidationError:  # JSON, but no object
        return _NOTHING
    except _UNREADABLE as error:  # the last: nested beyond all reading
        raise ValueError("not JSON") from error
    # A key by that name, for quotes inside texts are escaped; wherever it stands, it stands behind the text.
    if found.usage is None and payload.find(b'_tokens"', -_TAIL) >= 0:
        return Event(found.error, True, found.details, found.response)
    return found


def of_value(said: Any) -> Usage | None:
    """A `usage` that is parsed already."""
    told = told_of(said)
    return None if told is None else told.usage()


def of_head(fields: Mapping[bytes, bytes]) -> Usage | None:
    """What TGI and TEI say in the head of an answer. Characters that were read make an estimate."""
    read = _number(fields.get(b"x-prompt-tokens"))
    if read is None:
        read = _number(fields.get(b"x-compute-tokens"))
    wrote = _number(fields.get(b"x-generated-tokens"))
    if read is not None or wrote is not None:
        return Usage(read, wrote)
    characters = _number(fields.get(b"x-compute-characters"))
    return None if characters is None else Usage((characters + 3) // 4, estimated=True)


def _number(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and len(text) < 10 else None


def both(one: Usage | None, other: Usage | None) -> Usage | None:
    """What `one` says, and what it leaves out as `other` has it."""
    if one is None or other is None:
        return one or other
    left = {name: getattr(other, name) for name in _NAMES if getattr(one, name) is None}
    guessed = other.estimated and any(each is not None for each in left.values())
    return msgspec.structs.replace(one, **left, estimated=one.estimated or guessed)


_NAMES: Final = tuple(name for name in Usage.__struct_fields__ if name != "estimated")

# The slow way, where something stands that should not

_PLACES: Final = (
    "usage", "details", "prompt_eval_count", "eval_count", "x_groq", "meta", "message", "delta", "response", "choices",
)  # fmt: skip


def _untyped(body: bytes) -> Reply | None:
    """What can be had of JSON that is not of the expected types. TGI's root answers with a list."""
    try:
        fields = _tops(body)[0] if body.lstrip()[:1] == b"[" else _top(body)
        error = _any(fields["error"]) if "error" in fields else None
        said = {name: _any(fields[name]) for name in _PLACES if name in fields}
    except (*_UNREADABLE, IndexError):
        return None
    choices = said.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    holders = (first, *(said.get(name) for name in ("response", "x_groq", "message", "delta")))
    inner = [each.get("usage") for each in holders if isinstance(each, dict)]
    places = (said.get("usage"), *inner, said.get("meta"))
    told = next((each for each in map(told_of, places) if each is not None), None)
    details = generated_of(said.get("details"))
    if told is None and details is None and error is None and body.lstrip()[:1] == b"[":
        return None
    read, wrote = whole(said.get("prompt_eval_count")), whole(said.get("eval_count"))
    return Reply(told, error, details, prompt_eval_count=read, eval_count=wrote)


def _within(meta: msgspec.Raw | None, x_groq: msgspec.Raw | None) -> Usage | None:
    said = _any(x_groq) if x_groq is not None else None
    found = of_value(said.get("usage")) if isinstance(said, dict) else None
    return found if found is not None or meta is None else of_value(_any(meta))
