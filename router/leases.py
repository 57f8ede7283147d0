"""Reservations for many requests at once, where there is plenty of room: for one of them it is then a count.

Far from its limits a tenant need not have the most that each request may come to worked out and taken: room for some
dozens is taken in one go, each at the worst that such a request can be, and each of them gets a part. A part is as good
a reservation as one's own: nothing is let in that would not have been. What nobody has had for a while goes back, and
near a limit (half of it is used, or a bundle is more than a hundredth of it) there are none: there each request counts
by itself, as it does in a store that is another machine's.
"""

import asyncio
import itertools
import os
from collections.abc import Sequence
from time import monotonic
from typing import Final

import msgspec

from providers import spec
from router.bounds import Bound, Grip, Held, Local, Store
from router.call import Call
from router.permit import Estimate
from router.record import Record

BUNDLE: Final = 64  # requests
LEAST: Final = 8  # that are worth a bundle
SHARE: Final = 100  # a bundle is no more than this part of a bound
BODY: Final = 16 * 1024  # bytes of a request that a part is for
INPUT: Final = BODY // 4  # tokens
LONGEST: Final = 60.0  # seconds that a bundle is good for; it ends with the period of a budget in any case
IDLE: Final = 2.0  # seconds after which a bundle that nobody has asked for goes back
AGAIN: Final = 0.25  # seconds until it is looked again whether there is room for one
_KINDS: Final = ("concurrency", "tokens", "input_tokens", "output_tokens", "budget")
_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_SEVERAL: Final = frozenset(("n", "best_of", "prompt"))
_SAYING: Final = _SEVERAL.union(_LIMITS)
_SEMICOLON: Final = 59  # one byte is looked for much faster than a word
_int: Final[msgspec.json.Decoder[int]] = msgspec.json.Decoder(int)


class Lease:
    """What one tenant's requests for one model count against. `part`: of a bundle, for one request of at most `output`
    tokens; without parts there is no lease, and only `bounds` is of use. `open`: also for a request that does not say
    how much it wants.
    """

    __slots__ = (
        "asked_at",
        "bounds",
        "ends",
        "ends_at",
        "estimate",
        "head",
        "hold",
        "left",
        "metered",
        "open",
        "part",
        "rests_until",
        "shown",
    )

    def __init__(self, bounds: tuple[Bound, ...], metered: bool) -> None:
        self.bounds = bounds
        self.metered = metered
        self.part: tuple[tuple[Bound, int], ...] = ()
        self.ends: Grip | None = None  # of what one request gives back, by its kind's place
        self.head = b""  # how heads tell of `shown`
        self.shown: Grip | None = None
        self.estimate = Estimate()
        self.open = False
        self.left = 0
        self.hold = ""
        self.asked_at = self.ends_at = 0.0
        self.rests_until = 0.0

    def covers(self, call: Call) -> bool:
        """Whether a part is enough for it. Whoever cannot say at a glance is not covered."""
        if not self.part or len(call.body) > BODY or call.endpoint.task != spec.CONVERSATIONAL:
            return False
        if _SEMICOLON in call.body and b";base64," in call.body:  # pictures are more than their bytes
            return False
        fields = call.fields
        if _SAYING.isdisjoint(fields):
            return self.open
        if not _SEVERAL.isdisjoint(fields):
            return False
        said = False
        for name in _LIMITS:
            if name in fields:
                try:
                    if not 0 < _int.decode(fields[name]) <= self.estimate.output:
                        return False
                except msgspec.DecodeError:
                    return False
                said = True
        return said or self.open

    def unused(self, bound: Bound) -> int:
        """What of a bound's level is of its bundle, and nobody's yet."""
        return sum(amount * self.left for each, amount in self.part if each is bound)

    def settle(self, record: Record, hold: str) -> None:
        """A request that had a part has ended."""
        read, wrote = record.input_tokens, record.output_tokens
        assert self.ends is not None
        self.ends.settle((0, read + wrote, read, wrote, record.charge or 0), hold)


class Leases:
    """Those of this process, over a store that is asked without waiting."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[Lease, None] = {}  # with a bundle
        self._names = map(f"lease-{os.urandom(6).hex()}-{{}}".format, itertools.count())

    def offer(self, lease: Lease, parts: Sequence[tuple[Estimate, bool]], running: Sequence[Bound]) -> None:
        """The first of these sizes of a part that fits often enough into what there is. `running`: bounds of requests
        at once that were taken before and are given back with it.
        """
        if self._store.remote or any(each.kind not in _KINDS[1:] for each in lease.bounds):
            return
        for estimate, is_open in parts:
            part = tuple((bound, _most(bound, estimate)) for bound in lease.bounds)
            if all(amount * LEAST * SHARE <= bound.amount for bound, amount in part):
                lease.part, lease.estimate, lease.open = part, estimate, is_open
                given = [(bound, amount, _KINDS.index(bound.kind)) for bound, amount in part]
                lease.ends = self.grip((*((bound, 1, 0) for bound in running), *given))
                return

    def grip(self, held: Held) -> Grip:
        assert isinstance(self._store, Local)  # of others nothing is lent
        return self._store.grip(held)

    def takes(self, lease: Lease, now: float) -> bool:
        """A new bundle, if there is one to be had, and one part of it."""
        if now < lease.rests_until:
            return False
        if lease in self._open:
            self._give_back(lease)
        count = min([BUNDLE, *(bound.amount // SHARE // amount for bound, amount in lease.part if amount)])
        levels = [(bound, self._store.level(bound)) for bound, _ in lease.part]
        roomy = all(level.used * 2 <= bound.amount for bound, level in levels)
        periods = [level.resets for bound, level in levels if bound.kind == "budget" and level.resets is not None]
        lease.hold = next(self._names)
        asked = [(bound, amount * count) for bound, amount in lease.part]
        if not roomy or self._store.take(asked, lease.hold) is not None:
            lease.rests_until = now + AGAIN
            return False
        lease.asked_at = now
        lease.ends_at = now + min([*periods, LONGEST])
        lease.left = count - 1
        self._open[lease] = None
        return True

    def sweep(self) -> None:
        """What nobody has asked for of late goes back."""
        until = monotonic() - IDLE
        for lease in [each for each in self._open if not each.left or each.asked_at <= until]:
            self._give_back(lease)

    def unused(self, bound: Bound) -> int:
        """Of all bundles."""
        parts = ((each, amount * lease.left) for lease in self._open for each, amount in lease.part)
        return sum(amount for each, amount in parts if each.name == bound.name)

    async def follow(self) -> None:
        while True:
            await asyncio.sleep(IDLE / 2)
            self.sweep()

    def reclaim(self) -> bool:
        """All that is not used goes back, since somebody lacks room; whether there was any."""
        found = [lease for lease in self._open if lease.left]
        for lease in list(self._open):
            self._give_back(lease)
        return bool(found)

    def _give_back(self, lease: Lease) -> None:
        """The parts that nobody has had."""
        del self._open[lease]
        if lease.left:
            self._store.settle([(bound, amount * lease.left, 0) for bound, amount in lease.part], lease.hold)
            lease.left = 0


def _most(bound: Bound, estimate: Estimate) -> int:
    if bound.kind == "budget":
        return estimate.price or 0
    return {"input_tokens": estimate.input, "output_tokens": estimate.output}.get(
        bound.kind, estimate.input + estimate.output
    )
