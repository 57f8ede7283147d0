"""The measures: each takes a proxy that is up and gives named figures, in the units that the names end with.

`rps` is measured with wrk against an nginx that answers a constant, since a driver and an upstream in Python would be
slower than the fastest proxy. Everything else uses the mock and the drivers of `router.bench`.
"""

import asyncio
import json
import re
import statistics
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import peers
from router.bench import load, wire
from router.bench.process import Program

Figures = dict[str, float]
WRK: Final = "/usr/bin/wrk"
INTERVAL_MS: Final = 20
_UNITS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
_PATIENCE: Final = 30.0  # seconds for all streams to begin; a proxy that cannot keep up never starts the last ones
_WINDOW: Final = 0.4  # seconds; long enough for a large prompt to pass through any of them that keeps up


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    rounds: int
    seconds: float
    connections: int
    streams: int
    beside: int  # streams beside the large prompt
    prompts: int
    idle: int


FULL: Final = Size(rounds=3, seconds=5.0, connections=32, streams=400, beside=50, prompts=9, idle=2000)
QUICK: Final = Size(rounds=1, seconds=1.5, connections=32, streams=400, beside=50, prompts=3, idle=500)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send requests, and the program there; none where the upstream is asked directly."""

    port: int
    headers: Mapping[str, str]
    program: Program | None = None

    def cpu(self) -> float:
        return self.program.cpu() if self.program else 0.0


def mock_conf(work: Path, port: int) -> Path:
    """nginx as an upstream that answers a constant to every chat, and the facts that gateways ask for."""
    facts = {**wire.FACTS, wire.CHAT: wire.COMPLETION}
    places = "\n".join(
        f"  location = {path} {{ return 200 '{json.dumps(fact, separators=(',', ':'))}'; }}"
        for path, fact in facts.items()
    )
    return peers.nginx_conf(work, f"server {{ listen 127.0.0.1:{port} backlog=4096;\n{places}\n}}")


def throughput(target: Target, size: Size, work: Path) -> Figures:
    """Requests a second in a closed loop over many connections."""
    _wrk(target, size.connections, 1.0, work)
    cpu = target.cpu()
    figures, answered = _wrk(target, size.connections, size.seconds, work)
    cpu = target.cpu() - cpu
    return {**figures, "cpu_per_request_us": cpu / answered * 1e6} if target.program else figures


def _wrk(target: Target, connections: int, seconds: float, work: Path) -> tuple[Figures, int]:
    script = work / "ask.lua"
    headers = {"content-type": "application/json", "authorization": f"Bearer {wire.KEY}", **target.headers}
    lines = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()]
    script.write_text("\n".join(['wrk.method = "POST"', f"wrk.body = [[{wire.body().decode()}]]", *lines]))
    command = [WRK, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "60s", "--latency"]
    address = f"http://127.0.0.1:{target.port}{wire.CHAT}"
    said = subprocess.run([*command, "-s", str(script), address], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or (errors := re.search(r"Socket errors.*", said)):
        raise load.Unanswered(f"wrk: {said[-300:]}" if "Non-2xx" in said else f"wrk: {errors}")
    figures = {"rps": float(_found(r"Requests/sec: +([\d.]+)", said)[1])}
    for share in (50, 99):
        found = _found(rf" {share}% +([\d.]+)(us|ms|s|m)\b", said)
        figures[f"rps_p{share}_ms"] = float(found[1]) * _UNITS[found[2]]
    return figures, int(_found(r"(\d+) requests in", said)[1])


def _found(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text)
    if match is None:
        raise load.Unanswered(f"wrk said {text[-300:]!r}")
    return match


def latency(target: Target, size: Size) -> Figures:
    """One connection, one request after another."""
    load.latency(target.port, target.headers, seconds=0.5)
    timing = load.latency(target.port, target.headers, seconds=size.seconds)
    return {"latency_p50_ms": timing.p50 * 1e3, "latency_p99_ms": timing.p99 * 1e3}


async def streams(target: Target, size: Size) -> Figures:
    """Many open streams that each speak every 20 ms, once all of them have begun, or as many as the proxy can begin."""
    crowd = load.Crowd(target.port, wire.stream_body(wire.FOREVER), target.headers)
    try:
        opened = await crowd.open(size.streams, at_once=20, timeout=_PATIENCE)
        await asyncio.sleep(0.5)
        cpu = target.cpu()
        window = await crowd.listen(size.seconds)
        cpu = target.cpu() - cpu
    finally:
        await crowd.close()
    figures = {
        "streams_opened": float(opened),
        "chunk_delay_p50_ms": window.p(0.5) * 1e3,
        "chunk_delay_p99_ms": window.p(0.99) * 1e3,
        "chunks_alone_share": window.alone / max(1, window.events),
        "chunks_delivered_share": _delivered(window, size.streams),
    }
    return {**figures, "cpu_per_chunk_us": cpu / max(1, window.events) * 1e6} if target.program else figures


def _delivered(window: load.Window, streams: int) -> float:
    return window.events / (streams * window.seconds * 1000 / INTERVAL_MS)


async def stall(target: Target, size: Size) -> Figures:
    """The longest that any of some streams waits for an event while a prompt of 1 MB passes and while none does."""
    prompt = wire.body("All work and no play. " * 47_663)
    crowd = load.Crowd(target.port, wire.stream_body(wire.FOREVER), target.headers)
    quiet, loud, taken = [], [], []
    try:
        if await crowd.open(size.beside, at_once=5, timeout=_PATIENCE) < size.beside:
            raise load.Unanswered(f"{size.beside} streams beside a prompt had not begun after {_PATIENCE:.0f} s")
        await asyncio.sleep(0.5)
        for _ in range(size.prompts):
            still = await crowd.listen(_WINDOW)
            quiet.append(still)
            passing = asyncio.create_task(load.send(target.port, prompt, target.headers, timeout=_PATIENCE))
            loud.append(await crowd.listen(_WINDOW, passing))
            taken.append(await passing)
    finally:
        await crowd.close()
    before = statistics.median(each.worst() for each in quiet) * 1e3
    during = statistics.median(each.worst() for each in loud) * 1e3
    return {
        "stall_without_prompt_ms": before,
        "stall_with_prompt_ms": during,
        "stall_extra_ms": max(0.0, during - before),
        "stall_worst_ms": max(each.worst() for each in loud) * 1e3,
        "prompt_answer_ms": statistics.median(taken) * 1e3,
        "stall_delivered_share": statistics.median(_delivered(each, size.beside) for each in quiet),
    }


async def idle(target: Target, size: Size) -> Figures:
    """The memory of the proxy while many streams are open that had one event and wait for the next."""
    crowd = load.Crowd(target.port, wire.idle_body(), target.headers)
    try:
        opened = await crowd.open(size.idle, at_once=50, timeout=3 * _PATIENCE)
        await asyncio.sleep(1.0)
        rss = target.program.rss() / 1e6 if target.program else 0.0
        return {"idle_streams_opened": float(opened), "idle_streams_rss_mb": rss}
    finally:
        await crowd.close()
