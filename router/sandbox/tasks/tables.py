"""Tables of numbers: a class or a figure for every row, from a hash of the row."""

from typing import Any

from router.sandbox import fields as read
from router.sandbox.exchange import Ask, Reply, seal
from router.sandbox.tasks import asked


def classes(ask: Ask) -> Reply:
    return asked.answer([3 + int(seed[:4], 16) % 6 for seed in _rows(ask)])


def numbers(ask: Ask) -> Reply:
    return asked.answer([int(seed[:4], 16) / 128 for seed in _rows(ask)])


def columns(value: Any, name: str) -> dict[str, list[Any]]:
    """A table: its columns by name, all of one length, none of them empty."""
    if not isinstance(value, dict) or not all(isinstance(column, list) for column in value.values()):
        raise read.wrong_type(name, "an object of arrays, one a column", value)
    if len({len(column) for column in value.values()}) != 1 or not all(value.values()):
        raise read.invalid(name, "the columns are empty, or of different lengths.")
    return value


def _rows(ask: Ask) -> list[str]:
    """A seed for each row; the table stands at the top, in `inputs`, or as `data` there."""
    within = asked.parts(ask)
    name = next((name for name in ("table", "data") if name in within), "inputs")
    table = columns(within if name == "inputs" and within else read.need(within, name), name)
    return [seal(*map(str, row)) for row in zip(*table.values(), strict=True)]
