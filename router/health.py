"""What is known of keys and deployments from use: who is left alone until when, and who answers how fast. In memory.

A later moment of rest never gives way to an earlier one.
"""

from router.settings import Duration, Settings


class RestSettings(Settings):
    """When a deployment is left alone, and for how long."""

    after: str = "3 failures/10s"
    first: Duration = 1.0
    most: Duration = 60.0


class Resting:
    """Names (a deployment's, a key's) at rest, each until a moment of the clock given."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def rest(self, name: str, until: float) -> None:
        if until > self._until.get(name, 0.0):
            self._until[name] = until

    def wake(self, name: str) -> None:
        self._until.pop(name, None)

    def until(self, name: str) -> float:
        """The moment at which `name` may be used again; 0 where it does not rest."""
        return self._until.get(name, 0.0)

    def resting(self, now: float) -> dict[str, float]:
        return {name: until for name, until in self._until.items() if until > now}

    def __bool__(self) -> bool:
        return bool(self._until)


class Speeds:
    """Seconds until a deployment's first event or answer: an average in which the last ones count most."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def note(self, name: str, seconds: float) -> None:
        before = self._seconds.get(name)
        self._seconds[name] = seconds if before is None else before + 0.2 * (seconds - before)

    def of(self, name: str) -> float | None:
        return self._seconds.get(name)
