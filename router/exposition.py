"""What Prometheus scrapes: the snapshots of all workers, summed and made into families when somebody asks."""

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from router.bounds import NANO
from router.series import KINDS, OVERHEAD, SECONDS, Account, Cell, Histogram, Labels, Snapshot


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
        accounts: dict[Labels, Account] = {}
        for snapshot in self._snapshots:
            for labels, account in snapshot.accounts:
                accounts.setdefault(labels, Account()).add(account)
                for kind in KINDS:
                    amount = getattr(account, f"{kind}_tokens")
                    if amount:
                        key = (labels[1], labels[2], kind)
                        by_model[key] = by_model.get(key, 0) + amount
        for labels, amount in by_model.items():
            tokens.add_metric(labels, amount)
        yield requests
        yield tokens
        yield from _of_tenants(accounts)
        yield from _of_parts(self._snapshots)
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


def _of_tenants(accounts: dict[Labels, Account]) -> Iterator[Metric]:
    """Of (tenant, model, upstream, status): what each had, and what it costs."""
    families: list[tuple[CounterMetricFamily, dict[Labels, float]]] = []

    def family(name: str, text: str, labels: Labels, found: dict[Labels, float]) -> None:
        families.append((CounterMetricFamily(name, text, labels=labels), found))

    requests: dict[Labels, float] = {}
    tokens: dict[Labels, float] = {}
    cost: dict[Labels, float] = {}
    charge: dict[Labels, float] = {}
    unpriced: dict[Labels, float] = {}
    for (tenant, model, upstream, status), account in accounts.items():
        _add(requests, (tenant, status), account.requests)
        for kind in KINDS:
            _add(tokens, (tenant, kind), getattr(account, f"{kind}_tokens"))
        _add(cost, (tenant, model), account.cost / NANO)
        _add(charge, (tenant, model), account.charge / NANO)
        _add(unpriced, (model, upstream), account.unpriced)
    family("router_tenant_requests", "Requests by who asked.", ("tenant", "status"), requests)
    family("router_tenant_tokens", "Tokens by who asked.", ("tenant", "kind"), tokens)
    family("router_cost_usd", "What providers ask for it.", ("tenant", "model"), cost)
    family("router_charge_usd", "What tenants owe for it.", ("tenant", "model"), charge)
    family("router_unpriced_requests", "Served at a price that nobody knows.", ("model", "upstream"), unpriced)
    for each, found in families:
        for labels, amount in found.items():
            each.add_metric(labels, amount)
        yield each


def _add(found: dict[Labels, float], labels: Labels, amount: float) -> None:
    if amount:
        found[labels] = found.get(labels, 0) + amount


# What parts keep themselves: (name, text, labels, whether it only ever grows, how workers' figures make one).
PARTS: Final[tuple[tuple[str, str, Labels, bool, Callable[[float, float], float]], ...]] = (
    ("router_config_info", "The files of the configuration in use, as a digest.", ("digest",), False, max),
    ("router_limit_used_ratio", "How much of a limit is used or reserved.", ("tenant", "limit"), False, max),
    ("router_ledger_lag_seconds", "The age of the oldest entry that is not in the ledger.", (), False, max),
    ("router_ledger_waiting_entries", "Entries that are not in the ledger yet.", (), False, operator.add),
    ("router_ledger_entries", "Entries by what became of them.", ("result",), True, operator.add),
    ("router_ledger_away", "Whether the ledger's database cannot be written.", (), False, max),
    ("router_store_degraded", "Whether a shared store is away.", ("store",), False, max),
    ("router_store_failures", "Calls of a shared store that failed.", ("store",), True, operator.add),
    ("router_key_headroom_ratio", "What is left of a provider key's own limits.", ("upstream", "key"), False, min),
)


def _of_parts(snapshots: list[Snapshot]) -> Iterator[Metric]:
    for name, text, labels, grows, joined in PARTS:
        found: dict[Labels, float] = {}
        for snapshot in snapshots:
            for told, marks, value in snapshot.told:
                if told == name:
                    found[marks] = joined(found[marks], value) if marks in found else value
        family = (CounterMetricFamily if grows else GaugeMetricFamily)(name, text, labels=labels)
        for marks, value in found.items():
            family.add_metric(marks, value)
        yield family


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
