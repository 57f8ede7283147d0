"""Limits counted for all workers of a host, exactly, without a server: in memory that they share (`table`).

Each take and each settling is one step under one lock, so several bounds cannot wait for each other. What runs and what
is reserved stands in a column for each worker, which dies with it; rates and what is spent stay. Where the table has no
room left, a bound is counted in this worker alone (`alone` says how often), and where a worker is stopped while it has
the lock, the others go on without (`unlocked`).
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from router.bounds import Asked, Bound, Held, Level, Reached
from router.stores.buckets import Calendar, Stand, level_of
from router.stores.lock import ROBUST
from router.stores.memory import GONE, MANY, Broom, MemoryStore, Slot, seen
from router.stores.shared import Shared, SharedBucket, SharedPurse, SharedRunning
from router.stores.table import SLOTS, Table


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
                    slot = self.slot(bound, now)
                else:
                    slot = place
                if not slot.take(n, hold, now):
                    reached = slot.reached(n, now)  # now: it may be swept out by what follows
                    for other, taken in asked[:done]:
                        self.slot(other, now).settle(taken, 0, hold, now)
                    return reached
        return None

    def settle(self, held: Held, hold: str) -> None:
        now = self._clock()
        places, words = self._places, self._words
        with self._lock:
            for bound, taken, used in held:
                place = places.get(bound.name)
                if place is None or place.bound is not bound or words[place.at] != place.key:
                    slot = self.slot(bound, now)
                else:
                    slot = place
                slot.settle(taken, used, hold, now)

    def add(self, bound: Bound, amount: int) -> None:
        if bound.kind != "concurrency":
            self.settle(((bound, 0, amount),), "")

    def level(self, bound: Bound) -> Level:
        now = self._clock()
        with self._lock:
            return level_of(self.slot(bound, now).stands(now))

    def grip(self, held: Held) -> "HostGrip":
        return HostGrip(self, held)

    def seed(self, bound: Bound, used: int) -> None:
        with self._lock:
            self.slot(bound, self._clock()).seed(used)

    def slot(self, bound: Bound, now: int) -> Slot:
        """Where it is counted: in the table, or in this worker's memory for as long as that holds something of it."""
        name, place = seen(self._places, bound)
        if place is None:
            place = None if self._memory.holds(bound) else self._made(bound)
        else:
            if place.bound != bound:
                place.adopt(bound, now)
            if self._words[place.at] == place.key:  # 62 bits: enough, at one position, to tell names apart
                return place
        at = None if place is None else self._table.find(place.name, now, self._calendar.wall())
        if place is None or at is None:
            self.alone += 1
            if self._places.pop(name, None) is not None and place is not None:
                place.bound = GONE
            return self._memory.slot(bound, now)
        place.placed(at)
        self._places.pop(name, None)  # where the broom would find it
        self._broom.sweep(now)
        self._places[name] = place
        return place

    def _made(self, bound: Bound) -> Shared:
        if bound.kind == "budget":
            return SharedPurse(bound, self._table, self._calendar)
        return SharedRunning(bound, self._table) if bound.kind == "concurrency" else SharedBucket(bound, self._table)


class HostGrip:
    """Places in the table found once; one that was swept out since, given away or has other terms is looked for again.
    So is, each time, what has no place there.
    """

    def __init__(self, store: HostStore, held: Held) -> None:
        self._store = store
        self._rows: list[tuple[Shared | None, Bound, int, int]] = [(None, *each) for each in held]

    def _again(self, bound: Bound, now: int) -> Slot:
        slot = self._store.slot(bound, now)
        place = slot if isinstance(slot, Shared) else None
        self._rows = [(place, slot.bound, *row[2:]) if row[1] is bound else row for row in self._rows]
        return slot

    def settle(self, used: Sequence[int], hold: str) -> None:
        store, now = self._store, self._store._clock()
        words = store._words
        with store._lock:
            for place, bound, taken, kind in self._rows:
                if place is None or place.bound is not bound or words[place.at] != place.key:
                    self._again(bound, now).settle(taken, used[kind], hold, now)
                else:
                    place.settle(taken, used[kind], hold, now)

    def room(self, unused: int) -> list[Stand]:
        store, now = self._store, self._store._clock()
        words = store._words
        found: list[Stand] = []
        with store._lock:
            for place, bound, taken, _ in self._rows:
                if place is None or place.bound is not bound or words[place.at] != place.key:
                    used, ahead = self._again(bound, now).stands(now)
                else:
                    used, ahead = place.stands(now)
                left = bound.amount - used + taken * unused
                if not 0 <= left <= bound.amount:  # what was taken for many drains, too
                    left = 0 if left < 0 else bound.amount
                found.append((left, ahead))
        return found
