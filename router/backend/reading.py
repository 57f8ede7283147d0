"""A request → what is asked, and how its answer is written: the Hugging Face dialect, the same codecs as the router's.

Text generation has a codec of its own kind (its canonical form is OpenAI's completion); here it is one task of many.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from providers.dialects import DIALECTS
from providers.spec import (
    TEXT_GENERATION,
    Ask,
    Blob,
    Body,
    Fetch,
    Fields,
    Result,
    Send,
    Unreadable,
    Written,
    read_value,
)

DIALECT: Final = DIALECTS["huggingface"]
Write = Callable[[Result], Written | Blob]
_SAID_NOTHING: Final = ("", "application/octet-stream", "application/x-www-form-urlencoded")  # the last is curl's -d


@dataclass(frozen=True, slots=True)
class Question:
    ask: Ask
    write: Write
    wait: bool  # for a model that is loading


def read(task: str, data: bytes, mime: str, accept: str, agent: str, wait: bool) -> Question:
    """Raises Unreadable."""
    body = body_of(data, mime, accept, agent)
    wait = wait or _waits(body.fields)
    if task == TEXT_GENERATION:
        return _generation(body, wait)
    codec = DIALECT.tasks[task]
    ask, want = codec.read(body)

    def write(result: Result) -> Written | Blob:
        written = codec.write(result, want)
        assert not isinstance(written, Fetch | Send), "the media are here"
        return written

    return Question(ask, write, wait)


def body_of(data: bytes, mime: str, accept: str, agent: str) -> Body:
    """JSON where it says so, or says nothing and looks like it; anything else is a file."""
    said = mime.partition(";")[0].strip().lower()
    if said == "application/json" or (said in _SAID_NOTHING and data.lstrip()[:1] == b"{"):
        try:
            fields = msgspec.json.decode(data, type=Fields)
        except (msgspec.DecodeError, UnicodeDecodeError) as fault:
            raise Unreadable("body", f"the body is not a JSON object: {fault}", status=400) from None
        return Body(fields, accept=accept, agent=agent)
    return Body(file=Blob(data, "" if said in _SAID_NOTHING else mime), accept=accept, agent=agent)


def _waits(fields: Fields) -> bool:
    options: Any = read_value(fields, "options")
    return isinstance(options, dict) and options.get("wait_for_model") is True


def _generation(body: Body, wait: bool) -> Question:
    codec = DIALECT.codecs[TEXT_GENERATION]
    asked, want = codec.read(body.fields)
    if asked.get("stream"):
        raise Unreadable("stream", "`stream` is not supported by this server: it answers whole", status=400)
    ask = Ask(TEXT_GENERATION, asked.pop("prompt"), asked)
    return Question(ask, lambda result: Written(codec.write(result.value, want)), wait)
