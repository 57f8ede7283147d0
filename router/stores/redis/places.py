"""Where a bound is counted in Redis: its keys, and what it comes to in whole numbers.

All keys share one hash tag, so that a cluster has them in one place and a script may touch several. A budget's key
carries the first second of its period: the next one is another key, and the old one goes a day after its end. Which
period it is says Redis' clock as it was last heard: the same for all replicas, with keys that can be named beforehand,
which a script that computed them could not.
"""

import hashlib
from typing import Final

import msgspec

from router.bounds import Bound
from router.stores.buckets import FAR, Calendar
from router.stores.redis.clock import MICRO

PREFIX: Final = "{router}:"
BORN: Final = PREFIX + "born"  # the name of this Redis' data: another one means that it was lost
LONGEST: Final = 200  # bytes of a name; beyond, its digest
PLACES: Final = 65_536
DAY: Final = 86_400
WIDEST: Final = 2**50  # microseconds that a bucket may take to drain: 36 years


class Place(msgspec.Struct, eq=False, gc=False):
    """`queue`: of what is held, by when it expires. `till`: until when its keys last, in ms of 1970; -1: as long as
    what is held in them; 0: for ever. `end`: of its period.
    """

    bound: Bound
    rate: bool
    key: str
    queue: str
    amount: int
    span: int = 0
    end: int = FAR
    till: int = -1


def key_of(kind: str, name: str) -> str:
    if len(name) * 4 > LONGEST and len(name.encode()) > LONGEST:
        name = "#" + hashlib.sha256(name.encode()).hexdigest()
    return f"{PREFIX}{kind}:{name}"


def mark_of(hold: str) -> str:
    return key_of("h", hold)


class Places:
    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self._wall = calendar.wall
        self._places: dict[str, Place] = {}

    def of(self, bound: Bound) -> Place:
        place = self._places.get(bound.name)
        if place is None or (place.bound is not bound and place.bound != bound):
            return self._made(bound)
        if place.end < FAR and self._wall() >= place.end:
            return self._made(bound)
        return place

    def _made(self, bound: Bound) -> Place:
        if len(self._places) >= PLACES:
            self._places.clear()
        place = self._places[bound.name] = self._place(bound)
        return place

    def _place(self, bound: Bound) -> Place:
        if bound.kind == "concurrency":
            return Place(bound, False, key_of("c", bound.name), key_of("cx", bound.name), bound.amount)
        if bound.kind != "budget":
            span = min(max(1, round(bound.seconds * MICRO)), WIDEST)
            return Place(bound, True, key_of("r", bound.name), "", max(1, bound.amount), span)
        start, end = self.calendar.present(bound.period)
        till = 0 if end >= FAR else (end + DAY) * 1000
        name = f"{bound.name}@{start}"
        return Place(bound, False, key_of("b", name), key_of("bx", name), bound.amount, 0, end, till)


def poured(place: Place, n: int) -> tuple[int, int]:
    """What `n` units move a bucket by, as a script adds it."""
    return divmod(n * place.span, place.amount)


def most(place: Place) -> int:
    """How far ahead it may stand; where nothing is allowed, nowhere."""
    return place.span if place.bound.amount > 0 else -1
