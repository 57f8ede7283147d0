"""Limits counted in this process alone: for a router of one worker, where it is exact.

One slot for each bound that has been asked for, of the kind that the bound is. Names come from tenants too, so slots
that hold nothing are swept out where there are very many; one that holds something never is.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from router.bounds import Asked, Bound, Held, Level, Reached
from router.stores.buckets import AGAIN, SOON, Calendar, Stand, level_of, measures, rescaled, units, until_room

MANY: Final = 65_536  # slots; beyond, empty ones are looked for
SWEPT: Final = 8  # slots looked at for each that is new
GONE: Final = Bound("", "tenant", "", "requests", 0)  # whose a slot is that was swept out: who has it finds another


class Slot:
    """What one bound has come to. A class and no Protocol: compiled, its methods are found without their names."""

    __slots__ = ("bound",)

    bound: Bound

    def adopt(self, bound: Bound, now: int) -> None:
        """The bound has new terms: what was used stays used."""
        self.bound = bound

    def take(self, n: int, hold: str, now: int) -> bool:
        """Whether so much fits; then it is taken."""
        raise NotImplementedError

    def settle(self, taken: int, used: int, hold: str, now: int) -> None:
        """With `used` 0 it undoes what was taken."""
        raise NotImplementedError

    def reached(self, n: int, now: int) -> Reached:
        raise NotImplementedError

    def stands(self, now: int) -> Stand:
        raise NotImplementedError

    def seed(self, used: int) -> None:
        """What was used before; only a budget remembers."""

    def empty(self, now: int) -> bool:
        raise NotImplementedError


class Bucket(Slot):
    """A rate."""

    __slots__ = ("amount", "at", "most", "rest", "span")

    def __init__(self, bound: Bound) -> None:
        self.bound = bound
        self.at = self.rest = 0
        self.amount, self.span, self.most = measures(bound)

    def adopt(self, bound: Bound, now: int) -> None:
        old = self.amount, self.span
        self.bound = bound
        self.amount, self.span, self.most = measures(bound)
        if old != (self.amount, self.span):
            self.at, self.rest = rescaled(self.at, self.rest, now, old, (self.amount, self.span))

    def take(self, n: int, hold: str, now: int) -> bool:
        at, rest = self.at, self.rest  # `poured`, at its place: each request comes by here
        if at < now:
            at, rest = now, 0
        moved, rest = divmod(n * self.span + rest, self.amount)
        at += moved
        if at + (rest > 0) - now > self.most:
            return False
        self.at, self.rest = at, rest
        return True

    def settle(self, taken: int, used: int, hold: str, now: int) -> None:
        if taken == used:
            return
        at, rest = self.at, self.rest  # `poured` again
        if at < now:
            at, rest = now, 0
        moved, rest = divmod((used - taken) * self.span + rest, self.amount)
        at += moved
        self.at, self.rest = (at, rest) if at >= now else (now, 0)

    def reached(self, n: int, now: int) -> Reached:
        moment = self.at, self.rest
        wait = until_room(*moment, now, n, self.amount, self.span) if self.bound.amount > 0 else None
        return Reached(self.bound, units(*moment, now, self.amount, self.span), wait)

    def stands(self, now: int) -> Stand:
        ahead = self.at - now
        return (-((-ahead * self.amount - self.rest) // self.span), ahead) if ahead >= 0 else (0, 0)

    def empty(self, now: int) -> bool:
        return self.at <= now


class Running(Slot):
    """Concurrency."""

    __slots__ = ("most", "running")

    def __init__(self, bound: Bound) -> None:
        self.adopt(bound, 0)
        self.running = 0

    def adopt(self, bound: Bound, now: int) -> None:
        self.bound = bound
        self.most = bound.amount

    def take(self, n: int, hold: str, now: int) -> bool:
        running = self.running + n
        if running > self.most:
            return False
        self.running = running
        return True

    def settle(self, taken: int, used: int, hold: str, now: int) -> None:
        running = self.running - taken
        self.running = running if running > 0 else 0

    def reached(self, n: int, now: int) -> Reached:
        return Reached(self.bound, self.running, AGAIN if n <= self.bound.amount else None)

    def stands(self, now: int) -> Stand:
        return self.running, SOON if self.running else 0

    def empty(self, now: int) -> bool:
        return not self.running


class Purse(Slot):
    """A budget. What is reserved is kept by hold, so that one of a period that has ended frees nothing in the next."""

    __slots__ = ("calendar", "end", "holds", "reserved", "spent", "wall")

    def __init__(self, bound: Bound, calendar: Calendar) -> None:
        self.bound = bound
        self.calendar = calendar
        self.wall = calendar.wall
        self.end = self.spent = self.reserved = 0
        self.holds: dict[str, int] = {}
        self._turn()

    def _turn(self) -> None:
        self.end = self.calendar.present(self.bound.period)[1]
        self.spent = self.reserved = 0
        self.holds.clear()

    def take(self, n: int, hold: str, now: int) -> bool:
        if self.wall() >= self.end:
            self._turn()
        if self.spent + self.reserved + n > self.bound.amount:
            return False
        self.reserved += n
        self.holds[hold] = self.holds.get(hold, 0) + n
        return True

    def settle(self, taken: int, used: int, hold: str, now: int) -> None:
        if self.wall() >= self.end:
            self._turn()
        held = self.holds.pop(hold, 0)
        if held > taken:
            self.holds[hold] = held - taken
            self.reserved -= taken
        else:
            self.reserved -= held
        self.spent += used

    def reached(self, n: int, now: int) -> Reached:
        never = n > self.bound.amount
        return Reached(self.bound, self.spent + self.reserved, None if never else self.calendar.left(self.end))

    def stands(self, now: int) -> Stand:
        if self.wall() >= self.end:
            self._turn()
        return self.spent + self.reserved, self.calendar.ahead(self.end)

    def seed(self, used: int) -> None:
        if self.wall() >= self.end:
            self._turn()
        self.spent = max(self.spent, used)

    def empty(self, now: int) -> bool:
        return self.wall() >= self.end or not (self.spent or self.holds)


S = TypeVar("S", bound=Slot)


def seen(slots: dict[str, S], bound: Bound) -> tuple[str, S | None]:
    """The slot of a bound, and what it is called there: a budget of another period than the first seen is another."""
    name = bound.name
    slot = slots.get(name)
    if slot is not None and slot.bound.period != bound.period:
        name = f"{name}/{bound.period}"
        slot = slots.get(name)
    return name, slot


class Broom:
    """Takes empty slots out of `slots` once there are `many`: a few at each new one, so none pays for all."""

    def __init__(self, slots: dict[str, Any], many: int) -> None:
        self._slots = slots
        self._many = many
        self._unseen: Iterator[str] = iter(())

    def sweep(self, now: int) -> None:
        if len(self._slots) < self._many:
            return
        for _ in range(SWEPT):
            name = next(self._unseen, None)
            if name is None:
                self._unseen = iter(list(self._slots))
            elif (slot := self._slots.get(name)) is not None and slot.empty(now):
                del self._slots[name]
                slot.bound = GONE


class MemoryGrip:
    """Slots found once; one that was swept out since, or has other terms, is looked for again."""

    def __init__(self, store: "MemoryStore", held: Held) -> None:
        self._store = store
        self._clock = store._clock
        now = self._clock()
        self._rows = [(store.slot(bound, now), bound, taken, kind) for bound, taken, kind in held]

    def _again(self, bound: Bound, now: int) -> Slot:
        slot = self._store.slot(bound, now)
        self._rows = [(slot, slot.bound, *row[2:]) if row[1] is bound else row for row in self._rows]
        return slot

    def settle(self, used: Sequence[int], hold: str) -> None:
        now = self._clock()
        for slot, bound, taken, kind in self._rows:
            if slot.bound is not bound:
                slot = self._again(bound, now)
            slot.settle(taken, used[kind], hold, now)

    def room(self, unused: int) -> list[Stand]:
        now = self._clock()
        found: list[Stand] = []
        for slot, bound, taken, _ in self._rows:
            if slot.bound is not bound:
                slot = self._again(bound, now)
            used, ahead = slot.stands(now)
            left = bound.amount - used + taken * unused
            if not 0 <= left <= bound.amount:  # what was taken for many drains, too
                left = 0 if left < 0 else bound.amount
            found.append((left, ahead))
        return found


class MemoryStore:
    """Counts for this process."""

    remote = False

    def __init__(
        self,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        wall: Callable[[], float] = time.time,
        many: int = MANY,
    ) -> None:
        self._clock = clock_ns
        self._calendar = Calendar(wall)
        self._slots: dict[str, Slot] = {}
        self._broom = Broom(self._slots, many)

    def take(self, asked: Asked, hold: str) -> Reached | None:
        now = self._clock()
        slots = self._slots
        for done, (bound, n) in enumerate(asked):
            slot = slots.get(bound.name)
            if slot is None or slot.bound is not bound:
                slot = self.slot(bound, now)
            if not slot.take(n, hold, now):
                reached = slot.reached(n, now)  # now: it may be swept out by what follows
                for other, taken in asked[:done]:
                    self.slot(other, now).settle(taken, 0, hold, now)
                return reached
        return None

    def settle(self, held: Held, hold: str) -> None:
        now = self._clock()
        slots = self._slots
        for bound, taken, used in held:
            slot = slots.get(bound.name)
            if slot is None or slot.bound is not bound:
                slot = self.slot(bound, now)
            slot.settle(taken, used, hold, now)

    def add(self, bound: Bound, amount: int) -> None:
        now = self._clock()
        if bound.kind != "concurrency":
            self.slot(bound, now).settle(0, amount, "", now)

    def level(self, bound: Bound) -> Level:
        now = self._clock()
        slot = self._slots.get(bound.name)
        if slot is not None and slot.bound is bound:
            return level_of(slot.stands(now))
        _, slot = seen(self._slots, bound)
        if slot is None:
            slot = self._made(bound)
        elif slot.bound != bound:
            slot.adopt(bound, now)
        return level_of(slot.stands(now))

    def grip(self, held: Held) -> MemoryGrip:
        return MemoryGrip(self, held)

    def seed(self, bound: Bound, used: int) -> None:
        self.slot(bound, self._clock()).seed(used)

    def holds(self, bound: Bound) -> bool:
        _, slot = seen(self._slots, bound)
        return slot is not None and not slot.empty(self._clock())

    def slot(self, bound: Bound, now: int) -> Slot:
        name, slot = seen(self._slots, bound)
        if slot is None:
            self._broom.sweep(now)
            slot = self._slots[name] = self._made(bound)
        elif slot.bound != bound:  # the keys of a tenant have a bound each, which says the same
            slot.adopt(bound, now)
        return slot

    def _made(self, bound: Bound) -> Slot:
        if bound.kind == "budget":
            return Purse(bound, self._calendar)
        return Running(bound) if bound.kind == "concurrency" else Bucket(bound)
