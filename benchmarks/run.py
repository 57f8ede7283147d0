"""The one command: install, start, measure in turn, and write what was seen as JSON and as a picture.

    python -m benchmarks.run [--only us,nginx] [--quick] [--out benchmarks/results/DATE.json] [--cache DIR]

Rounds go through all peers before the next one begins, so that a noisy minute of the machine touches all alike; each
figure is the median of its rounds, with the least and the most beside it. A peer that cannot be installed or does not
answer is reported with its own words and left out of the rest.
"""

import argparse
import contextlib
import datetime
import gc
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks import chart, measure, peers
from benchmarks.measure import Figures, Size, Target
from benchmarks.peers import Peer, Place
from router.bench import load
from router.bench.process import NotReady, Program, cores, free_port, many_files, pin

DIRECT: Final = "direct"
RESULTS: Final = Path(__file__).parent / "results"
CACHE: Final = Path.home() / ".cache" / "inference-router-bench"
_ADDED: Final = ("latency_p50_ms", "latency_p99_ms", "chunk_delay_p50_ms", "chunk_delay_p99_ms")  # over direct
Errors = dict[str, list[str]]


class Bench:
    """One comparison: both upstreams, the cores, and what each peer gave in each round."""

    def __init__(self, size: Size, cache: Path, work: Path, pinned: tuple[int, int] | None) -> None:
        self._size = size
        self._cache = cache
        self._work = work
        self._proxy_core: int | None = pinned[0] if pinned else None
        self._other_core: int | None = pinned[1] if pinned else None
        self._constant = free_port()
        self._streaming = free_port()
        self.rounds: dict[str, list[Figures]] = {}
        self.errors: Errors = {}

    @contextlib.contextmanager
    def upstreams(self) -> Iterator[None]:
        """The nginx that answers a constant, and the mock that streams."""
        conf = measure.mock_conf(self._work / "constant", self._constant)
        mock = [sys.executable, "-m", "router.bench.mock", "--port", str(self._streaming)]
        with (
            self._start([peers.NGINX, "-e", "stderr", "-c", str(conf)], self._constant, "constant"),
            self._start([*mock, "--interval", str(measure.INTERVAL_MS)], self._streaming, "mock"),
        ):
            yield

    @contextlib.contextmanager
    def _start(self, command: list[str], port: int, name: str) -> Iterator[None]:
        with Program(command, core=self._other_core, log=self._work / f"{name}.log", env={}) as program:
            program.ready(lambda: load.answers(port, {}), timeout=20)
            yield

    def round(self, chosen: Sequence[Peer]) -> None:
        """Measure each of them once."""
        self._note(DIRECT, self._direct())
        for peer in chosen:
            self._note(peer.name, self._measured(peer))

    def _note(self, name: str, figures: Figures) -> None:
        direct = self.rounds.get(DIRECT, [{}])[-1]
        added = {f"added_{key}": figures[key] - direct[key] for key in _ADDED if key in figures and key in direct}
        self.rounds.setdefault(name, []).append({**figures, **(added if name != DIRECT else {})})
        _say(f"{name:14}" + "  ".join(f"{key} {value:,.4g}" for key, value in figures.items()))

    def _direct(self) -> Figures:
        constant, streaming = Target(self._constant, {}), Target(self._streaming, {})
        return {
            **self._try(DIRECT, lambda: measure.throughput(constant, self._size, self._work)),
            **self._try(DIRECT, lambda: measure.latency(constant, self._size)),
            **self._try(DIRECT, lambda: uvloop.run(measure.streams(streaming, self._size))),
            **self._try(DIRECT, lambda: uvloop.run(measure.stall(streaming, self._size))),
        }

    def _measured(self, peer: Peer) -> Figures:
        figures: Figures = {}
        with self._up(peer, self._constant, figures) as target:
            if target:
                figures |= self._try(peer.name, lambda: measure.throughput(target, self._size, self._work))
                figures |= self._try(peer.name, lambda: measure.latency(target, self._size))
        with self._up(peer, self._streaming, {}) as target:
            if target:
                figures |= self._try(peer.name, lambda: _checked(target))
                figures |= self._try(peer.name, lambda: uvloop.run(measure.streams(target, self._size)))
        # On a fresh process each: a proxy that could not keep up is still busy with what is over.
        with self._up(peer, self._streaming, {}) as target:
            if target:
                figures |= self._try(peer.name, lambda: uvloop.run(measure.stall(target, self._size)))
        with self._up(peer, self._streaming, {}) as target:
            if target:
                figures |= self._try(peer.name, lambda: uvloop.run(measure.idle(target, self._size)))
        return figures

    @contextlib.contextmanager
    def _up(self, peer: Peer, upstream: int, figures: Figures) -> Iterator[Target | None]:
        """The peer, answering; how long that took, and what it weighed then, go into `figures`."""
        work = self._work / peer.name
        work.mkdir(exist_ok=True)
        place = Place(free_port(), free_port(), upstream, peer.installed(self._cache), work)
        headers = peer.headers(place)
        with Program(
            peer.command(place), core=self._proxy_core, log=work / "output.log", env=peer.env(place)
        ) as program:
            try:
                figures["ready_s"] = program.ready(lambda: load.answers(place.port, headers), timeout=120)
            except NotReady as reason:
                self._failed(peer.name, f"start: {reason}")
                yield None
                return
            time.sleep(1.0)
            figures["idle_rss_mb"] = program.rss() / 1e6
            yield Target(place.port, headers, program)

    def _try(self, name: str, act: Callable[[], Figures]) -> Figures:
        gc.collect()
        gc.disable()  # a collection in the driver would be taken for a stall of the proxy
        try:
            return act()
        except (load.Unanswered, OSError, subprocess.SubprocessError) as reason:
            self._failed(name, f"{type(reason).__name__}: {reason}")
            return {}
        finally:
            gc.enable()

    def _failed(self, name: str, reason: str) -> None:
        _say(f"{name}: {reason}")
        self.errors.setdefault(name, []).append(reason)


