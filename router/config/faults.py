"""How a fault of the configuration reads: the place in the file, what is wrong with it, and what was probably meant.

Values are never repeated, only names: of settings, upstreams, models and variables of the environment.
"""

import difflib
import re
import types
from collections.abc import Iterable
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from router.config.environment import Address

_WORD: Final = re.compile(r"[\w-]+").fullmatch


class ConfigFaults(Exception):
    """Every fault of a configuration, one line each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


def spelled(path: Address) -> str:
    """`upstreams.groq.keys[0]`, `models["meta-llama/Llama-3.1-8B-Instruct"].policy`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _WORD(part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def meant(name: str, known: Iterable[str]) -> str:
    """`; did you mean "groq"?`, or nothing where no known name is near."""
    folded = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f'; did you mean "{folded[near[0]]}"?' if near else ""


def worded(error: ValidationError, model: type[BaseModel], value: Any) -> list[tuple[Address, str]]:
    """pydantic's errors as (path, sentence); those of one place are joined, since unions report each member."""
    found: dict[Address, list[str]] = {}
    for each in error.errors(include_url=False):
        path = _path(each["loc"], value)
        kind = each["type"]
        unknown = kind == "extra_forbidden"
        if unknown or kind == "missing":
            path = (*path, str(each["loc"][-1])) if not path or path[-1] != each["loc"][-1] else path
        sentence = _sentence(kind, each, model, path)
        found.setdefault(path, [])
        if sentence not in found[path]:
            found[path].append(sentence)
    return [(path, ", or ".join(sentences)) for path, sentences in found.items()]


def _path(location: tuple[str | int, ...], value: Any) -> Address:
    """The part of pydantic's location that stands in the file; the rest names members of unions."""
    path: list[str | int] = []
    for part in location:
        inside = isinstance(value, dict) and part in value
        inside = inside or (isinstance(value, list) and isinstance(part, int) and part < len(value))
        if inside:
            path.append(part)
            value = value[part]
    return tuple(path)


def _sentence(kind: str, error: Any, model: type[BaseModel], path: Address) -> str:
    if kind == "extra_forbidden":
        name = str(path[-1])
        return f'there is no setting "{name}"' + meant(name, _names_at(model, path[:-1]))
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "literal_error":
        given = error["input"]
        hint = meant(given, re.findall(r"'([^']*)'", error["ctx"]["expected"])) if isinstance(given, str) else ""
        return f"expected {error['ctx']['expected']}{hint}".replace("'", "")
    if kind == "string_type" and isinstance(error["input"], int | float):
        return "expected text; write it in quotes"
    if kind in ("model_type", "dict_type"):
        return "expected settings below it (`name: value`)"
    if kind == "list_type":
        return "expected a list (`[…]`)"
    if kind == "string_pattern_mismatch":
        return f"does not look right; it has to match {error['ctx']['pattern']}"
    message = str(error["msg"]).replace("Input should be ", "expected ").split(", unable to parse")[0]
    return message[:1].lower() + message[1:]


def _names_at(model: type[BaseModel], path: Address) -> list[str]:
    """The settings that there are at a place of the file."""
    found: Any = model
    for part in path:
        found = _below(found, part)
    return list(found.model_fields) if isinstance(found, type) and issubclass(found, BaseModel) else []


def _below(kind: Any, part: str | int) -> Any:
    """The type of what stands below a value of type `kind`."""
    if get_origin(kind) in (Union, types.UnionType):
        members = [each for each in get_args(kind) if each is not type(None) and get_origin(each) is not Literal]
        kind = members[0] if members else None
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(str(part))
        return field.annotation if field else None
    arguments = get_args(kind)
    return arguments[-1] if get_origin(kind) in (dict, list) and arguments else None
