"""Text → plain values, the strict way: what two readers could understand differently is a fault, not a guess.

PyYAML does the syntax only (libyaml's parser where it is there: the tables are a thousand lines). Values are made here
from its nodes, as YAML 1.2 has them: `true`, `false`, `null` and numbers are what they look like, and `NO`, `012`,
`12:30` and `2026-01-01` are text. Keys are always text, as written. A key that stands twice, a tag, a merge key, or
aliases that would swell the file are refused. Messages quote keys, never values: these may be secrets.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

MOST_ALIASES: Final = 100
DEEPEST: Final = 64

# What the C parser and the Python one share; only `get_single_node` of it is used, so nothing is ever constructed.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG: Final = "tag:yaml.org,2002:"
_RESOLVED: Final = (
    ("null", re.compile(r"~|null|Null|NULL|"), "~nN"),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE"), "tTfF"),
    ("int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)"), "-+0123456789"),
    (
        "float",
        re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"),
        "-+.0123456789",
    ),
)


class _Loader(_Parser):  # type: ignore[misc]  # its class is known only when it runs
    """PyYAML's parser with YAML 1.2's idea of what a bare word is."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own name


for _name, _shape, _first in _RESOLVED:
    # A resolver's expression is `match`ed, so it has to say where the word ends.
    _whole = re.compile(rf"(?:{_shape.pattern})\Z")
    for _character in (*_first, *([""] if _name == "null" else [])):
        _Loader.yaml_implicit_resolvers.setdefault(_character, []).append((_TAG + _name, _whole))


class Unreadable(Exception):
    """Every fault of one text, each a sentence that begins with its line."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def parse(text: str) -> Any:
    """The value of the one document in `text`; None for an empty one. Raises Unreadable."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        problem = (error.problem or "not YAML").removeprefix("but ")
        raise Unreadable([f"{where}{problem}"]) from None
    except (yaml.YAMLError, RecursionError):
        raise Unreadable(["not YAML: it holds a character that YAML has not, or is nested too deeply"]) from None
    if node is None:
        return None
    reader = _Reader(most=4 * len(text) + 1000)
    value = reader.value(node, 0)
    if reader.faults:
        raise Unreadable(reader.faults)
    return value


@dataclass
class _Reader:
    """Nodes → values, gathering faults. `most` bounds the values made, which aliases could multiply without end."""

    most: int
    faults: list[str] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    inside: set[int] = field(default_factory=set)
    aliases: int = 0
    made: int = 0

    def fault(self, node: Any, message: str) -> None:
        self.faults.append(f"line {node.start_mark.line + 1}: {message}")

    def value(self, node: Any, depth: int) -> Any:
        self.made += 1
        if self.made > self.most:
            if self.made == self.most + 1:
                self.fault(node, "its aliases (`*name`) make too much of it")
            return None
        if not isinstance(node, yaml.ScalarNode):
            if id(node) in self.inside or depth > DEEPEST:
                self.fault(node, "is nested more deeply than any setting is")
                return None
            if id(node) in self.seen:
                self.aliases += 1
                if self.aliases == MOST_ALIASES + 1:
                    self.fault(node, f"there are more than {MOST_ALIASES} aliases (`*name`)")
            self.seen.add(id(node))
        if not node.tag.startswith(_TAG) or node.tag.removeprefix(_TAG) not in _KINDS:
            self.fault(node, "tags (`!name`) are not read here")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        self.inside.add(id(node))
        made = self.mapping(node, depth) if isinstance(node, yaml.MappingNode) else self.sequence(node, depth)
        self.inside.discard(id(node))
        return made

    def scalar(self, node: Any) -> Any:
        kind = node.tag.removeprefix(_TAG)
        try:
            return _SCALARS[kind](node.value)
        except (ValueError, KeyError):
            self.fault(node, f"is no {kind} that fits")
            return None

    def sequence(self, node: Any, depth: int) -> list[Any]:
        return [self.value(each, depth + 1) for each in node.value]

    def mapping(self, node: Any, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.fault(key, "a key is a word, not a list or a mapping")
            elif key.value == "<<" and key.style not in ("'", '"'):
                self.fault(key, "merge keys (`<<`) are not read here; write the settings out")
            elif key.value in found:
                self.fault(key, f"the key {key.value!r} stands twice; first on line {lines[key.value]}")
            else:
                lines[key.value] = key.start_mark.line + 1
                found[key.value] = self.value(value, depth + 1)
        return found


def _bool(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


_SCALARS: Final[dict[str, Callable[[str], Any]]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": _bool,
    "null": lambda _: None,
}
_KINDS: Final = frozenset({*_SCALARS, "map", "seq"})
