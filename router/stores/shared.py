"""What one bound has come to, in the memory that the workers of a host share: the slots of `host`, one class a kind.

They write words of the `table`, with its lock held; a slot has been found there before any of these is called. What a
worker knows alone (which hold reserved how much) is kept in them, and its sum in the worker's column.
"""

import struct
from typing import Final

from router.bounds import Bound, Reached
from router.stores.buckets import AGAIN, FAR, SOON, Calendar, Stand, measures, poured, rescaled, units, until_room
from router.stores.memory import Slot
from router.stores.table import BUDGET, CONCURRENCY, OWN, RATE, TOTAL, WORD, Table, digest

_FOUR: Final = struct.Struct("=4q")
_TWO: Final = struct.Struct("=2q")
_READ: Final = _FOUR.unpack_from
_WRITE: Final = _FOUR.pack_into
_MOVE: Final = _TWO.pack_into


class Shared(Slot):
    """`name` is what the table knows it by, `key` the first word of that, `at` where it stands."""

    __slots__ = ("at", "key", "name")

    at: int
    key: int
    name: tuple[int, int]

    def placed(self, at: int) -> None:
        """It was found there."""
        raise NotImplementedError


class SharedBucket(Shared):
    """A rate. Its words: at, rest, amount, span."""

    __slots__ = ("amount", "memory", "most", "offset", "span")

    def __init__(self, bound: Bound, table: Table) -> None:
        self.name = digest(bound.name, RATE)
        self.key = self.name[0]
        self.memory = table.memory
        self.adopt(bound, 0)

    def placed(self, at: int) -> None:
        self.at = at
        self.offset = (at + OWN) * WORD

    def adopt(self, bound: Bound, now: int) -> None:
        self.bound = bound
        self.amount, self.span, self.most = measures(bound)

    def _moment(self, now: int) -> tuple[int, int]:
        at, rest, amount, span = _READ(self.memory, self.offset)
        if amount != self.amount or span != self.span:
            if amount:
                at, rest = rescaled(at, rest, now, (amount, span), (self.amount, self.span))
            _WRITE(self.memory, self.offset, min(at, FAR), rest, self.amount, self.span)
        return at, rest

    def take(self, n: int, hold: str, now: int) -> bool:
        at, rest = self._moment(now)
        if at < now:  # `poured`, at its place: each request comes by here
            at, rest = now, 0
        moved, rest = divmod(n * self.span + rest, self.amount)
        at += moved
        if at + (rest > 0) - now > self.most:
            return False
        _MOVE(self.memory, self.offset, at, rest)
        return True

    def settle(self, taken: int, used: int, hold: str, now: int) -> None:
        if taken != used:
            at, rest = poured(*self._moment(now), now, used - taken, self.amount, self.span)
            _MOVE(self.memory, self.offset, min(at, FAR), rest)

    def reached(self, n: int, now: int) -> Reached:
        moment = self._moment(now)
        wait = until_room(*moment, now, n, self.amount, self.span) if self.bound.amount > 0 else None
        return Reached(self.bound, units(*moment, now, self.amount, self.span), wait)

    def stands(self, now: int) -> Stand:
        at, rest = self._moment(now)
        ahead = at - now
        return (-((-ahead * self.amount - rest) // self.span), ahead) if ahead >= 0 else (0, 0)

    def empty(self, now: int) -> bool:
        return True  # all of it is in the table


class SharedRunning(Shared):
    """Concurrency. Its words: the total, and each worker's own in its column."""

    __slots__ = ("column", "held", "most", "own", "total", "words")

    def __init__(self, bound: Bound, table: Table) -> None:
        self.name = digest(bound.name, CONCURRENCY)
        self.key = self.name[0]
        self.words, self.column = table.words, table.column
        self.held = 0
        self.adopt(bound, 0)

    def placed(self, at: int) -> None:
        self.at = at
        self.own = at + self.column
        self.total = at + TOTAL
        self.held = self.words[self.own]

    def adopt(self, bound: Bound, now: int) -> None:
        self.bound = bound
        self.most = min(bound.amount, FAR)

    def take(self, n: int, hold: str, now: int) -> bool:
        words = self.words
        running = words[self.total] + n
        if running > self.most:
            return False
        self.held += n
        words[self.own] = self.held
        words[self.total] = running
        return True

    def settle(self, taken: int, used: int, hold: str, now: int) -> None:
        words = self.words
        given = taken if taken < self.held else self.held
        self.held -= given
        words[self.own] = self.held
        running = words[self.total] - given
        words[self.total] = running if running > 0 else 0

    def reached(self, n: int, now: int) -> Reached:
        return Reached(self.bound, self.words[self.total], AGAIN if n <= self.bound.amount else None)

    def stands(self, now: int) -> Stand:
        running = self.words[self.total]
        return running, SOON if running else 0

    def empty(self, now: int) -> bool:
        return not self.held


class SharedPurse(Shared):
    """A budget. Its words: spent, the period's start and end, the total reserved; each worker's own in its column.

    What a hold has reserved is known to its worker alone, and is of the period in `start`.
    """

    __slots__ = (
        "calendar", "held", "holds", "memory", "most", "offset", "own", "start", "table", "total", "wall", "words",
    )  # fmt: skip

    def __init__(self, bound: Bound, table: Table, calendar: Calendar) -> None:
        self.name = digest(f"{bound.name}/{bound.period}", BUDGET)
        self.key = self.name[0]
        self.table = table
        self.memory, self.words = table.memory, table.words
        self.calendar = calendar
        self.wall = calendar.wall
        self.adopt(bound, 0)
        self.start = self.held = 0
        self.holds: dict[str, int] = {}

    def placed(self, at: int) -> None:
        self.at = at
        self.offset = (at + OWN) * WORD
        self.own = at + self.table.column
        self.total = at + TOTAL
        self.start = 0  # whatever was held there has gone with the old slot, which was empty

    def adopt(self, bound: Bound, now: int) -> None:
        self.bound = bound
        self.most = min(bound.amount, FAR)

    def _sums(self) -> tuple[int, int]:
        """Spent and reserved, in the present period."""
        spent, start, end, reserved = _READ(self.memory, self.offset)
        if end <= self.wall():
            begins, ends = self.calendar.present(self.bound.period)
            if begins > start:
                self.table.clear_columns(self.at)
                spent, start, reserved = 0, begins, 0
                _WRITE(self.memory, self.offset, spent, start, ends, reserved)
        if start != self.start:
            self.start = start
            self.holds.clear()
            self.held = 0
        return spent, reserved

    def take(self, n: int, hold: str, now: int) -> bool:
        spent, reserved = self._sums()
        if spent + reserved + n > self.most:
            return False
        self.holds[hold] = self.holds.get(hold, 0) + n
        self.held += n
        words = self.words
        words[self.own] = self.held
        words[self.total] = reserved + n
        return True

    def settle(self, taken: int, used: int, hold: str, now: int) -> None:
        spent, reserved = self._sums()
        words = self.words
        given = self.holds.pop(hold, 0)
        if given > taken:
            self.holds[hold] = given - taken
            given = taken
        self.held -= given
        words[self.own] = self.held
        words[self.total] = reserved - given if reserved > given else 0
        words[self.at + OWN] = min(spent + used, FAR)

    def reached(self, n: int, now: int) -> Reached:
        never = n > self.bound.amount
        return Reached(self.bound, sum(self._sums()), None if never else self.calendar.left(self._end()))

    def stands(self, now: int) -> Stand:
        return sum(self._sums()), self.calendar.ahead(self._end())

    def _end(self) -> int:
        return int(_READ(self.memory, self.offset)[2])

    def seed(self, used: int) -> None:
        spent, _ = self._sums()
        self.words[self.at + OWN] = min(max(spent, used), FAR)

    def empty(self, now: int) -> bool:
        return not self.holds
