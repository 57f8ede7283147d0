"""The arithmetic of limits, for every store that counts here: whole numbers in, whole numbers out, no clock, no state.

A rate is a bucket that drains evenly (GCRA). All that is kept of it is the moment at which it will be empty, `at`
nanoseconds and `rest` parts of a nanosecond, of which there are `amount`: so nothing is ever rounded, exactly `amount`
units fit at once, and not one more. `span` is the time in which a full one drains. A budget's period is a stretch of
the calendar in UTC, named by its first second.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from router.bounds import NANO, Bound, Level

FAR: Final = 2**62  # for ever, in seconds or nanoseconds; nothing that is counted goes above it, so it fits in 8 bytes
LONGEST: Final = 2**60  # nanoseconds that a bucket may take to drain: 36 years
AGAIN: Final = 1.0  # seconds after which to ask whether a running request has ended; nobody knows

SOON: Final = round(AGAIN * NANO)

Moment = tuple[int, int]  # at, rest
Stand = tuple[int, int]  # how much is used, or left, and in how many nanoseconds it is empty; FAR: never


def measures(bound: Bound) -> tuple[int, int, int]:
    """A rate's amount and span, to count with, and how far ahead it may stand; where nothing is allowed: nowhere."""
    span = min(max(1, round(bound.seconds * NANO)), LONGEST)
    return min(max(1, bound.amount), FAR), span, span if bound.amount > 0 else -1


def poured(at: int, rest: int, now: int, n: int, amount: int, span: int) -> Moment:
    """A bucket with `n` more in it, or fewer; it is never less than empty."""
    if at < now:
        at, rest = now, 0
    moved, rest = divmod(n * span + rest, amount)
    at += moved
    return (at, rest) if at >= now else (now, 0)


def units(at: int, rest: int, now: int, amount: int, span: int) -> int:
    """What is in it, each unit that has begun to drain counted whole."""
    return -((-(at - now) * amount - rest) // span) if at >= now else 0


def until_room(at: int, rest: int, now: int, n: int, amount: int, span: int) -> float | None:
    """Seconds until `n` fit; None: they never do."""
    if n > amount:
        return None
    at, rest = poured(at, rest, now, n, amount, span)
    return max(0, at + (rest > 0) - now - span) / NANO


def rescaled(at: int, rest: int, now: int, old: tuple[int, int], new: tuple[int, int]) -> Moment:
    """The same units in a bucket of another amount and span."""
    if at < now:
        return now, 0
    amount, span = new
    moved, left = divmod(((at - now) * old[0] + rest) * span, old[1] * amount)
    return now + moved, left // old[1]


def level_of(stand: Stand) -> Level:
    used, ahead = stand
    return Level(used, None if ahead >= FAR else ahead / NANO)


def stretch(period: str, wall: float) -> tuple[int, int]:
    """The calendar's period around a moment: its first second, and the first after it."""
    if not period:
        return 1, FAR
    day = datetime.fromtimestamp(wall, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        start, end = day, day + timedelta(days=1)
    elif period == "week":
        start = day - timedelta(days=day.weekday())
        end = start + timedelta(days=7)
    elif period == "month":
        start = day.replace(day=1)
        end = (start + timedelta(days=31)).replace(day=1)
    else:
        start = day.replace(month=1, day=1)
        end = start.replace(year=start.year + 1)
    return int(start.timestamp()), int(end.timestamp())


class Calendar:
    """Which period it is. A wall clock that jumps back stays in the period it had come to."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self.wall = wall
        self._present: dict[str, tuple[int, int]] = {}

    def present(self, period: str) -> tuple[int, int]:
        found = self._present.get(period)
        now = self.wall()
        if found is None or now >= found[1]:
            found = self._present[period] = stretch(period, now)
        return found

    def left(self, end: int) -> float | None:
        """Seconds until then; None for ever."""
        return None if end >= FAR else max(0.0, end - self.wall())

    def ahead(self, end: int) -> int:
        """The same in nanoseconds; FAR for ever."""
        left = self.left(end)
        return FAR if left is None else min(round(left * NANO), FAR - 1)
