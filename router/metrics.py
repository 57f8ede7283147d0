"""Figures for Prometheus: plain numbers a request adds to, made into families only when somebody asks.

Several workers are summed by exchanging `snapshot`s (siblings.py); no directory, no variable to set. Labels come from
the configuration only, and there are at most `SERIES` of them: a further one is counted as `other`.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from router.record import Record

SERIES: Final = 1000
LOOK: Final = 0.25  # seconds between two looks at the loop
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
OVERHEAD: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)

Labels = tuple[str, ...]


class Histogram(msgspec.Struct):
    """Counts per bucket (the last one is +Inf) and the sum of what was observed."""

    counts: list[int]
    total: float = 0.0

    def observe(self, value: float, edges: tuple[float, ...]) -> None:
        self.counts[bisect_left(edges, value)] += 1
        self.total += value

    def add(self, other: "Histogram") -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


def _seconds() -> Histogram:
    return Histogram([0] * (len(SECONDS) + 1))


def _overhead() -> Histogram:
    return Histogram([0] * (len(OVERHEAD) + 1))


class Cell(msgspec.Struct):
    """What is kept for one (dialect, task, model, upstream, status)."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    duration: Histogram = msgspec.field(default_factory=_seconds)
    first: Histogram = msgspec.field(default_factory=_seconds)
    overhead: Histogram = msgspec.field(default_factory=_overhead)

    def add(self, other: "Cell") -> None:
        self.requests += other.requests
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cached_tokens += other.cached_tokens
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


class Metrics:
    """One worker's counters. `count` is all that a request pays."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str, str, str, int], Cell] = {}
        self._tries: dict[tuple[str, str, int | str], int] = {}  # upstream, verdict, status or why there was none
        self._broken: dict[Labels, int] = {}
        self._splices: dict[Labels, int] = {}
        self._cached: dict[str, int] = {}
        self.inflight = 0
        self.failed_reloads = 0
        self.lag = 0.0

    def count(self, record: Record) -> None:
        labels = (record.dialect, record.task, record.model, record.upstream, record.status)
        cell = self._cells.get(labels)
        if cell is None:
            if len(self._cells) >= SERIES:
                labels = (record.dialect, record.task, "other", record.upstream, record.status)
            cell = self._cells.setdefault(labels, Cell())
        cell.requests += 1
        cell.input_tokens += record.input_tokens
        cell.output_tokens += record.output_tokens
        cell.cached_tokens += record.cached_tokens
        cell.duration.observe(record.seconds, SECONDS)
        if record.first:
            cell.first.observe(record.first, SECONDS)
        cell.overhead.observe(record.overhead, OVERHEAD)
        for each in record.tries:
            ended = (each.upstream, each.verdict, each.status or each.reason)
            self._tries[ended] = self._tries.get(ended, 0) + 1
        if record.broken:
            broken = (record.upstream, record.broken)
            self._broken[broken] = self._broken.get(broken, 0) + 1
        for splice in record.splices:
            spliced = (splice.upstream, splice.result)
            self._splices[spliced] = self._splices.get(spliced, 0) + 1
        if record.cache:
            self._cached[record.cache] = self._cached.get(record.cache, 0) + 1

    async def follow_lag(self) -> None:
        """How late the loop comes to what is due: the worst of late, forgotten by a tenth each look."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOK
            await asyncio.sleep(LOOK)
            self.lag = max(loop.time() - due, self.lag * 0.9)

    def snapshot(self, generation: int, resting: Iterable[str], limited: list[tuple[tuple[str, str], int]]) -> bytes:
        return msgspec.json.encode(
            Snapshot(
                [((*labels[:4], str(labels[4])), cell) for labels, cell in self._cells.items()],
                [((upstream, verdict), count) for (upstream, verdict, _), count in self._tries.items()],
                [((upstream, str(status)), count) for (upstream, _, status), count in self._tries.items()],
                list(self._broken.items()),
                list(self._splices.items()),
                [(_rest_labels(name), 1) for name in resting],
                self.inflight,
                generation,
                self.failed_reloads,
                list(limited),
                [((result,), count) for result, count in self._cached.items()],
                self.lag,
            )
        )


def _rest_labels(name: str) -> tuple[str, str]:
    """`upstream/…digest` of a key, `upstream/id` of a deployment → upstream, key (empty for a deployment)."""
    upstream, _, rest = name.partition("/")
    return upstream, rest if rest.startswith("…") else ""


