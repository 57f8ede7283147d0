"""What an upstream as a whole, and each of its keys, may be used for.

A `Ceiling` is an upstream's: taken before each attempt at it and settled after. One that is full is no error of the
caller's: it is passed over like one that is busy. A `Cap` is a key's: keys are lent without waiting for anybody, so
requests and what runs are taken of a store in this process or on this host, everything else is looked at before a call
and counted after it, and calls under way may pass it by what they cost. Of a remote store the levels known here are
what is looked at, and what runs is counted by this process alone.
"""

import itertools
import os
from typing import Any, Final

from router.bounds import Bound, LimitSettings, Reached, Store, bounds_of

LOOK: Final = 0.25  # seconds for which a level is believed
NEVER: Final = 3600.0  # seconds to say where it will not be empty again
_TAKEN: Final = ("requests", "concurrency")


class Uses:
    """What an attempt may come to, or came to."""

    __slots__ = ("input_tokens", "nano", "output_tokens")

    def __init__(self, input_tokens: int = 0, output_tokens: int = 0, nano: int = 0) -> None:
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.nano = nano

    def of(self, bound: Bound) -> int:
        """Of what one bound counts."""
        kind = bound.kind
        if kind == "budget":
            return self.nano
        if kind == "tokens":
            return self.input_tokens + self.output_tokens
        return 1 if kind in _TAKEN else int(getattr(self, kind))


NOTHING: Final = Uses()


class Ceiling:
    """One upstream's. `take` before an attempt, `settle` when it has ended, with the same hold and the same uses."""

    def __init__(self, upstream: str, limits: LimitSettings, store: Store) -> None:
        self.bounds = bounds_of("upstream", upstream, limits)
        self._store = store

    async def take(self, hold: str, uses: Uses = NOTHING) -> Reached | None:
        """None: there is room, and it is taken. `hold`: of this attempt alone."""
        reached = self._store.take([(bound, _asked(bound, uses)) for bound in self.bounds], hold)
        return reached if reached is None or isinstance(reached, Reached) else await reached

    def settle(self, hold: str, taken: Uses = NOTHING, used: Uses = NOTHING) -> None:
        """It has ended. An attempt that failed used nothing but itself."""
        self._store.settle([(bound, _asked(bound, taken), used.of(bound)) for bound in self.bounds], hold)

    def levels(self) -> list[dict[str, Any]]:
        """How full each is, for operators."""
        found = [(bound, self._store.level(bound)) for bound in self.bounds]
        return [
            {"limit": each.kind, "amount": each.amount, "used": now.used, "resets": now.resets} for each, now in found
        ]


def _asked(bound: Bound, uses: Uses) -> int:
    """At least one, so that what is used up lets nothing through, however little was foreseen."""
    return max(1, uses.of(bound))


class Cap:
    """One key's. `opens`: the moment at which it has room again, where it had none."""

    def __init__(self, key: str, limits: LimitSettings, store: Store) -> None:
        self.bounds = bounds = bounds_of("upstream", key, limits)
        remote = store.remote
        self.taken = tuple(each for each in bounds if each.kind in _TAKEN)
        self._counted = tuple(each for each in bounds if each.kind not in _TAKEN)
        self._looked_at = tuple(each for each in bounds if each.kind not in (_TAKEN[1:] if remote else _TAKEN))
        self._most = next((each.amount for each in bounds if each.kind == "concurrency"), None)
        self._store = store
        self._running = 0
        self._looked = -LOOK
        self._holds = map(f"{os.urandom(6).hex()}{{:x}}".format, itertools.count())
        self.reached: Bound | None = None
        self.opens = 0.0

    def full(self, now: float) -> bool:
        """Whether something is used up, as of the last look."""
        if now - self._looked >= LOOK:
            self._looked = now
            self.reached = next((each for each in self._looked_at if self._used_up(each, now)), None)
        return self.reached is not None

    def _used_up(self, bound: Bound, now: float) -> bool:
        level = self._store.level(bound)
        if level.used < bound.amount:
            return False
        if bound.seconds:  # a rate fills again evenly: the first of it is there soon
            self.opens = now + max(LOOK, (level.used - bound.amount + 1) / bound.amount * bound.seconds)
        else:
            self.opens = now + (NEVER if level.resets is None else level.resets)
        return True

    def take(self, now: float) -> str | None:
        """A hold for one call, empty where there is nothing to hold; None: there is no room."""
        if not self.taken:
            return ""
        hold = next(self._holds)
        if self._store.remote:
            if self._most is not None and self._running >= self._most:
                self.opens = now + LOOK
                return None
            for bound in self.taken:
                if bound.kind == "requests":
                    self._store.add(bound, 1)
        else:
            reached = self._store.take([(bound, 1) for bound in self.taken], hold)
            if isinstance(reached, Reached):
                self.opens = now + (reached.resets or LOOK)
                return None
        self._running += 1
        return hold

    def give_back(self, hold: str) -> None:
        self._running -= 1
        if not self._store.remote:
            self._store.settle([(bound, 1, 1) for bound in self.taken], hold)

    def spend(self, uses: Uses) -> None:
        for bound in self._counted:
            if amount := uses.of(bound):
                self._store.add(bound, amount)
                self._looked = -LOOK  # and look before the next

    def spent(self) -> tuple[int | None, int | None]:
        """Of its budget: how much is used, and how much there is."""
        budget = next((each for each in self._counted if each.kind == "budget"), None)
        return (None, None) if budget is None else (self._store.level(budget).used, budget.amount)
