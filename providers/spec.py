"""The words that providers and dialects are written in: data and pure functions, no sockets.

A *provider* says how a kind of API is spoken; a *dialect* is a wire shape; a *task* is what is wanted, named by the
Hub's own tag. Nothing here knows of configuration, keys or clocks.
"""

from collections.abc import Callable, Generator, Mapping
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
IMAGE_TO_VIDEO: Final = "image-to-video"
IMAGE_SEGMENTATION: Final = "image-segmentation"
IMAGE_TO_TEXT: Final = "image-to-text"
TEXT_TO_VIDEO: Final = "text-to-video"
TEXT_TO_SPEECH: Final = "text-to-speech"
TEXT_TO_AUDIO: Final = "text-to-audio"
AUDIO_TO_AUDIO: Final = "audio-to-audio"
SENTENCE_SIMILARITY: Final = "sentence-similarity"
SPEECH_RECOGNITION: Final = "automatic-speech-recognition"
TEXT_RANKING: Final = "text-ranking"
RESPONSES: Final = "responses"
SPEECH_TRANSLATION: Final = "speech-translation"
MODERATION: Final = "moderation"
TOKENIZE: Final = "tokenize"
OWN: Final = ""  # the dialect of an adapter that is spoken in its provider's own words
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


# What every task but chat and text generation is in the middle: the Hub's form, with files as Blobs.


@dataclass(frozen=True, slots=True)
class Blob:
    """A file's bytes. `mime` is what its sender said, or what its first bytes say; empty where neither is known."""

    data: bytes
    mime: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A file that the caller named by http(s) URL. It is handed on to third parties and never fetched here."""

    url: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A task in canonical form: the Hub's `inputs` and `parameters` (huggingface.js packages/tasks), plain JSON values
    but that a file is a Blob or a Link, never base64 or a data: URL.

    `parameters` has no nulls. `provider_id` is the model's id at the provider, `model` the Hub's; `adapter` ("lora")
    and `adapter_weights` (a file in the Hub's repository) come from the table. `accept`: the media type wanted.
    """

    task: Task
    inputs: Any
    parameters: dict[str, Any] = field(default_factory=dict)
    provider_id: str = ""
    model: str = ""
    adapter: str | None = None
    adapter_weights: str | None = None
    accept: str = ""


@dataclass(frozen=True, slots=True)
class Send:
    """A request to the provider, with its key. `path` is below the base URL (or below `origin`, one of the provider's
    `origins`), so that a key can go nowhere else; `{id}` in it is the provider's id of the model. `safe`: it may be
    asked again, as a poll may.
    """

    path: str
    body: bytes | None = None
    method: str = "POST"
    mime: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""
    safe: bool = False


@dataclass(frozen=True, slots=True)
class Fetch:
    """A GET of a URL that a provider answered with, without any key, from public https addresses only. `data:` URLs
    are read in place. `mime` stands in where the server does not say.
    """

    url: str
    mime: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause in seconds. `undo` cancels the job upstream, where the caller leaves or the time is up from here on."""

    seconds: float
    undo: Send | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The whole 2xx answer to a Send. What is not 2xx never reaches a play: it is a fault before."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises ValueError where it is none."""
        return msgspec.json.decode(self.body)


@dataclass(frozen=True, slots=True)
class Result:
    """A task's answer in canonical form: the JSON value of the Hub's output schema, or for media a Blob, or the last
    step, whose answer's bytes are the media and are passed on as they come. `usage`: tokens, in OpenAI's names.

    Values by task: automatic-speech-recognition `{"text", "chunks"?: [{"text", "timestamp": [s, s]}]}`,
    feature-extraction a list of vectors (one an input), text-ranking `[{"index", "score"}]` best first,
    sentence-similarity a list of numbers, audio-to-audio `[{"label", "content-type", "blob": base64}]`,
    image-segmentation `[{"label", "mask": base64}]`, every other task as huggingface.js packages/tasks says.
    """

    value: Any
    usage: Any = None


Step = Send | Fetch | Wait
Play = Generator[Step, Reply, Result]
"""A provider's side of one task: yields steps, is sent the Reply to each Send and Fetch, returns the Result. It does no
I/O and never sleeps. The answer to a Wait is a Reply without meaning."""


class Failed(Exception):
    """A play's end without a Result: the provider said no in an answer that was 2xx.

    `status` is the HTTP status that it amounts to (a moderation refusal 400 with `content_policy_violation`, a failed
    job 502), `message` the provider's own words.
    """

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


@dataclass(frozen=True, slots=True)
class Adapter:
    """How a provider takes one task in one dialect.

    `path` is appended to the upstream's base URL; `{id}` in it is the provider's id of the model, percent-encoded.
    `stream_path` replaces it for streamed answers. `adapt` changes what this provider needs changed. `play` is for
    what is no dialect's (OWN): several round trips, or fields of its own.
    """

    path: str = ""
    stream_path: str | None = None
    adapt: Adapt | None = None
    play: Callable[[Ask], Play] | None = None


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
    except RecursionError:
        raise Unreadable(name, f"`{name}` is nested too deep.", status=400) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise Unreadable(name, f"`{name}` is not valid JSON: {fault}", status=400) from None


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body as a TaskCodec reads it. JSON: its top-level `fields`. Raw bytes: `file`. Multipart: `fields`
    holds its text parts as JSON strings (of one that stands there twice, a list), `files` its files by part name.
    """

    fields: Fields = field(default_factory=dict)
    file: Blob | None = None
    files: Mapping[str, Blob] = field(default_factory=dict)
    accept: str = ""  # the Accept header
    agent: str = ""  # the User-Agent header


@dataclass(frozen=True, slots=True)
class Written:
    """An answer ready for the caller: JSON or file `body` of type `mime`."""

    body: bytes
    mime: str = "application/json"


class TaskCodec(Protocol):
    """One task in one dialect, both ways. Front: wire → Ask, Result → wire. Back: Ask → wire, wire → Result.

    `want` is whatever of the request its answer depends on. `read` returns an Ask without ids and raises Unreadable
    naming the field; what the canonical form cannot carry is refused by name, never dropped in silence.
    """

    def read(self, body: Body) -> tuple[Ask, Any]: ...

    def write(self, result: Result, want: Any) -> Written | Blob | Fetch | Send:
        """Media are handed on as they are where the dialect's answer is the file itself."""

    def gathers(self, want: Any) -> bool:
        """Whether `write` needs media as a Blob, in memory."""

    def encode(self, ask: Ask) -> Send:
        """The request, without its path and without `model`-specific deviations of providers."""

    def decode(self, reply: Reply, ask: Ask) -> Result:
        """Raises ValueError, LookupError or TypeError where the reply is none."""

    def media(self, ask: Ask) -> bool:
        """Whether the answer to `encode` is the file itself, to be passed on as it comes."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """A wire shape: how it words faults, and its codecs where another dialect may have to serve it."""

    name: str
    fault: Callable[[Fault], bytes]  # the JSON error body
    fault_event: Callable[[Fault], bytes]  # the last SSE block of a stream that broke
    codecs: Mapping[Task, Codec] = field(default_factory=dict)  # text, whose canonical form is OpenAI's completions
    tasks: Mapping[Task, TaskCodec] = field(default_factory=dict)  # every other task
