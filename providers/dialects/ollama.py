"""Ollama's `/api/generate`, as far as code completion needs it (llm-ls sends it); streams are lines of JSON.

What the shape says about loading a model onto a machine means nothing here and is left out; what would change the
answer and has no canonical field (a template, a context of token ids, pictures) is refused by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from providers.dialects.generate_request import DEFAULT_MAX_NEW_TOKENS
from providers.dialects.generate_task import Generation
from providers.spec import TEXT_GENERATION, Dialect, Fault, Fields, StreamWriter, Unreadable, read_value

_encode: Final = msgspec.json.Encoder().encode

# github.com/ollama/ollama/blob/main/api/types.go, Options. What is in neither has no canonical field.
_OPTIONS: Final[Mapping[str, str]] = {
    "frequency_penalty": "frequency_penalty",
    "min_p": "min_p",
    "num_predict": "max_tokens",
    "presence_penalty": "presence_penalty",
    "repeat_penalty": "repetition_penalty",
    "seed": "seed",
    "stop": "stop",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "typical_p": "typical_p",
}
# Runner, in the same file: how a model is run, not what it says.
_OF_THE_MACHINE: Final = frozenset(
    {
        "f16_kv", "low_vram", "main_gpu", "num_batch", "num_ctx", "num_gpu", "num_keep", "num_thread", "numa",
        "use_mlock", "use_mmap", "vocab_only",
    }
)  # fmt: skip
_REFUSED: Final = ("context", "images", "system", "template", "think")


class Request(msgspec.Struct, frozen=True):
    prompt: str = ""
    model: str = ""
    suffix: str | None = None
    stream: bool | None = None
    options: dict[str, Any] | None = None
    format: str | dict[str, Any] | None = None
    context: Any = None
    images: Any = None
    system: Any = None
    template: Any = None
    think: Any = None


@dataclass(frozen=True, slots=True)
class Want:
    model: str


@dataclass(frozen=True, slots=True)
class Generate:
    """`/api/generate`: a stream unless `stream` is false, and the canonical body says so either way."""

    def read(self, fields: Fields) -> tuple[dict[str, Any], Want]:
        asked = _request(fields)
        body: dict[str, Any] = {"prompt": asked.prompt, "max_tokens": DEFAULT_MAX_NEW_TOKENS}
        body |= _options(asked.options or {})
        # A negative num_predict means "to the end", which is no number that a completions API takes.
        if type(body["max_tokens"]) is int and body["max_tokens"] < 0:
            body["max_tokens"] = DEFAULT_MAX_NEW_TOKENS
        if asked.suffix:
            body["suffix"] = asked.suffix
        if asked.format:
            body["response_format"] = _response_format(asked.format)
        body["stream"] = asked.stream is not False
        return body, Want(asked.model)

    def write(self, reply: dict[str, Any], want: Want) -> bytes:
        choice = reply["choices"][0]
        reason = choice.get("finish_reason") or "stop"
        return _encode(_line(reply, want, choice.get("text") or "", reason, reply.get("usage")))

    def stream(self, want: Want) -> StreamWriter:
        return Stream(want)


class Stream:
    """Completion chunks → lines; the last says why it ended and what was counted."""

    __slots__ = ("_last", "_reason", "_usage", "_want")

    def __init__(self, want: Want) -> None:
        self._want = want
        self._last: dict[str, Any] = {}
        self._reason: str | None = None
        self._usage: dict[str, Any] | None = None

    def event(self, chunk: dict[str, Any]) -> bytes:
        self._last = chunk
        self._usage = chunk.get("usage") or self._usage
        out = b""
        for choice in chunk.get("choices") or ():
            if choice.get("index"):
                continue
            self._reason = choice.get("finish_reason") or self._reason
            if text := choice.get("text"):
                out += _encode(_line(chunk, self._want, text)) + b"\n"
        return out

    def end(self) -> bytes:
        if self._reason is None:
            return b""
        return _encode(_line(self._last, self._want, "", self._reason, self._usage)) + b"\n"


def _request(fields: Fields) -> Request:
    try:
        asked = msgspec.convert({name: read_value(fields, name) for name in fields}, Request)
    except msgspec.ValidationError as fault:
        param = str(fault).partition("`$.")[2].rstrip("`")
        raise _refused(param, f"`{param}` has the wrong type: {fault}") from None
    if not asked.prompt:
        raise _refused("prompt", "`prompt` is required")
    for name in _REFUSED:
        if getattr(asked, name):
            raise _refused(name, f"`{name}` is not supported")
    return asked


def _options(given: dict[str, Any]) -> dict[str, Any]:
    asked = {name: value for name, value in given.items() if name not in _OF_THE_MACHINE and value is not None}
    for name in asked:
        if name not in _OPTIONS:
            raise _refused(f"options.{name}", f"`options.{name}` is not supported")
    return {_OPTIONS[name]: value for name, value in asked.items()}


def _response_format(given: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(given, dict):
        return {"type": "json_schema", "json_schema": {"name": "format", "schema": given, "strict": True}}
    if given == "json":
        return {"type": "json_object"}
    raise _refused("format", '`format` must be "json" or a JSON schema')


def _line(
    reply: dict[str, Any],
    want: Want,
    text: str,
    reason: str | None = None,
    usage: dict[str, Any] | None = None,
) -> dict[str, Any]:
    created = datetime.fromtimestamp(reply.get("created") or 0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    line = {"model": want.model, "created_at": created, "response": text, "done": reason is not None}
    if reason is not None:
        line["done_reason"] = "length" if reason == "length" else "stop"
        line["prompt_eval_count"] = (usage or {}).get("prompt_tokens") or 0
        line["eval_count"] = (usage or {}).get("completion_tokens") or 0
    return line


def _refused(param: str, message: str) -> Unreadable:
    return Unreadable(param, message, status=400)


def _fault(fault: Fault) -> bytes:
    return _encode({"error": fault.message})


def _fault_event(fault: Fault) -> bytes:
    return _fault(fault) + b"\n"


DIALECT: Final = Dialect(
    "ollama",
    _fault,
    _fault_event,
    {TEXT_GENERATION: Generate()},
    {TEXT_GENERATION: Generation(Generate())},
)
