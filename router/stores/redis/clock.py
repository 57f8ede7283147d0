"""What time it is at Redis, between two answers. One clock for all replicas, so that none needs a right one.

An answer says that Redis' clock stood at `now` some time between sending and receiving; what all of them allow is kept.
An answer that fits nowhere in that means that one of the clocks was set, or has drifted: it begins anew.
"""

import time
from collections.abc import Callable
from typing import Final

MICRO: Final = 1_000_000


class Clock:
    """Microseconds since 1970. Until Redis has answered, by the machine's own clock."""

    __slots__ = ("_high", "_low", "_steady", "_wall", "known")

    def __init__(self, steady: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._steady = steady
        self._wall = wall
        self._low = self._high = 0
        self.known = False

    def steady(self) -> int:
        return int(self._steady() * MICRO)

    def now(self) -> int:
        """At the earliest: it may be later there by as long as the fastest answer took."""
        if not self.known:
            return int(self._wall() * MICRO)
        return int(self._steady() * MICRO) + self._low

    def seconds(self) -> float:
        return self.now() / MICRO

    def hear(self, now: int, sent: int, received: int) -> None:
        low, high = now - received, now - sent
        if not self.known or low > self._high or high < self._low:
            self._low, self._high, self.known = low, high, True
        else:
            self._low, self._high = max(low, self._low), min(high, self._high)
