"""What has happened here and Redis has not heard yet: added up by bound, so that an outage of any length stays small.

Units of rates and money are sums; what is reserved or running is one entry a hold, gone when the hold ends unheard of.
A `Batch` that is cut from it never changes: it is told under its number until Redis says that it heard.
"""

from collections.abc import Iterable
from typing import Any, Final

from router.stores.redis.places import BORN, PREFIX, Place, mark_of, most, poured
from router.stores.redis.seen import Seen

LARGEST: Final = 256  # entries of one script's call: well below a millisecond

Hold = tuple[str, str]  # a place's key, and the hold
Void = tuple[str, list[tuple[Place, int]]]  # a hold whose taking got no answer, and what it would have taken


class Batch:
    """The keys and the message of one call of TELL. `here`: how many takings of this replica alone it makes known."""

    def __init__(self, number: int, replica: str) -> None:
        self.number = number
        self.keys: list[str] = [f"{PREFIX}s:{replica}", BORN]
        self.places: dict[int, Place] = {}
        self._index: dict[str, int] = {}
        self.spent: dict[str, int] = {}
        self.rated: dict[str, int] = {}
        self.here = 0
        self.voids: list[Any] = []
        self.floors: list[Any] = []
        self.rates: list[Any] = []
        self.spends: list[Any] = []
        self.frees: list[Any] = []
        self.puts: list[Any] = []
        self.marks: list[int] = []

    def __len__(self) -> int:
        parts = self.voids, self.floors, self.rates, self.spends, self.frees, self.puts, self.marks
        return sum(len(part) for part in parts)

    def sums(self) -> bool:
        """Only what adds up is left in it, if anything: a Redis that knows of no hold need not hear of its end."""
        for part in (self.voids, self.floors, self.frees, self.puts, self.marks):
            part.clear()
        return bool(self.rates or self.spends)

    def message(self, ttl_ms: int) -> list[Any]:
        return [
            self.number, ttl_ms, self.voids, self.floors, self.rates, self.spends, self.frees, self.puts, self.marks,
        ]  # fmt: skip

    def key(self, key: str) -> int:
        found = self._index.get(key)
        if found is None:
            self.keys.append(key)
            found = self._index[key] = len(self.keys)
        return found

    def place(self, place: Place) -> int:
        found = self._index.get(place.key)
        if found is None:
            found = self.key(place.key)
            self.places[found] = place
            if place.queue:
                self.keys.append(place.queue)  # always the next one
        return found

    def void(self, void: Void) -> None:
        hold, taken = void
        rates = [(self.place(p), *poured(p, -n), p.amount, p.span) for p, n in taken if p.rate]
        queues = [self.place(p) for p, _ in taken if not p.rate]
        self.voids.append((self.key(mark_of(hold)), self.place(taken[0][0]), hold, rates, queues))

    def floor(self, place: Place, first: int, second: int) -> None:
        if place.rate:
            self.floors.append((self.place(place), 1, first, second, place.amount, place.span))
        elif first:
            self.floors.append((self.place(place), 0, first, place.till))

    def rate(self, place: Place, n: int, seen: Seen) -> None:
        self.rates.append((self.place(place), *poured(place, n), place.amount, place.span, *seen.of(place)))
        self.rated[place.key] = n

    def spend(self, place: Place, n: int, seen: Seen) -> None:
        self.spends.append((self.place(place), n, seen.of(place)[0], place.till))
        self.spent[place.key] = n

    def put(self, place: Place, hold: str, n: int, expires: int) -> None:
        self.puts.append((self.place(place), hold, n, expires, place.till))


class Pending:
    def __init__(self) -> None:
        self.voids: list[Void] = []
        self.floors: dict[str, tuple[Place, int]] = {}
        self.rates: dict[str, tuple[Place, int]] = {}
        self.spends: dict[str, tuple[Place, int]] = {}
        self.frees: dict[Hold, Place] = {}
        self.puts: dict[Hold, tuple[Place, int, int]] = {}
        self.marks: dict[str, None] = {}
        self.here = 0

    def any(self, sums: bool) -> bool:
        others = self.voids or self.floors or self.frees or self.puts or self.marks
        return bool(others or (sums and (self.rates or self.spends)))

    def rate(self, place: Place, n: int) -> None:
        before = self.rates.get(place.key)
        self.rates[place.key] = (place, n if before is None else before[1] + n)

    def spend(self, place: Place, n: int) -> None:
        before = self.spends.get(place.key)
        self.spends[place.key] = (place, n if before is None else before[1] + n)

    def free(self, place: Place, hold: str) -> None:
        """Where Redis was never told that it is held, it need not be told that it is not."""
        if self.puts.pop((place.key, hold), None) is None:
            self.frees[place.key, hold] = place

    def cut(self, number: int, replica: str, seen: Seen, sums: bool = True) -> Batch:
        """As much of it as one call may carry, in an order in which what was lost goes before what replaces it. `sums`:
        those too.
        """
        batch = Batch(number, replica)
        batch.here, self.here = self.here, 0
        voids, self.voids = self.voids[:LARGEST], self.voids[LARGEST:]
        for void in voids:
            batch.void(void)
        for place, used in _first(self.floors, batch):
            batch.floor(place, used, 0)
        for place, n in _first(self.rates, batch) if sums else ():
            batch.rate(place, n, seen)
        for place, n in _first(self.spends, batch) if sums else ():
            batch.spend(place, n, seen)
        while self.frees and len(batch) < LARGEST:
            (_, hold), place = self.frees.popitem()
            batch.frees.append((batch.place(place), hold))
        while self.puts and len(batch) < LARGEST and not self.voids:
            (_, hold), (place, n, expires) = self.puts.popitem()
            batch.put(place, hold, n, expires)
        while self.marks and len(batch) < LARGEST and not self.voids:
            batch.marks.append(batch.key(mark_of(self.marks.popitem()[0])))
        return batch


def _first(part: dict[str, tuple[Place, int]], batch: Batch) -> Iterable[tuple[Place, int]]:
    while part and len(batch) < LARGEST:
        yield part.popitem()[1]


def asking(place: Place, n: int, index: int, seen: Seen) -> tuple[int, ...]:
    """A bound as TAKE reads it."""
    first, second = seen.of(place)
    if place.rate:
        return (1, index, *poured(place, n), place.amount, place.span, most(place), first, second)
    return (0, index, n, place.bound.amount, first, place.till)
