"""What one replica may let through by itself while Redis is away: its share of each bound.

A rate, and what may run at once, are divided by the replicas last known. One request that is larger than a share may
take up to two, so that all of them together stay within twice the bound. Money was known when Redis went: each may
spend on from there, its two shares of what was left at most, and with more replicas than one nobody goes on within a
tenth of the edge.
"""

from collections.abc import Callable
from typing import Final

from router.bounds import Bound, Store
from router.stores.redis.places import Place
from router.stores.redis.seen import Seen

EDGE: Final = 10  # a budget's last tenth
MANY: Final = 16_384


class Shares:
    """`unsent`: what a budget has come to here that Redis has not heard yet."""

    def __init__(self, local: Store, seen: Seen, unsent: Callable[[str], int], replicas: int = 1) -> None:
        self._local = local
        self._seen = seen
        self._unsent = unsent
        self.replicas = max(1, replicas)
        self._bounds: dict[tuple[str, int, int, float], Bound] = {}

    def of(self, place: Place, n: int = 0) -> Bound:
        """The bound that the local store counts against. The same object each time, as far as can be."""
        bound = place.bound
        if bound.kind == "budget":
            return self._purse(place)
        amount = share = part(bound.amount, self.replicas)
        seconds = bound.seconds
        if place.rate and n > share:
            amount = min(n, bound.amount, 2 * bound.amount // self.replicas)
            amount = max(amount, share)
            seconds = bound.seconds * amount / max(1, share)
        return self._bound(bound, amount, seconds)

    def _purse(self, place: Place) -> Bound:
        spent, held = self._seen.of(place)
        share = self._bound(place.bound, purse(place.bound.amount, spent + held, self.replicas), 0.0)
        self._local.seed(share, spent + self._unsent(place.key))
        return share

    def _bound(self, bound: Bound, amount: int, seconds: float) -> Bound:
        key = bound.name, bound.amount, amount, seconds
        found = self._bounds.get(key)
        if found is None:
            if len(self._bounds) >= MANY:
                self._bounds.clear()
            found = self._bounds[key] = Bound(
                bound.name, bound.scope, bound.of, bound.kind, amount, seconds, bound.period
            )
        return found


def part(amount: int, replicas: int) -> int:
    return max(1, amount // replicas) if amount > 0 else amount


def purse(amount: int, known: int, replicas: int) -> int:
    """How far a budget may go here."""
    if replicas <= 1:
        return amount
    left = max(0, amount - known)
    return min(amount - amount // EDGE, known + min(left, left * 2 // replicas))
