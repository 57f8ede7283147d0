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
from router.series import OVERHEAD, SECONDS, Account, Cell, Labels, Snapshot, Told

SERIES: Final = 1000
CELLS: Final = 4000  # kept apart by tenant, too
OTHER: Final = "other"
LOOK: Final = 0.25  # seconds between two looks at the loop


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
        _observe(cell, record.seconds, record.first, record.overhead)
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


def _observe(cell: Cell, seconds: float, first: float, overhead: float) -> None:
    duration = cell.duration
    duration.counts[bisect_left(SECONDS, seconds)] += 1
    duration.total += seconds
    if first:
        until = cell.first
        until.counts[bisect_left(SECONDS, first)] += 1
        until.total += first
    ours = cell.overhead
    ours.counts[bisect_left(OVERHEAD, overhead)] += 1
    ours.total += overhead
