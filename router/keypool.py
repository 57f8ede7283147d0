"""The providers' own keys, lent from an upstream's pool; those at rest are passed over."""

import hashlib
from dataclasses import dataclass
from typing import Protocol

from router.secrets import Secret


class Resting(Protocol):
    """Until when a name is left alone (router/health.py); 0 where it is not."""

    calm: bool  # no name was left alone at all

    def until(self, name: str) -> float: ...


@dataclass(frozen=True, slots=True)
class Lent:
    """A provider's key for one attempt. `name` tells it apart in figures and logs, and tells nothing about it."""

    upstream: str
    name: str
    secret: Secret


class KeyPool:
    """An upstream's own keys, lent in turn; those at rest are passed over."""

    def __init__(self, upstream: str, keys: tuple[Secret, ...], resting: Resting) -> None:
        digests = {key: hashlib.sha256(key.reveal().encode()).hexdigest() for key in keys if key}
        width = next(n for n in (4, 8, 64) if len({digest[-n:] for digest in digests.values()}) == len(digests))
        self._lent = [Lent(upstream, f"{upstream}/…{digest[-width:]}", key) for key, digest in digests.items()]
        self._resting = resting
        self._next = 0
        self.empty = not self._lent

    def lend(self, now: float) -> Lent | None:
        """The next key that does not rest, or None."""
        count = len(self._lent)
        if count and self._resting.calm:  # as it nearly always is
            lent = self._lent[self._next]
            self._next = (self._next + 1) % count
            return lent
        for step in range(count):
            place = (self._next + step) % count
            lent = self._lent[place]
            if self._resting.until(lent.name) <= now:
                self._next = (place + 1) % count
                return lent
        return None

    def names(self) -> list[str]:
        return [lent.name for lent in self._lent]
