"""Which keys and deployments are left alone, and until when. In memory; a later moment never gives way to an earlier."""

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
