"""The books: entries written once each, what they add up to by the day, and what is asked of them while serving.

Twice the same entry (after a crash, or a commit whose answer got lost) is once in the books, and once in the sums.
What reports read from the same tables is in router/stores/reports.py.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Literal

from msgspec.structs import astuple

from router.entry import Entry
from router.stores.sql import Database

Scope = Literal["tenant", "key", "model", "upstream", "provider_key"]

DAY: Final = 86_400
ASKED: Final = 500  # ids of one statement
PRUNED: Final = 1000  # entries of one transaction
PAUSE: Final = 0.02  # seconds in which others may write, after each
STRIDE: Final = 100  # entries written between two breaths
BREATH: Final = 0.0002  # seconds for the event loop, which may have only this core

# All fields of an entry but its attempts, which are the last, by the same names; the columns of the table.
COLUMNS: Final = Entry.__struct_fields__[:-1]
_ATTEMPTS: Final = ("entry", "number", "upstream", "deployment", "status", "reason", "seconds", "sent", "cost")

# What is summed for whom: the tenant's side pays what is charged, the provider's side asks what it costs.
_MONEY: Final[dict[Scope, str]] = {
    "tenant": "charge",
    "key": "charge",
    "model": "charge",
    "upstream": "cost",
    "provider_key": "cost",
}
_ADD: Final = (
    "INSERT INTO totals (scope, name, day, cost, charge) VALUES (?, ?, ?, ?, ?) ON CONFLICT (scope, name, day)"
    " DO UPDATE SET cost = totals.cost + excluded.cost, charge = totals.charge + excluded.charge"
)
_Sums = dict[tuple[str, str, str, str, str, int], list[int]]


class Books:
    """Blocking, and may raise Away (or Unfit) anywhere."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, entries: Sequence[Entry]) -> int:
        """How many were not there yet."""
        with contextlib.suppress(_Doubled):
            return self._add(entries)
        return self._add(self._new(entries))

    def _add(self, entries: Sequence[Entry]) -> int:
        """All of them, or _Doubled and none."""
        sums: _Sums = {}
        with self._database.transaction():
            new = self._database.load("entries", COLUMNS, ("id",), _summing(entries, sums))
            if new != len(entries):
                raise _Doubled
            if failed := list(_failed(entries)):
                self._database.load("attempts", _ATTEMPTS, ("entry", "number"), failed)
            self._database.many(_ADD, _totals(sums))
        return new

    def _new(self, entries: Sequence[Entry]) -> list[Entry]:
        found = {each.id: each for each in entries}
        for ids in _slices([*found]):
            for (known,) in self._database.rows(f"SELECT id FROM entries WHERE id IN ({_marks(ids)})", ids):  # noqa: S608
                found.pop(known, None)
        return [*found.values()]

    def spent(self, scope: Scope, of: str, since: float) -> int:
        """Nano-USD since then: whole days from the sums, what is left of the first one from its entries."""
        money = _MONEY[scope]
        day = -int(-since // DAY)
        sql = f"SELECT SUM({money}) FROM totals WHERE scope = ? AND name = ? AND day >= ?"  # noqa: S608 - of constants
        whole = _only(self._database.rows(sql, (scope, of, day)))
        if day * DAY == since:
            return whole
        sql = f"SELECT SUM({money}) FROM entries WHERE time >= ? AND time < ? AND {scope} = ?"  # noqa: S608
        return whole + _only(self._database.rows(sql, (since, day * DAY, of)))

    def prune(self, before: float, pause: Callable[[float], object] = time.sleep) -> int:
        """Forget entries that ended before then; how many. What they add up to stays."""
        done = 0
        while True:
            with self._database.transaction():
                sql = "SELECT id FROM entries WHERE time < ? ORDER BY time LIMIT ?"
                ids = [row[0] for row in self._database.rows(sql, (before, PRUNED))]
                for some in _slices(ids):
                    marks = _marks(some)
                    self._database.run(f"DELETE FROM attempts WHERE entry IN ({marks})", some)  # noqa: S608
                    done += self._database.run(f"DELETE FROM entries WHERE id IN ({marks})", some)  # noqa: S608
            if len(ids) < PRUNED:
                return done
            pause(PAUSE)


class _Doubled(Exception):
    """Some were in the books already; which ones has to be asked."""


def _summing(entries: Iterable[Entry], sums: _Sums) -> Iterator[tuple[Any, ...]]:
    """The rows; while they go by, what they add up to."""
    for number, each in enumerate(entries, 1):
        if not number % STRIDE:
            time.sleep(BREATH)
        cost, charge = each.cost or 0, each.charge or 0
        if cost or charge:
            name = (each.tenant, each.key, each.model, each.upstream, each.provider_key, int(each.time // DAY))
            found = sums.get(name)
            if found is None:
                sums[name] = [cost, charge]
            else:
                found[0] += cost
                found[1] += charge
        yield astuple(each)[:-1]


def _totals(sums: _Sums) -> list[tuple[str, str, int, int, int]]:
    """Always in the same order, so that two who write at once never wait for each other in a ring."""
    found: dict[tuple[str, str, int], list[int]] = {}
    for (*names, day), (cost, charge) in sums.items():
        for scope, name in zip(_MONEY, names, strict=True):
            if name:
                sum_ = found.setdefault((scope, str(name), day), [0, 0])
                sum_[0] += cost
                sum_[1] += charge
    return [(*key, cost, charge) for key, (cost, charge) in sorted(found.items())]


def _failed(entries: Iterable[Entry]) -> Iterator[tuple[Any, ...]]:
    for each in entries:
        for number, failed in enumerate(each.failed):
            yield (
                each.id, number, failed.upstream, failed.deployment, failed.status, failed.reason, failed.seconds,
                failed.sent, failed.cost,
            )  # fmt: skip


def _slices(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), ASKED):
        yield ids[start : start + ASKED]


def _marks(ids: Sequence[str]) -> str:
    return ", ".join("?" * len(ids))


def _only(rows: Iterator[tuple[Any, ...]]) -> int:
    return int(next(rows)[0] or 0)
