"""Just enough of PromQL to say which labels a query wants of which metric; what it cannot read is an error.

Aggregations are written `sum by (a) (…)`, the list first. `test_queries.py` holds it against Prometheus' own readers.
"""

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""\s*(?: (?P<string>"(?:[^"\\]|\\.)*"|'[^']*')
      | (?P<range>\[[^\]]+\]) | (?P<number>\d[\d.]*[smhdwy]?)
      | (?P<name>[A-Za-z_:][\w:]*) | (?P<sign>=~|!~|!=|==|<=|>=|[-+*/%^=<>(){},]) )""",
    re.VERBOSE,
)
_LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}


@dataclass
class Wanted:
    """A query's metrics, each with the labels that it must have; and the labels that a `by` lets through."""

    labels: dict[str, set[str]] = field(default_factory=dict)
    shown: set[str] = field(default_factory=set)
    grouped: bool = False


def tokens(query: str) -> list[tuple[str, str]]:
    found, at = [], 0
    query = query.rstrip()
    while at < len(query):
        token = _TOKEN.match(query, at)
        if token is None:
            raise ValueError(f"cannot read {query[at:]!r}")
        assert token.lastgroup is not None
        found.append((token.lastgroup, token[token.lastgroup]))
        at = token.end()
    return found


def read(query: str) -> Wanted:
    wanted = Wanted()
    _read(tokens(query), [], wanted)
    return wanted


def _read(words: list[tuple[str, str]], grouping: list[str], wanted: Wanted) -> None:
    """`grouping`: labels that an aggregation around these words groups by."""
    at = 0
    group = grouping
    while at < len(words):
        kind, word = words[at]
        after = words[at + 1][1] if at + 1 < len(words) else ""
        if kind == "name" and word in _LISTS:
            end = _closing(words, at + 1)
            group = [each for kind, each in words[at + 2 : end] if kind == "name"]
            wanted.shown.update(group if word == "by" else [])
            wanted.grouped = wanted.grouped or word == "by"
            at = end
        elif word == "(":
            end = _closing(words, at)
            _read(words[at + 1 : end], group, wanted)
            group = grouping
            at = end
        elif kind == "name" and after not in ("(", "by", "without") and word not in _WORDS:
            labels = wanted.labels.setdefault(word, set())
            labels.update(group)
            if after == "{":
                end = _closing(words, at + 1)
                labels.update(words[i][1] for i in range(at + 2, end, 4))
                at = end
        at += 1


def _closing(words: list[tuple[str, str]], at: int) -> int:
    opening, closing = words[at][1], {"(": ")", "{": "}"}[words[at][1]]
    depth = 0
    for place in range(at, len(words)):
        depth += (words[place][1] == opening) - (words[place][1] == closing)
        if depth == 0:
            return place
    raise ValueError(f"{opening} is never closed")


def series(exposition: str) -> dict[str, set[str]]:
    """What a server shows: each series' name and all labels that it was seen with."""
    found: dict[str, set[str]] = {}
    for line in exposition.splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition("{") if "{" in line else (line.split(" ")[0], "", "")
            found.setdefault(name, set()).update(re.findall(r'(\w+)="', rest))
    return found
