"""Limits counted for all workers of a host, exactly, without a server: in memory that they share (`table`).

Each take and each settling is one step under one lock, so several bounds cannot wait for each other. What runs and what
is reserved stands in a column for each worker, which dies with it; rates and what is spent stay. Where the table has no
room left, a bound is counted in this worker alone (`alone` says how often), and where a worker is stopped while it has
the lock, the others go on without (`unlocked`).
"""

import time
from collections.abc import Callable
from pathlib import Path

from router.bounds import Asked, Bound, Held, Level, Reached
from router.stores.buckets import Calendar
from router.stores.lock import ROBUST
from router.stores.memory import MANY, Broom, MemoryStore, Slot, seen
from router.stores.shared import SharedBucket, SharedPurse, SharedRunning
from router.stores.table import SLOTS, Table

Shared = SharedBucket | SharedRunning | SharedPurse


class HostStore:
    """`path` is the same for all `count` workers of a host, and the first makes the file; `index` is this one's."""

    remote = False

    def __init__(
        self,
        path: Path,
        index: int,
        count: int,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        wall: Callable[[], float] = time.time,
        slots: int = SLOTS,
        robust: bool = ROBUST,
    ) -> None:
        self.alone = 0
        self._clock = clock_ns
        self._calendar = Calendar(wall)
        self._table = Table(path, index, count, slots, robust)
        self._words = self._table.words
        self._lock = self._table.lock
        self._places: dict[str, Shared] = {}
        self._broom = Broom(self._places, MANY)
        self._memory = MemoryStore(clock_ns, wall)

    @property
    def unlocked(self) -> int:
        return self._lock.missed

    def close(self) -> None:
        self._table.close()

    def take(self, asked: Asked, hold: str) -> Reached | None:
        now = self._clock()
        places, words = self._places, self._words
        with self._lock:
            for done, (bound, n) in enumerate(asked):
                place = places.get(bound.name)
                if place is None or place.bound is not bound or words[place.at] != place.key:
                    slot = self._slot(bound, now)
                else:
                    slot = place
                if not slot.take(n, hold, now):
                    for other, taken in asked[:done]:
                        self._slot(other, now).settle(taken, 0, hold, now)
                    return slot.reached(n, now)
        return None

    def settle(self, held: Held, hold: str) -> None:
        now = self._clock()
        places, words = self._places, self._words
        with self._lock:
            for bound, taken, used in held:
                place = places.get(bound.name)
                if place is None or place.bound is not bound or words[place.at] != place.key:
                    slot = self._slot(bound, now)
                else:
                    slot = place
                slot.settle(taken, used, hold, now)

    def add(self, bound: Bound, amount: int) -> None:
        if bound.kind != "concurrency":
            self.settle(((bound, 0, amount),), "")

    def level(self, bound: Bound) -> Level:
        now = self._clock()
        with self._lock:
            return self._slot(bound, now).level(now)

    def seed(self, bound: Bound, used: int) -> None:
        with self._lock:
            self._slot(bound, self._clock()).seed(used)

    def _slot(self, bound: Bound, now: int) -> Slot:
        """Where it is counted: in the table, or in this worker's memory for as long as that holds something of it."""
        name, place = seen(self._places, bound)
        if place is None:
            place = None if self._memory.holds(bound) else self._made(bound)
        else:
            if place.bound is not bound:
                place.adopt(bound, now)
            if self._words[place.at] == place.key:  # 62 bits: enough, at one position, to tell names apart
                return place
        at = None if place is None else self._table.find(place.name, now, self._calendar.wall())
        if place is None or at is None:
            self.alone += 1
            self._places.pop(name, None)
            return self._memory.slot(bound, now)
        place.placed(at)
        self._broom.sweep(now)
        self._places[name] = place
        return place

    def _made(self, bound: Bound) -> Shared:
        if bound.kind == "budget":
            return SharedPurse(bound, self._table, self._calendar)
        return SharedRunning(bound, self._table) if bound.kind == "concurrency" else SharedBucket(bound, self._table)
