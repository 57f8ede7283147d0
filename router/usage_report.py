"""Sums and entries of the ledger as people and programs read them: text, CSV, JSON. Rows in, lines out; no database.

For programs money is whole nano-USD (`cost_nano_usd`), empty or null where nobody knows it; for people it is US dollars
with as many digits as there is something to see. Cells of CSV that a spreadsheet would take for a formula get an
apostrophe in front.
"""

import csv
import datetime
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from router.bounds import NANO
from router.entry import Entry
from router.settings import SECONDS
from router.stores.reports import Sum

FIGURES: Final = (
    "requests", "errors", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "images",
    "media_seconds", "characters", "cost_nano_usd", "charge_nano_usd", "unpriced", "estimated",
)  # fmt: skip
MONEY: Final = {"cost_nano_usd": "cost", "charge_nano_usd": "charge"}
_ALWAYS: Final = ("requests", "errors", "input_tokens", "output_tokens", "cost_nano_usd", "charge_nano_usd")
_TITLES: Final = {
    "input_tokens": "input", "output_tokens": "output", "cached_tokens": "cached", "reasoning_tokens": "reasoning",
    "media_seconds": "seconds", "cost_nano_usd": "cost USD", "charge_nano_usd": "charge USD",
}  # fmt: skip
_ENTRY: Final = tuple(name for name in Entry.__struct_fields__ if name != "failed")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

_AGE: Final = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*(s|m|h|d|w)").fullmatch
_EXPECTED: Final = "expected a date such as 2026-11-01 or an age such as 7d"


def moment(text: str, now: float) -> float:
    """Unix time of a date or time (in UTC where it does not say otherwise), or of an age. Raises ValueError."""
    text = text.strip()
    age = _AGE(text)
    if age is not None:
        return max(0.0, now - float(age[1]) * {**SECONDS, "w": 7 * SECONDS["d"]}[age[2]])
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(_EXPECTED) from None
    return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()


def iso(time: float) -> str:
    """In UTC, as in `2026-11-01T08:15:30.250000Z`."""
    return datetime.datetime.fromtimestamp(time, datetime.UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def usd(nano: int | None) -> str:
    """`12.50`, `0.0125`, `0.000000075`: two digits behind the point, and more below a dollar."""
    if nano is None:
        return "?"
    size = abs(nano)
    digits = 2 if size == 0 or size >= 100 * NANO else 4 if size >= NANO // 100 else 6 if size >= 100_000 else 9
    whole, rest = divmod(round(size, digits - 9), NANO)
    shown = f"{rest:09}"[:digits]
    return f"{'-' if nano < 0 else ''}{whole:,}.{shown[:2]}{shown[2:].rstrip('0')}"


# Sums


def builtins(by: Sequence[str], row: Sum) -> dict[str, Any]:
    """A sum as JSON has it: its group by name, then its figures."""
    figures = {name: getattr(row, MONEY.get(name, name)) for name in FIGURES}
    return {**dict(zip(by, row.group, strict=True)), **figures}


def as_table(by: Sequence[str], rows: Sequence[Sum]) -> Iterator[str]:
    """Lines for a terminal, with the sum of all at the end where there are several. Columns of nothing but 0 are
    left out.
    """
    shown = [*rows, _all(by, rows)] if len(rows) > 1 and by else [*rows]
    told = [builtins(by, row) for row in shown]
    figures = [name for name in FIGURES if name in _ALWAYS or any(each[name] for each in told)]
    cells = [[*by, *(_TITLES.get(name, name) for name in figures)]]
    cells += [[_plain(each[name]) for name in by] + [_figure(name, each[name]) for name in figures] for each in told]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    for line in cells:
        padded = [
            cell.ljust(width) if column < len(by) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(padded).rstrip()


def as_csv(by: Sequence[str], rows: Iterable[Sum]) -> Iterator[str]:
    line = _csv()
    yield line([*by, *FIGURES])
    for row in rows:
        yield line(list(builtins(by, row).values()))


def as_jsonl(by: Sequence[str], rows: Iterable[Sum]) -> Iterator[str]:
    for row in rows:
        yield msgspec.json.encode(builtins(by, row)).decode() + "\n"


def listed(by: Sequence[str], rows: Iterable[Sum], since: float | None, until: float | None) -> dict[str, Any]:
    """Sums as one JSON object."""
    return {
        "object": "list",
        "data": [builtins(by, row) for row in rows],
        "since": None if since is None else iso(since),
        "until": None if until is None else iso(until),
    }


def _all(by: Sequence[str], rows: Sequence[Sum]) -> Sum:
    group = ("in all", *[""] * (len(by) - 1))
    fields = [name for name in Sum.__struct_fields__ if name != "group"]
    return Sum(group, **{name: _added([getattr(row, name) for row in rows]) for name in fields})


def _added(values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _figure(name: str, value: Any) -> str:
    if name in MONEY:
        return usd(value)
    return f"{value:,.1f}" if name == "media_seconds" else f"{value:,}"


def _plain(text: str) -> str:
    """Nothing that a terminal would act on; a dash for what is empty."""
    return "".join(each if each.isprintable() else "?" for each in text) or "-"


# Entries


def entry_builtins(entry: Entry) -> dict[str, Any]:
    """An entry as JSON has it, with its failed attempts."""
    told: dict[str, Any] = {MONEY_OF.get(name, name): getattr(entry, name) for name in _ENTRY}
    told["time"] = iso(entry.time)
    told["attempts"] = [
        {MONEY_OF.get(name, name): getattr(each, name) for name in each.__struct_fields__} for each in entry.failed
    ]
    return told


MONEY_OF: Final = {plain: name for name, plain in MONEY.items()}


def entries_as_jsonl(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        yield msgspec.json.encode(entry_builtins(entry)).decode() + "\n"


def entries_as_csv(entries: Iterable[Entry]) -> Iterator[str]:
    line = _csv()
    yield line([MONEY_OF.get(name, name) for name in _ENTRY])
    for entry in entries:
        told = entry_builtins(entry)
        del told["attempts"]
        yield line(list(told.values()))


def _csv() -> Callable[[Sequence[Any]], str]:
    """Cells → a line."""
    held = io.StringIO(newline="")
    write = csv.writer(held).writerow

    def line(cells: Sequence[Any]) -> str:
        held.seek(0)
        held.truncate()
        write([_cell(cell) for cell in cells])
        return held.getvalue()

    return line


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
