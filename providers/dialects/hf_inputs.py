"""What the Hub's tasks take as `inputs`, in every form that clients have sent it: read into one, and written again.

A *check* turns one value into its canonical form, or refuses it by name. Files come as base64, as data: or http(s) URLs
or as the whole body; what belongs into `inputs` stands at the root of old clients' bodies.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from providers import media
from providers.spec import Blob, Body, Fields, Link, Unreadable, read_value

Check = Callable[[str, Any], Any]
"""The name of a value, and the value as it came → as it is in an Ask. Raises Unreadable."""

Inputs = Check | Mapping[str, Check]
"""`inputs` itself, or the members of it."""

# What the Hub has called a member, and what clients have (the first is what is sent on).
_ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "query": ("question",),  # the specification's name in table question answering; no client sends it
    "texts": ("documents", "sentences"),
    "data": ("table",),  # huggingface_hub's, at the root
}
_FILE_NAMES: Final = ("image", "audio", "video")


def refused(param: str, why: str) -> Unreadable:
    """400, as the Hub's community server says it."""
    return Unreadable(param, f"`{param}` {why}", status=400)


def text(param: str, value: Any) -> Any:
    if not isinstance(value, str):
        raise refused(param, "must be a string")
    return value


def texts(param: str, value: Any) -> Any:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise refused(param, "must be a list of strings")
    return value


def text_or_texts(param: str, value: Any) -> Any:
    return value if isinstance(value, str) else texts(param, value)


def text_or_pair(param: str, value: Any) -> Any:
    """A pair of texts, which is classified as one."""
    pair = isinstance(value, dict) and isinstance(value.get("text"), str)
    return value if pair else text(param, value)


def mapping(param: str, value: Any) -> Any:
    if not isinstance(value, dict):
        raise refused(param, "must be an object")
    return value


def file(param: str, value: Any) -> Any:
    """In an object too, under the name of what it is: {"image": …}."""
    if isinstance(value, dict):
        value = next((value[name] for name in _FILE_NAMES if name in value), None)
    if not isinstance(value, str) or not value:
        raise refused(param, "must be a file: base64, a data: URL or an http(s) URL")
    try:
        return media.file_of(value)
    except ValueError:
        raise refused(param, "must be a file: it is neither base64 nor a data: URL nor an http(s) URL") from None


def labels(param: str, value: Any) -> list[str]:
    """`candidate_labels`: a list, or one string with commas."""
    if isinstance(value, str):
        value = [label for each in value.split(",") if (label := each.strip())]
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise refused(param, "must be a list of labels that is not empty")
    return value


def value_at(fields: Fields, name: str) -> Any:
    try:
        return read_value(fields, name)
    except RecursionError:
        raise refused(name, "is nested too deep") from None


def parameters_of(fields: Fields, roots: tuple[str, ...]) -> dict[str, Any]:
    """`parameters` and those that stand at the root, without nulls. Python's table question answering leaks a `model`
    into them, which is nobody's parameter."""
    given = value_at(fields, "parameters")
    found = {} if given is None else mapping("parameters", given)
    found |= {name: value for name in roots if (value := value_at(fields, name)) is not None}
    return {name: value for name, value in found.items() if value is not None and name != "model"}


def read(body: Body, takes: Inputs, many: bool, optional: bool) -> Any:
    """The task's `inputs` in canonical form; a list of them where the task takes many and the caller sent a list."""
    given = _given(body, takes)
    if isinstance(given, Blob):
        return given
    if given is None:
        if optional:
            return None
        raise refused("inputs", "is required")
    if many and isinstance(given, list):
        return [_checked(f"inputs[{index}]", each, takes) for index, each in enumerate(given)]
    return _checked("inputs", given, takes)


def _given(body: Body, takes: Inputs) -> Any:
    if body.file is not None:
        return _whole(body.file, takes)
    given = value_at(body.fields, "inputs")
    if isinstance(takes, Mapping):
        return _gathered(body.fields, takes, given)
    if given is None and takes is file:
        return next((found for name in _FILE_NAMES if (found := value_at(body.fields, name)) is not None), None)
    return given


def _whole(raw: Blob, takes: Inputs) -> Any:
    """A body that is no JSON object: the file, or the text."""
    if not raw.data:
        return None
    if takes is file:
        return Blob(raw.data, media.mime_of(raw, ""))
    try:
        written = raw.data.decode()
    except UnicodeDecodeError:
        raise refused("inputs", "is required, in a body of JSON") from None
    try:
        value = msgspec.json.decode(written)
    except (msgspec.DecodeError, RecursionError):
        return written
    return value if isinstance(value, str | list) else written


def _gathered(fields: Fields, takes: Mapping[str, Check], given: Any) -> Any:
    """The members of `inputs`, from the root where old clients left them: question answering, similarity, tables, and
    Python's visual question answering, which sends its picture as `inputs` and once more."""
    rooted = {
        name: value
        for member in takes
        for name in (*_ALIASES.get(member, ()), member)
        if (value := value_at(fields, name)) is not None
    }
    if isinstance(given, dict):
        return rooted | given
    bare = next((member for member, check in takes.items() if check is file), None)
    if isinstance(given, str) and bare is not None:
        return {bare: given, **rooted}
    return rooted if given is None and rooted else given


def _checked(param: str, value: Any, takes: Inputs) -> Any:
    if not isinstance(takes, Mapping):
        return takes(param, value)
    found = dict(mapping(param, value))
    for member, check in takes.items():
        for alias in _ALIASES.get(member, ()):
            if alias in found:
                found.setdefault(member, found.pop(alias))
        if found.get(member) is None:
            raise refused(f"{param}.{member}", "is required")
        found[member] = check(f"{param}.{member}", found[member])
    return found


def wire(value: Any) -> Any:
    """Canonical `inputs` as JSON has them: files as base64, or as the URL that the caller gave."""
    if isinstance(value, Blob):
        return media.to_base64(value)
    if isinstance(value, Link):
        return value.url
    if isinstance(value, dict):
        return {name: wire(each) for name, each in value.items()}
    return value