def exposition(snapshots: Iterable[bytes], version: str) -> bytes:
    """The text that Prometheus scrapes: all workers' snapshots, summed."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Summed([msgspec.json.decode(each, type=Snapshot) for each in snapshots], version))
    return generate_latest(registry)


class _Summed:
    """A prometheus_client collector over snapshots."""

    def __init__(self, snapshots: list[Snapshot], version: str) -> None:
        self._snapshots = snapshots
        self._version = version

    def collect(self) -> Iterator[Metric]:
        cells: dict[Labels, Cell] = {}
        for snapshot in self._snapshots:
            for labels, cell in snapshot.cells:
                cells.setdefault(labels, Cell()).add(cell)
        requests = CounterMetricFamily(
            "router_requests", "Requests answered.", labels=("dialect", "task", "model", "upstream", "status")
        )
        tokens = CounterMetricFamily(
            "router_tokens", "Tokens as upstreams count them.", labels=("model", "upstream", "kind")
        )
        by_model: dict[Labels, int] = {}
        for labels, cell in cells.items():
            requests.add_metric(labels, cell.requests)
            for kind in ("input", "output", "cached"):
                amount = getattr(cell, f"{kind}_tokens")
                if amount:
                    key = (labels[2], labels[3], kind)
                    by_model[key] = by_model.get(key, 0) + amount
        for labels, amount in by_model.items():
            tokens.add_metric(labels, amount)
        yield requests
        yield tokens
        yield _histogram(
            "router_request_duration_seconds", "From the request's head to its last byte.", cells, "duration", SECONDS
        )
        yield _histogram("router_first_token_seconds", "Until the first event or the answer.", cells, "first", SECONDS)
        yield _histogram("router_overhead_seconds", "Of that, the router's own part.", cells, "overhead", OVERHEAD)
        for name, text, kind, labels in _COUNTERS:
            family = CounterMetricFamily(name, text, labels=labels)
            for labels, count in _summed(getattr(snapshot, kind) for snapshot in self._snapshots).items():
                family.add_metric(labels, count)
            yield family
        rest = GaugeMetricFamily("router_resting", "Keys and deployments left alone.", labels=("upstream", "key"))
        for labels in _summed(snapshot.resting for snapshot in self._snapshots):
            rest.add_metric(labels, 1)
        yield rest
        yield GaugeMetricFamily(
            "router_inflight_requests", "Being served now.", sum(each.inflight for each in self._snapshots)
        )
        generation = max((each.generation for each in self._snapshots), default=0)
        yield GaugeMetricFamily("router_config_generation", "The configuration in use.", generation)
        lag = max((each.lag for each in self._snapshots), default=0.0)
        yield GaugeMetricFamily("router_loop_lag_seconds", "How late the event loop is, at worst of late.", lag)
        failed = sum(each.failed_reloads for each in self._snapshots)
        yield CounterMetricFamily("router_config_reload_failures", "Files that were refused.", failed)
        build = GaugeMetricFamily("router_build_info", "This build.", labels=("version",))
        build.add_metric((self._version,), 1)
        yield build


_COUNTERS: Final = (
    ("router_attempts", "Attempts by what was decided after them.", "attempts", ("upstream", "verdict")),
    ("router_upstream_responses", "What upstreams answered, or why not.", "responses", ("upstream", "status")),
    ("router_streams_broken", "Answers that began and did not end well.", "broken", ("upstream", "reason")),
    (
        "router_splices",
        "Streams that broke here, and what became of them.",
        "splices",
        ("upstream", "result"),
    ),
    ("router_limited", "Requests that a plan did not allow.", "limited", ("tenant", "limit")),
    ("router_cache_requests", "Requests whose answers are kept, by where they came from.", "cached", ("result",)),
)


def _summed(parts: Iterable[list[tuple[Labels, int]]]) -> dict[Labels, int]:
    total: dict[Labels, int] = {}
    for part in parts:
        for labels, count in part:
            total[labels] = total.get(labels, 0) + count
    return total


def _histogram(name: str, text: str, cells: dict[Labels, Cell], field: str, edges: tuple[float, ...]) -> Metric:
    """By task and upstream: what dashboards group by, without a series for every model and status."""
    family = HistogramMetricFamily(name, text, labels=("task", "upstream"))
    merged: dict[Labels, Histogram] = {}
    for labels, cell in cells.items():
        histogram: Histogram = getattr(cell, field)
        merged.setdefault((labels[1], labels[3]), Histogram([0] * (len(edges) + 1))).add(histogram)
    for labels, histogram in merged.items():
        running = 0
        buckets: list[tuple[str, float]] = []
        for edge, count in zip([*map(str, edges), "+Inf"], histogram.counts, strict=True):
            running += count
            buckets.append((edge, running))
        family.add_metric(labels, buckets, histogram.total)
    return family
