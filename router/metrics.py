"""Figures for Prometheus: plain numbers that a request adds to. What they are called outside is router/exposition.py's.

Several workers are summed by exchanging `snapshot`s (siblings.py); no directory, no variable to set. Labels come from
the configuration only, and there are at most `SERIES` of them: a further one is counted as `other`.
"""

import asyncio
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import msgspec

from router.record import Record

SERIES: Final = 1000
CELLS: Final = 4000  # kept apart by tenant, too
OTHER: Final = "other"
KINDS: Final = ("input", "output", "cached", "reasoning")  # of tokens; cached and reasoning ones are of the first two
LOOK: Final = 0.25  # seconds between two looks at the loop
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

    def observe(self, seconds: float, first: float, overhead: float) -> None:
        duration = self.duration
        duration.counts[bisect_left(SECONDS, seconds)] += 1
        duration.total += seconds
        if first:
            until = self.first
            until.counts[bisect_left(SECONDS, first)] += 1
            until.total += first
        ours = self.overhead
        ours.counts[bisect_left(OVERHEAD, overhead)] += 1
        ours.total += overhead

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


class Metrics:
    """One worker's counters. `count` is all that a request pays."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str, str, str, str, int], Cell] = {}
        self._tries = defaultdict[tuple[str, str, int | str], int](int)  # upstream, verdict, status or why none
        self._broken = defaultdict[Labels, int](int)
        self._splices = defaultdict[Labels, int](int)
        self._cached = defaultdict[str, int](int)
        self.tenants: frozenset[str] = frozenset()  # that have a name here: those of the configuration
        self.inflight = 0
        self.failed_reloads = 0
        self.lag = 0.0

    def count(self, record: Record) -> None:
        tenant = record.tenant
        if tenant not in self.tenants:
            tenant = OTHER
        labels = (tenant, record.dialect, record.task, record.model, record.upstream, record.status)
        cell = self._cells.get(labels)
        if cell is None:
            if len(self._cells) >= CELLS:
                labels = (OTHER, record.dialect, record.task, OTHER, record.upstream, record.status)
            cell = self._cells.setdefault(labels, Cell())
        cell.requests += 1
        account = cell.account
        account.input_tokens += record.input_tokens
        account.output_tokens += record.output_tokens
        if record.cached_tokens or record.reasoning_tokens:
            account.cached_tokens += record.cached_tokens
            account.reasoning_tokens += record.reasoning_tokens
        if record.cost is not None:
            account.cost += record.cost
            account.charge += record.charge or 0
        elif record.billing == "routed" and record.outcome != "error":
            account.unpriced += 1
        cell.observe(record.seconds, record.first, record.overhead)
        for each in record.tries:
            self._tries[each.upstream, each.verdict, each.status or each.reason] += 1
        if record.broken:
            self._broken[record.upstream, record.broken] += 1
        for splice in record.splices:
            self._splices[splice.upstream, splice.result] += 1
        if record.cache:
            self._cached[record.cache] += 1

    async def follow_lag(self) -> None:
        """How late the loop comes to what is due: the worst of late, forgotten by a tenth each look."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOK
            await asyncio.sleep(LOOK)
            self.lag = max(loop.time() - due, self.lag * 0.9)

    def snapshot(
        self,
        generation: int,
        resting: Iterable[str],
        limited: Iterable[tuple[tuple[str, str], int]],
        told: Iterable[Told] = (),
    ) -> bytes:
        cells: dict[Labels, Cell] = {}
        accounts: dict[Labels, Account] = {}
        for (tenant, dialect, task, model, upstream, code), cell in self._cells.items():
            status = str(code)
            labels = (dialect, task, model, upstream, status)
            if labels not in cells and len(cells) >= SERIES:
                labels = (dialect, task, OTHER, upstream, status)
            cells.setdefault(labels, Cell()).add(cell)
            account = msgspec.structs.replace(cell.account, requests=cell.requests)
            accounts.setdefault((tenant, model, upstream, status), Account()).add(account)
        return msgspec.json.encode(
            Snapshot(
                list(cells.items()),
                [((upstream, verdict), count) for (upstream, verdict, _), count in self._tries.items()],
                [((upstream, str(status)), count) for (upstream, _, status), count in self._tries.items()],
                list(self._broken.items()),
                list(self._splices.items()),
                [(_rest_labels(name), 1) for name in resting],
                self.inflight,
                generation,
                self.failed_reloads,
                [((self.named(tenant), limit), count) for (tenant, limit), count in limited],
                [((result,), count) for result, count in self._cached.items()],
                self.lag,
                list(accounts.items()),
                list(told),
            )
        )

    def named(self, tenant: str) -> str:
        return tenant if tenant in self.tenants else OTHER


def _rest_labels(name: str) -> tuple[str, str]:
    """`upstream/…digest` of a key, `upstream/id` of a deployment → upstream, key (empty for a deployment)."""
    upstream, _, rest = name.partition("/")
    return upstream, rest if rest.startswith("…") else ""
