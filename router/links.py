"""What of a request a server of one's own would fetch from inside the network: URLs are refused there (FAULTS §3.1 A3).

A chat names what is to be fetched in fields that are called so; the Hub's tasks name a file by writing its URL where
the file would stand; Text Generation Inference fetches what a prompt shows as an image in Markdown.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from providers import spec
from providers.dialects import hf_tasks
from providers.spec import Ask, Fields, Link
from router.call import Call

_TALK: Final = frozenset({"messages", "input", "inputs", "prompt", "query", "documents"})
_FILES: Final = frozenset({"inputs", "image", "images", "audio", "video", "mask", "parameters"})
_BOTH: Final = _TALK | _FILES
_BACKSLASH: Final = ord("\\")  # a byte is found in a fraction of the time that two take
_URL: Final = re.compile(r"\s*(?:https?|ftp|file)://", re.IGNORECASE).match
_SHOWN: Final = re.compile(r"!\[\]\(\s*https?://", re.IGNORECASE).search


def in_call(call: Call, provider: str) -> str | None:
    """The field of a relayed body that names something to be fetched, where there is one."""
    files = call.endpoint.dialect.name == "huggingface" and call.endpoint.task in hf_tasks.LOADS
    body = call.body
    if not files and provider != "tgi" and body.find(b"url") < 0 and not (_BACKSLASH in body and b"\\u" in body):
        return None  # only a field that is called so names one here
    return in_fields(call.fields, provider, files)


def in_fields(fields: Fields, provider: str, files: bool) -> str | None:
    """`files`: a whole text that is a URL stands for the file there."""
    names = _BOTH if files else _TALK
    for name, value in fields.items():
        if name.endswith("url") or (name in names and _hints(bytes(value))):
            loads = files and name in _FILES
            for path, text in _texts(spec.read_value(fields, name), name):
                called = path.rpartition(".")[2].partition("[")[0].endswith("url") and not _is_data(text)
                if called or (loads and _URL(text)) or (provider == "tgi" and _SHOWN(text)):
                    return path
    return None


def _hints(value: bytes) -> bool:
    """Whether it is worth reading: a name or a slash may be written in escapes."""
    return b"url" in value or b"://" in value or b"\\u" in value or b"\\/" in value


def in_ask(ask: Ask) -> bool:
    """Whether a file of it is named by URL, or a parameter that may be one."""
    return any(isinstance(each, Link) for _, each in _leaves(ask.inputs, "")) or any(
        isinstance(each, Link) or (isinstance(each, str) and _URL(each)) for _, each in _leaves(ask.parameters, "")
    )


def _is_data(text: str) -> bool:
    return text.lstrip()[:5].lower() == "data:"


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    return ((place, each) for place, each in _leaves(value, path) if isinstance(each, str))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from _leaves(each, f"{path}[{number}]")
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _leaves(each, f"{path}.{name}")
    else:
        yield path, value
