"""How full each bound was when Redis last said it: what headers tell, and what a Redis that lost it is told again.

A rate is remembered as long as it holds something, a budget until its period ends. What a budget has spent only grows.
"""

from typing import Final

from router.bounds import Level, Reached
from router.stores.buckets import AGAIN, FAR, poured, units
from router.stores.redis.clock import MICRO, Clock
from router.stores.redis.places import Place

MANY: Final = 16_384  # beyond, what says nothing any more is dropped

State = tuple[int, int, int, Place]  # at and rest, or spent and held; at what time


class Seen:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._states: dict[str, State] = {}

    def hear(self, place: Place, first: int, second: int, now: int) -> None:
        """Answers may come in another order than they were given in."""
        before = self._states.get(place.key)
        if before is not None and not place.rate:
            first = max(first, before[0])
        if before is None or now >= before[2]:
            if before is None and len(self._states) >= MANY:
                self._drop()
            self._states[place.key] = (first, second, now, place)

    def at_least(self, place: Place, spent: int) -> None:
        before = self._states.get(place.key)
        held, now = (before[1], before[2]) if before else (0, 0)
        if before is None or before[0] < spent:
            self._states[place.key] = (spent, held, now, place)

    def of(self, place: Place) -> tuple[int, int]:
        state = self._states.get(place.key)
        return (state[0], state[1]) if state is not None else (0, 0)

    def floors(self) -> list[tuple[Place, int, int]]:
        """All that a Redis which knows nothing must be told."""
        self._drop()
        return [(place, first, second) for first, second, _, place in self._states.values() if first or place.rate]

    def _drop(self) -> None:
        now = self._clock.now()
        for key, (first, second, _, place) in list(self._states.items()):
            over = first <= now if place.rate else not (first or second) or place.end * MICRO <= now
            if over:
                del self._states[key]

    def level(self, place: Place) -> Level:
        now = self._clock.now()
        first, second = self.of(place)
        if place.rate:
            used = units(first, second, now, place.amount, place.span)
            return Level(used, max(0, first - now) / MICRO)
        if place.bound.kind == "concurrency":
            return Level(second, AGAIN if second else 0.0)
        return Level(first + second, self.left(place, now))

    def reached(self, place: Place, n: int, first: int, second: int, now: int) -> Reached:
        bound = place.bound
        if place.rate:
            wait = until_room(place, n, first, second, now)
            return Reached(bound, units(first, second, now, place.amount, place.span), wait)
        if n > bound.amount:
            return Reached(bound, first + second, None)
        wait = AGAIN if bound.kind == "concurrency" else self.left(place, now)
        return Reached(bound, first + second, wait)

    def full(self, place: Place, n: int, unsaid: int) -> Reached | None:
        """A rate that has no room for `n`, as Redis last said. `unsaid`: what it has not heard of; of that only what
        was given back is believed, for the rest has had time to run off.
        """
        now = self._clock.now()
        first, second = self.of(place)
        if (first or second) and until_room(place, n + min(0, unsaid), first, second, now):
            return self.reached(place, n, first, second, now)
        return None

    @staticmethod
    def left(place: Place, now: int) -> float | None:
        return None if place.end >= FAR else max(0.0, place.end - now / MICRO)


def until_room(place: Place, n: int, at: int, rest: int, now: int) -> float | None:
    if n > place.bound.amount:
        return None
    at, rest = poured(at, rest, now, n, place.amount, place.span)
    return max(0, at + (rest > 0) - now - place.span) / MICRO
