"""Tokens used, read from what upstreams say: typed decodes that skip everything else, never a parse of each chunk."""

from typing import Any, Final

import msgspec


class Details(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class Usage(msgspec.Struct, frozen=True):
    """OpenAI's `usage`, of chat, completions, embeddings and (with its own names) responses, images and speech."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: Details | None = None

    def tokens(self) -> tuple[int, int, int]:
        """Read, written, and of those read the ones that were cached."""
        read = self.prompt_tokens or self.input_tokens or 0
        written = self.completion_tokens or self.output_tokens or 0
        cached = (self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0
        return (read, written, cached) if read >= 0 <= written and cached >= 0 else (0, 0, 0)


class Generated(msgspec.Struct, frozen=True):
    generated_tokens: int = 0
    input_length: int | None = None


class Reply(msgspec.Struct, frozen=True):
    """What the router reads of a full answer. Decoding it also proves that the whole body is JSON."""

    usage: Usage | None = None
    error: Any = None
    details: Generated | None = None


class ChunkChoices(msgspec.Struct, frozen=True):
    choices: list[msgspec.Raw] | None = None
    usage: Usage | None = None
    response: Reply | None = None  # /v1/responses: inside response.completed
    details: Generated | None = None  # TGI's last event


class Event(msgspec.Struct, frozen=True):
    """The top level of a streamed event, as far as it concerns a relay: null nearly always."""

    error: Any = None
    usage: Any = None
    details: Any = None
    response: Any = None


_NOTHING: Final = Event()
_event = msgspec.json.Decoder(Event).decode
_reply = msgspec.json.Decoder(Reply).decode
_chunk = msgspec.json.Decoder(ChunkChoices).decode
_raw = msgspec.json.Decoder(msgspec.Raw).decode


def of_reply(body: bytes) -> Reply | None:
    """A full JSON answer's usage and error; None where the body is JSON of another shape. ValueError if not JSON."""
    try:
        try:
            return _reply(body)
        except msgspec.ValidationError:
            _raw(body)
            return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("not JSON") from error


def says_error(body: bytes) -> bool:
    """Whether a 2xx answer is an error all the same. ValueError if it is not JSON."""
    reply = of_reply(body)
    return reply is not None and reply.error is not None


def of_event(payload: bytes) -> tuple[Usage | None, bool]:
    """The usage that an event carries, and whether it carries nothing else (a usage chunk: no choices)."""
    try:
        chunk = _chunk(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, False
    if chunk.usage is not None:
        return chunk.usage, chunk.choices == []
    if chunk.response is not None:
        return chunk.response.usage, False
    if chunk.details is not None:
        return generated(chunk.details), False
    return None, False


def generated(details: Generated) -> Usage:
    """TGI's details as usage."""
    return Usage(prompt_tokens=details.input_length or 0, completion_tokens=details.generated_tokens)


def event(payload: bytes) -> Event:
    """What of an event the relay must know of, without building the rest. ValueError: it is not JSON."""
    try:
        return _event(payload)
    except msgspec.ValidationError:  # JSON, but no object
        return _NOTHING
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # the last: nested beyond all reading
        raise ValueError("not JSON") from error
