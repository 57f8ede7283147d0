"""How long models take to load, learned from having waited for them: what `estimated_time` of a 503 is made of.

A server that loads says so with a 503, and seldom how long it will take. From its first such answer until it serves
is one load; the last ones are averaged, each counting half of what came before it.
"""

from typing import Final

GUESS: Final = 20.0  # seconds, as the Hub's API says of models that it knows nothing of
FORGOTTEN: Final = 3600.0  # seconds after which a load that was never finished is no load
KEPT: Final = 1024  # deployments


class ColdStarts:
    """By deployment; times are of one clock, passed in."""

    __slots__ = ("_began", "_took", "loading")

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self.loading = False  # somebody is: what a request that was served looks at

    def refused(self, name: str, now: float) -> None:
        """It said that it is loading."""
        began = self._began.get(name)
        if began is None or now - began > FORGOTTEN:
            if len(self._began) >= KEPT:
                self._began.pop(next(iter(self._began)))
            self._began[name] = now
        self.loading = True

    def served(self, name: str, now: float) -> None:
        began = self._began.pop(name, None)
        self.loading = bool(self._began)
        if began is not None and now - began <= FORGOTTEN:
            took, before = now - began, self._took.get(name)
            if len(self._took) >= KEPT and before is None:
                self._took.pop(next(iter(self._took)))
            self._took[name] = took if before is None else (before + took) / 2

    def estimate(self, name: str, now: float, said: float | None = None) -> float:
        """Seconds until it serves: what it says itself, else what is left of what it took before."""
        if said is not None:
            return said
        left = self._took.get(name, GUESS) - (now - self._began.get(name, now))
        return max(left, 1.0)