def _checked(target: Target) -> Figures:
    load.check(target.port, target.headers)
    return {}


def _say(line: str) -> None:
    print(line, flush=True)


def _summary(rounds: list[Figures]) -> dict[str, dict[str, float]]:
    keys = {key: None for figures in rounds for key in figures}
    seen = {key: [figures[key] for figures in rounds if key in figures] for key in keys}
    return {key: {"median": statistics.median(all_), "min": min(all_), "max": max(all_)} for key, all_ in seen.items()}


def _machine(pinned: tuple[int, int] | None) -> dict[str, Any]:
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    nginx = subprocess.run([peers.NGINX, "-v"], capture_output=True, text=True, check=False).stderr.strip()
    return {
        "cpu": cpu[0] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "pinned": {"proxy": pinned[0], "upstream and load": pinned[1]} if pinned else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "nginx": nginx.rpartition(" ")[2],
    }


def _installed(chosen: Sequence[Peer], cache: Path, errors: Errors) -> list[Peer]:
    ready = []
    for peer in chosen:
        try:
            peer.install(peer.installed(cache))
            ready.append(peer)
        except OSError as reason:
            _say(f"{peer.name}: not installed: {reason}")
            errors[peer.name] = [f"not installed: {reason}"]
    return ready


def main() -> None:
    options = _options()
    names = options.only.split(",") if options.only else [peer.name for peer in peers.PEERS]
    unknown = set(names) - {peer.name for peer in peers.PEERS}
    missing = [tool for tool in (peers.NGINX, measure.WRK) if not Path(tool).exists()]
    if unknown or missing:
        sys.exit(f"--only: there is no {', '.join(sorted(unknown))}" if unknown else f"needed and not here: {missing}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    many_files()
    pinned = cores()
    size = measure.QUICK if options.quick else measure.FULL
    errors: Errors = {}
    chosen = _installed([peer for peer in peers.PEERS if peer.name in names], options.cache, errors)
    pin(pinned[1] if pinned else None)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="router-bench-") as work:
        bench = Bench(size, options.cache, Path(work), pinned)
        with bench.upstreams():
            for turn in range(options.rounds or size.rounds):
                _say(f"\nround {turn + 1}")
                bench.round(chosen)
    report = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "took_s": round(time.monotonic() - started),
        "machine": _machine(pinned),
        "size": {key: getattr(size, key) for key in size.__dataclass_fields__},
        "titles": {DIRECT: "no proxy", **{peer.name: peer.title for peer in peers.PEERS}},
        "versions": {"us": peers.our_version(), **{peer.name: peer.version for peer in chosen if peer.version}},
        "errors": {**errors, **bench.errors},
        "figures": {name: _summary(rounds) for name, rounds in bench.rounds.items()},
        "rounds": bench.rounds,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    options.out.with_suffix(".svg").write_text(chart.draw(report))
    _say(f"\n{chart.table(report)}\n\n{options.out} and .svg, {report['took_s']} s")


def _options() -> argparse.Namespace:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    parser = argparse.ArgumentParser(description="Compare the router with other gateways, on pinned cores.")
    parser.add_argument("--only", default="", help="names, with commas: " + ",".join(each.name for each in peers.PEERS))
    parser.add_argument("--quick", action="store_true", help="one short round, to see that everything runs")
    parser.add_argument("--rounds", type=int, default=0, help=f"in place of {measure.FULL.rounds}")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{today}.json")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where other gateways are installed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
