"""`inference-router bench`: how fast the router is on this machine, in half a minute, with nothing else installed.

A mock upstream, our own server before it and a load driver, all on loopback, the server on a core of its own where
cores can be chosen. It compares with the mock asked directly and with nothing else: the comparison with other gateways,
with its stronger drivers, is `benchmarks/` in the repository.
"""

import asyncio
import contextlib
import gc
import json
import os
import platform
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import uvloop

from router import build
from router.bench import load, wire
from router.bench.process import Program, cores, free_port, many_files, pin

CONNECTIONS: Final = 32
STREAMS: Final = 400
INTERVAL_MS: Final = 20
_CONFIG: Final = """
auth: {{mode: keys}}
virtual_keys: [{{name: bench, key: {key}}}]
upstreams:
  mock: {{provider: openai, base_url: "http://127.0.0.1:{port}/v1", models: [{model}], connections: 8192}}
tables: []
telemetry: {{metrics: true, log: "off"}}
stores: {{ledger: "off"}}
"""
_COUNTED: Final = """
auth: {{mode: keys}}
plans:
  bench: {{requests: 1000000000/hour, tokens: 1000000000000/hour, concurrency: 10000, budget: 1000000 USD/month}}
virtual_keys: [{{name: bench, plan: bench, key: {key}}}]
upstreams:
  mock: {{provider: openai, base_url: "http://127.0.0.1:{port}/v1", connections: 8192}}
models:
  {model}: {{deployments: [{{upstream: mock, price: {{input: 0.1, output: 0.4}}}}]}}
tables: []
telemetry: {{metrics: true, log: "off"}}
stores: {{ledger: "sqlite:///{place}/ledger.db", directory: "{place}"}}
"""
ROUNDS: Final = 5  # with and without limits and ledger, in turn
_ROWS: Final = (
    ("requests_per_second", f"requests per second, {CONNECTIONS} connections", ",.0f"),
    ("counted_share", "  of that with limits, budget and ledger on", ".1%"),
    ("ledger_lag_p99_s", "  and how far the ledger then lags p99, s", ".2f"),
    ("direct_requests_per_second", "  the mock alone, the limit of this driver", ",.0f"),
    ("added_latency_p50_ms", "added latency p50, ms", ".3f"),
    ("added_latency_p99_ms", "added latency p99, ms", ".3f"),
    ("cpu_per_chunk_us", f"CPU per streamed chunk, {STREAMS} streams, µs", ".1f"),
    ("chunk_delay_p99_ms", "delay of a chunk p99, ms", ".2f"),
    ("direct_chunk_delay_p99_ms", "  without the router", ".2f"),
    ("chunks_alone", "chunks that came alone", ".1%"),
    ("rss_mb", "memory afterwards, MB", ",.0f"),
    ("ready_s", "from start to first answer, s", ".2f"),
)
Said = TypeVar("Said")


def main(seconds: float, out: Path | None) -> None:
    """Measure, each figure for so many seconds; print, and save as JSON."""
    many_files()
    pinned = cores()
    proxy_core, other_core = pinned or (None, None)
    pin(other_core)
    with tempfile.TemporaryDirectory(prefix="router-bench-") as directory:
        work = Path(directory)
        mock_port, port = free_port(), free_port()
        counted_port = free_port()
        config, counted = work / "config.yaml", work / "counted.yaml"
        config.write_text(_CONFIG.format(key=wire.KEY, port=mock_port, model=wire.MODEL))
        counted.write_text(_COUNTED.format(key=wire.KEY, port=mock_port, model=wire.MODEL, place=work))
        mock = [sys.executable, "-m", "router.bench.mock", "--port", str(mock_port), "--interval", str(INTERVAL_MS)]
        with (
            Program(mock, core=other_core, log=work / "mock.log", env={}) as upstream,
            Program(_serve(config, port), core=proxy_core, log=work / "router.log", env={}) as router,
        ):
            upstream.ready(lambda: load.answers(mock_port, {}), timeout=20)
            ready = router.ready(lambda: load.answers(port, {}), timeout=20)
            load.check(port, {})
            with _no_collections():
                figures = {"ready_s": ready, **_figures(port, mock_port, router, seconds)}
            with Program(_serve(counted, counted_port), core=proxy_core, log=work / "counted.log", env={}) as other:
                other.ready(lambda: load.answers(counted_port, {}), timeout=20)
                with _no_collections():
                    figures |= _counted(port, counted_port, seconds)
    _print(figures, pinned)
    if out is not None:
        about = {
            "cores": os.cpu_count(),
            "pinned": pinned,
            "system": platform.platform(),
            "build": build.WORD,
            "seconds": seconds,
        }
        out.write_text(json.dumps({**about, "figures": figures}, indent=1) + "\n")


