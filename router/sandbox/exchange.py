"""The records between the sandbox's wire and its answers: what was asked, what is answered, what is played.

A `Reply` is an answer before anything went wrong with it; `framed` turns it into steps, and a fault turns it into
other steps. Steps are data, so that every fault can be read, and tested, without a socket.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b
from http import HTTPStatus
from typing import Any, Final, Literal

import msgspec

Wording = Literal["openai", "tgi", "huggingface"]
"""Whose error bodies a path speaks."""

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
DONE: Final = b"data: [DONE]\n\n"


class End(Enum):
    """How a connection is left, other than ready for the next request."""

    CLOSE = "close"  # FIN after what was written
    RESET = "reset"  # RST at once
    HOLD = "hold"  # open and silent until the caller leaves


Step = bytes | float | End
"""Bytes are one write, a float is a pause in seconds."""


@dataclass(frozen=True, slots=True)
class File:
    """An uploaded part, of which only the traces are kept."""

    field: str
    filename: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Form:
    fields: Mapping[str, str]
    files: tuple[File, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came, names of headers lower-cased. `form` stands in for a multipart body."""

    method: str
    path: str  # without the query
    headers: Mapping[str, str]
    body: bytes = b""
    form: Form | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that was read. `seal` is 48 hex digits of its content: the root of ids, times and noise.

    `content` is the body where it is a file's bytes and nothing else; `accept` the media types wanted.
    """

    path: str
    fields: Mapping[str, Any]
    files: tuple[File, ...]
    model: str
    seal: str
    content: bytes = b""
    accept: str = ""

    @property
    def created(self) -> int:
        """A moment in 2023 or 2024 that the same request always gets."""
        return 1_700_000_000 + int(self.seal[:6], 16)


@dataclass(frozen=True, slots=True)
class Events:
    """A body in pieces, each sent as a chunk of its own; made while it is sent, so that a long one stalls nobody."""

    count: int
    make: Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Reply:
    body: bytes | Events
    status: int = 200
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Call:
    """Which call of this fault it is (the first is 1), for which model, in whose words, with which delay if any."""

    turn: int
    model: str
    wording: Wording
    delay: float | None = None

    @property
    def pace(self) -> float:
        return self.delay or 0.0


class Wrong(Exception):
    """A request that the real server would refuse. `plain`: said as text, as axum does, not as JSON."""

    def __init__(
        self, message: str, param: str | None = None, code: str | None = None, *, status: int = 400, plain: bool = False
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status
        self.plain = plain


def json_reply(value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    return Reply(msgspec.json.encode(value), status, headers=headers)


def sse(value: Any) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def seal(*parts: str | bytes) -> str:
    """48 hex digits of the parts, told apart by their lengths."""
    digest = blake2b(digest_size=24)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(encoded).to_bytes(8))
        digest.update(encoded)
    return digest.hexdigest()


def head(status: int, *headers: tuple[str, str]) -> bytes:
    """No `date`: the same request gets the same bytes."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nserver: sandbox\r\n{lines}\r\n".encode("latin-1")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK: Final = b"0\r\n\r\n"


def head_of(reply: Reply, length: int | None = None) -> bytes:
    """The head of a reply; `length` is what it claims, where that is not the truth."""
    if isinstance(reply.body, Events):
        framing = ("transfer-encoding", "chunked")
    else:
        framing = ("content-length", str(len(reply.body) if length is None else length))
    kind = (("content-type", reply.content_type),) if reply.content_type else ()
    return head(reply.status, *kind, *reply.headers, framing)


def framed(reply: Reply, pace: float = 0.0) -> Iterator[Step]:
    """The steps of a reply to which nothing happens. `pace` is the pause before each event."""
    if not isinstance(reply.body, Events):
        if pace:
            yield pace
        yield head_of(reply) + reply.body
        return
    yield head_of(reply)
    for event in reply.body.make():
        if pace:
            yield pace
        yield chunk(event)
    yield LAST_CHUNK


def worded(wording: Wording, wrong: Wrong) -> Reply:
    """A refusal in the words of the path's dialect."""
    if wrong.plain:
        return Reply(wrong.message.encode(), wrong.status, "text/plain; charset=utf-8")
    if wording == "tgi":
        return json_reply({"error": wrong.message, "error_type": wrong.code or "validation"}, wrong.status)
    if wording == "huggingface":
        return json_reply({"error": wrong.message}, wrong.status)
    return openai_error(wrong.status, wrong.message, "invalid_request_error", wrong.code, wrong.param)


def openai_error(
    status: int,
    message: str,
    kind: str,
    code: str | None = None,
    param: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Reply:
    return json_reply(
        {"error": {"message": message, "type": kind, "param": param, "code": code}}, status, headers=headers
    )
