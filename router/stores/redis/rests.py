"""Keys and deployments that one replica was told to leave alone, told to the others: a hint, a second old at most.

It refuses to decide anything: what comes out is merged where rests are kept, and a later moment wins there as here.
Moments travel as seconds left, so that the replicas' clocks need not agree.
"""

import time
from collections.abc import Callable
from typing import Any, Final

from router.stores.redis.clock import MICRO

MOST: Final = 1_000  # rests that wait to be told


class SharedRests:
    """`heard`: called with a name and its seconds left, once a second for each that any replica lets rest."""

    def __init__(
        self,
        wake: Callable[[], None],
        steady: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._wake = wake
        self._steady = steady
        self._wall = wall
        self._untold: dict[str, float] = {}
        self._known: dict[str, float] = {}
        self.heard: Callable[[str, float], None] | None = None

    def publish(self, name: str, until_unix: float) -> None:
        until = self._steady() + until_unix - self._wall()
        if until > self._untold.get(name, 0.0) and until > self._known.get(name, 0.0) + 0.5:
            if len(self._untold) < MOST:
                self._untold[name] = until
            self._wake()

    def resting(self) -> dict[str, float]:
        """Names, and the seconds that are left."""
        now = self._steady()
        return {name: until - now for name, until in self._known.items() if until > now}

    @property
    def waiting(self) -> bool:
        return bool(self._untold)

    def untold(self) -> dict[str, float]:
        """What to tell; it stays so until `told`."""
        now = self._steady()
        self._untold = {name: until for name, until in self._untold.items() if until > now}
        return dict(self._untold)

    def left(self, told: dict[str, float]) -> list[tuple[str, int]]:
        now = self._steady()
        return [(name, int((until - now) * MICRO)) for name, until in told.items()]

    def told(self, told: dict[str, float], rests: list[Any]) -> None:
        now = self._steady()
        for name, until in told.items():
            if self._untold.get(name) == until:
                del self._untold[name]
        self._known = {name: now + left / MICRO for name, left in zip(rests[::2], rests[1::2], strict=True)}
        if self.heard is not None:
            for name, left in zip(rests[::2], rests[1::2], strict=True):
                self.heard(name, left / MICRO)
