"""The words that providers and dialects are written in: data and pure functions, no sockets.

A *provider* says how a kind of API is spoken; a *dialect* is a wire shape; a *task* is what is wanted, named by the
Hub's own tag. Nothing here knows of configuration, keys or clocks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

Task = str

# The Hub's tags (huggingface.co/tasks), and below them the OpenAI operations that the Hub has no tag for.
CONVERSATIONAL: Final = "conversational"
TEXT_GENERATION: Final = "text-generation"
FEATURE_EXTRACTION: Final = "feature-extraction"
TEXT_TO_IMAGE: Final = "text-to-image"
IMAGE_TO_IMAGE: Final = "image-to-image"
TEXT_TO_SPEECH: Final = "text-to-speech"
SPEECH_RECOGNITION: Final = "automatic-speech-recognition"
TEXT_RANKING: Final = "text-ranking"
RESPONSES: Final = "responses"
SPEECH_TRANSLATION: Final = "speech-translation"
MODERATION: Final = "moderation"
TOKENIZE: Final = "tokenize"
ANY_TASK: Final = "*"  # of a table row or a route: every task that the provider has an adapter for

Fields = dict[str, msgspec.Raw]
"""The top level of a JSON body; the values stay the bytes that came."""

Adapt = Callable[[Fields], Fields]
"""Top-level fields → top-level fields of the same dialect; returns a new dict, or the same one when nothing changes."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong, as data; the dialect of the path called words it.

    `status` is the HTTP status for the caller, `code` a stable snake_case name, `param` the caller's field at fault,
    `retry_after` seconds, `estimated_time` seconds until a loading model is ready, `attempts` what was tried (one dict
    an attempt or dropped candidate, already free of secrets and internal addresses).
    """

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after: float | None = None
    estimated_time: float | None = None
    attempts: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Adapter:
    """How a provider takes one task in one dialect.

    `path` is appended to the upstream's base URL; `{id}` in it is the provider's id of the model, percent-encoded.
    `stream_path` replaces it for streamed answers. `adapt` changes what this provider needs changed.
    """

    path: str
    stream_path: str | None = None
    adapt: Adapt | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """A kind of API. The key goes only to `base_url`'s origin (or the upstream's own base_url) and to `origins`."""

    name: str
    base_url: str | None
    adapters: Mapping[tuple[Task, str], Adapter]  # (task, dialect name) → adapter
    auth: tuple[str, str] = ("authorization", "Bearer ")  # header name, what stands before the key
    headers: Mapping[str, str] = field(default_factory=dict)  # sent with every request; `{id}` as in a path
    env: tuple[str, ...] = ()  # where users keep the key: GROQ_API_KEY
    key_prefixes: tuple[str, ...] = ()  # how this provider's own keys begin: gsk_
    models_path: str | None = None  # where it lists its models in OpenAI's shape
    usage_option: bool = True  # streams carry usage when stream_options.include_usage asks for it
    needs_key: bool = True
    origins: tuple[str, ...] = ()
    prefills: bool = False  # a chat that ends in an assistant's message is written on in it, whatever the model

    def tasks(self) -> frozenset[Task]:
        return frozenset(task for task, _ in self.adapters)


def raw(value: Any) -> msgspec.Raw:
    """A JSON value as the bytes that go on the wire."""
    return msgspec.Raw(msgspec.json.encode(value))


def value_of(fields: Fields, name: str) -> Any:
    """The parsed value of a field, or None where it is absent."""
    found = fields.get(name)
    return None if found is None else msgspec.json.decode(found)


def without(fields: Fields, *names: str) -> Fields:
    return {name: value for name, value in fields.items() if name not in names}


class StreamWriter(Protocol):
    """Turns canonical stream events into one caller's stream. Keeps only what the last event needs."""

    def event(self, chunk: dict[str, Any]) -> bytes:
        """The SSE blocks (or lines) for one canonical chunk; empty where it has nothing for the caller."""

    def end(self) -> bytes:
        """What closes a stream that ended well."""


class Codec(Protocol):
    """One task in one dialect, seen from the front: wire → canonical request, canonical reply → wire.

    `want` is whatever of the request its answer depends on (the prompt for return_full_text, details, stop texts).
    """

    def read(self, fields: Fields) -> tuple[dict[str, Any], Any]:
        """Top-level fields → (canonical request without `model`, want). Raises Unreadable naming the field."""

    def write(self, reply: dict[str, Any], want: Any) -> bytes:
        """Canonical reply → the JSON answer."""

    def stream(self, want: Any) -> StreamWriter: ...


class Unreadable(Exception):
    """A request body that a codec cannot read: the field, and what is wrong with it in the caller's words."""

    def __init__(self, param: str, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.param = param
        self.message = message
        self.status = status


def read_value(fields: Fields, name: str) -> Any:
    """`value_of` for bytes that a caller sent: a Raw may hold text that is no UTF-8 and numbers that fit nowhere."""
    try:
        return value_of(fields, name)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise Unreadable(name, f"`{name}` is not valid JSON: {fault}", status=400) from None


@dataclass(frozen=True, slots=True)
class Dialect:
    """A wire shape: how it words faults, and its codecs where another dialect may have to serve it."""

    name: str
    fault: Callable[[Fault], bytes]  # the JSON error body
    fault_event: Callable[[Fault], bytes]  # the last SSE block of a stream that broke
    codecs: Mapping[Task, Codec] = field(default_factory=dict)