def _figures(port: int, mock_port: int, router: Program, seconds: float) -> dict[str, float]:
    alone = load.latency(mock_port, {}, seconds=seconds)
    load.latency(port, {}, seconds=0.5)
    through = load.latency(port, {}, seconds=seconds)
    limit = _run(lambda: load.requests(mock_port, {}, connections=CONNECTIONS, seconds=seconds))
    closed = _run(lambda: load.requests(port, {}, connections=CONNECTIONS, seconds=seconds))
    direct, _ = _run(lambda: _streams(mock_port, lambda: 0.0, seconds))
    window, cpu = _run(lambda: _streams(port, router.cpu, seconds))
    return {
        "requests_per_second": closed.per_second,
        "direct_requests_per_second": limit.per_second,
        "added_latency_p50_ms": (through.p50 - alone.p50) * 1e3,
        "added_latency_p99_ms": (through.p99 - alone.p99) * 1e3,
        "cpu_per_chunk_us": cpu / max(1, window.events) * 1e6,
        "chunk_delay_p99_ms": window.p(0.99) * 1e3,
        "direct_chunk_delay_p99_ms": direct.p(0.99) * 1e3,
        "chunks_alone": window.alone / max(1, window.events),
        "rss_mb": router.rss() / 1e6,
    }


def _serve(config: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "router", "serve", "--config", str(config), "--port", str(port), "--workers", "1"]


def _counted(port: int, counted_port: int, seconds: float) -> dict[str, float]:
    """What counting costs: the same load with it and without, in turn."""
    shares: list[float] = []
    lags: list[float] = []
    for _ in range(ROUNDS):
        plain = _run(lambda: load.requests(port, {}, connections=CONNECTIONS, seconds=seconds / 2))
        counted, seen = _run(lambda: _watched(counted_port, seconds / 2))
        shares.append(counted.per_second / plain.per_second)
        lags += seen
    return {"counted_share": sorted(shares)[ROUNDS // 2], "ledger_lag_p99_s": sorted(lags)[int(len(lags) * 0.99)]}


async def _watched(port: int, seconds: float) -> tuple[load.Timing, list[float]]:
    """A load, and how far the ledger lagged meanwhile."""
    loading = asyncio.ensure_future(load.requests(port, {}, connections=CONNECTIONS, seconds=seconds))
    lags = []
    while not loading.done():
        lags.append(await load.figure(port, "router_ledger_lag_seconds"))
        await asyncio.wait([loading], timeout=0.1)
    return await loading, lags


async def _streams(port: int, cpu: Callable[[], float], seconds: float) -> tuple[load.Window, float]:
    """What a crowd of streams got, and the CPU that it took."""
    crowd = load.Crowd(port, wire.stream_body(wire.FOREVER), {})
    try:
        await crowd.open(STREAMS, at_once=20, timeout=30)
        await asyncio.sleep(0.5)
        before = cpu()
        window = await crowd.listen(seconds)
        return window, cpu() - before
    finally:
        await crowd.close()


def _run(act: Callable[[], Awaitable[Said]]) -> Said:
    async def awaited() -> Said:
        return await act()

    return uvloop.run(awaited())


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """A collection in the driver would be taken for a stall of the router."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _print(figures: dict[str, float], pinned: tuple[int, int] | None) -> None:
    where = f"router on core {pinned[0]}, mock and driver on core {pinned[1]}" if pinned else "cores not chosen"
    lines = [f"One worker, {build.WORD}, {where}.", ""]
    lines += [f"{title:52}{format(figures[key], form):>12}" for key, title, form in _ROWS]
    sys.stdout.write("\n".join(lines) + "\n")
