"""The figures of one worker as data: what router/metrics.py counts, workers tell each other and Prometheus is shown."""

from typing import Final

import msgspec

KINDS: Final = ("input", "output", "cached", "reasoning")  # of tokens; cached and reasoning ones are of the first two
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
OVERHEAD: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)

Labels = tuple[str, ...]
Told = tuple[str, Labels, float]  # a figure that a part keeps itself: the name of one of PARTS', its labels, the value


class Histogram(msgspec.Struct):
    """Counts per bucket (the last one is +Inf) and the sum of what was observed."""

    counts: list[int]
    total: float = 0.0

    def add(self, other: "Histogram") -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


def _seconds() -> Histogram:
    return Histogram([0] * (len(SECONDS) + 1))


def _overhead() -> Histogram:
    return Histogram([0] * (len(OVERHEAD) + 1))


class Account(msgspec.Struct):
    """What is kept for one (tenant, model, upstream, status). Money in nano-USD."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost: int = 0
    charge: int = 0
    unpriced: int = 0  # requests that were served at a price that nobody knows

    def add(self, other: "Account") -> None:
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Cell(msgspec.Struct):
    """What is kept for one (tenant, dialect, task, model, upstream, status)."""

    account: Account = msgspec.field(default_factory=Account)
    requests: int = 0
    duration: Histogram = msgspec.field(default_factory=_seconds)
    first: Histogram = msgspec.field(default_factory=_seconds)
    overhead: Histogram = msgspec.field(default_factory=_overhead)

    def add(self, other: "Cell") -> None:
        self.requests += other.requests
        self.duration.add(other.duration)
        self.first.add(other.first)
        self.overhead.add(other.overhead)


class Snapshot(msgspec.Struct):
    """One worker's figures; as JSON between workers."""

    cells: list[tuple[Labels, Cell]] = []
    attempts: list[tuple[Labels, int]] = []  # upstream, verdict
    responses: list[tuple[Labels, int]] = []  # upstream, status
    broken: list[tuple[Labels, int]] = []  # upstream, reason
    splices: list[tuple[Labels, int]] = []  # upstream, result
    resting: list[tuple[Labels, int]] = []  # upstream, key
    inflight: int = 0
    generation: int = 0
    failed_reloads: int = 0
    limited: list[tuple[Labels, int]] = []  # tenant, limit
    cached: list[tuple[Labels, int]] = []  # result
    lag: float = 0.0
    accounts: list[tuple[Labels, Account]] = []
    told: list[Told] = []
