"""What happens in a drill, in order."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from deploy.drill import balancer, debian, load, stores
from deploy.drill.load import Callers
from deploy.drill.replicas import ROOT, Replica, free_port
from deploy.drill.report import Report

KEY: Final = "hf_the-key-of-the-drill-000000000000"
COUNTED: Final = "hf_a-key-of-few-requests-0000000000"
FEW: Final = 480  # requests that the counted tenant may send; a day, so that none comes back meanwhile
LAG: Final = 3.0  # seconds by which the ledger may be behind the last answer
PLAIN, STREAMS, EVENTS = 12, 24, 160  # callers, and events of a stream, a twentieth of a second apart

CONFIG: Final = """
server: {{host: 127.0.0.1, drain: 30s, drain_delay: 3s}}
plans: {{few: {{requests: {few}/day}}}}
virtual_keys: [{{name: everybody, key: {key}}}, {{name: counted, key: {counted}, plan: few}}]
upstreams: {{mock: {{provider: openai, base_url: "http://127.0.0.1:{mock}/v1"}}}}
tables: []
models: {{mock: {{deployments: [{{upstream: mock}}]}}}}
{stores}
"""


async def run(place: Path, *, stores: bool, programs: Path | None) -> Report:
    """`programs`: where HAProxy is, or is unpacked to; None: the stand-in."""
    with contextlib.ExitStack() as stack:
        mock, front = free_port(), free_port()
        _start_mock(stack, mock)
        ledger, lines = _stores(stack, place) if stores else ("", "")
        config = place / "config.yaml"
        config.write_text(CONFIG.format(few=FEW, key=KEY, counted=COUNTED, mock=mock, stores=lines))
        routers = [Replica(f"router-{nth}", config, place) for nth in (1, 2, 3)]
        for each in routers:
            each.start()
            stack.callback(each.stop)
        for each in routers:
            each.ready()
        behind = _balanced(stack, programs, front, [each.port for each in routers], place)
        return await _told(f"http://127.0.0.1:{front}", front, routers, config, behind, ledger)


def _start_mock(stack: contextlib.ExitStack, port: int) -> None:
    command = [sys.executable, "-m", "router.bench.mock", "--port", str(port), "--interval", "50"]
    mock = subprocess.Popen(command, cwd=ROOT)
    stack.callback(mock.wait)
    stack.callback(mock.kill)


def _stores(stack: contextlib.ExitStack, place: Path) -> tuple[str, str]:
    """The ledger's URL, and the lines of the configuration."""
    shared = stack.enter_context(stores.redis_server(place, free_port()))
    ledger = stack.enter_context(stores.postgres(place / "postgres"))
    return ledger, f'stores: {{shared: "{shared}", ledger: "{ledger}"}}'


def _balanced(stack: contextlib.ExitStack, programs: Path | None, front: int, ports: list[int], place: Path) -> str:
    found = debian.program("haproxy", programs) if programs else None
    if found is None:
        stack.enter_context(balancer.stand_in(front, ports))
        return "a stand-in of the drill's own (no HAProxy here)"
    stack.enter_context(balancer.haproxy(found, front, free_port(), ports, place / "haproxy.log"))
    return found.run("-v").stdout.splitlines()[0].partition(" - ")[0]


async def _told(base: str, front: int, routers: list[Replica], config: Path, behind: str, ledger: str) -> Report:
    one, two, three = routers
    for _ in range(100):
        if balancer.is_ready(front):
            break
        await asyncio.sleep(0.1)
    else:
        raise SystemExit(f"{behind} does not answer: {_last_words(config.parent)}")
    await asyncio.sleep(2 * balancer.EVERY)
    callers = Callers(base, KEY)
    callers.start(PLAIN, STREAMS, EVENTS)
    await asyncio.sleep(4)

    callers.phase = "killed"
    counting = asyncio.create_task(load.admitted(base, COUNTED, 2 * FEW, 6, 0.15))  # 24 s: while all of it happens
    await asyncio.sleep(1)
    one.signal(signal.SIGKILL)
    await asyncio.to_thread(one.ended, 5)
    await asyncio.sleep(4)
    one.start()
    await asyncio.to_thread(one.ready)
    await asyncio.sleep(3)

    callers.phase = "drained"
    two.signal(signal.SIGTERM)
    code = await asyncio.to_thread(two.ended, 35)
    two.start()
    await asyncio.to_thread(two.ready)
    await asyncio.sleep(3)

    callers.phase = "reloaded"
    await asyncio.to_thread(_change, config)
    three.signal(signal.SIGHUP)
    await asyncio.sleep(5)
    generations = [await asyncio.to_thread(each.generation) for each in routers]

    callers.phase = "after"
    seen = await callers.end()
    report = Report(behind, seen, code, generations)
    allowed, refused, counted = await counting
    if ledger:
        report.limits = f"{allowed} of {FEW} a day let in, {refused} refused, {counted.doubtful} tries of unknown fate"
        report.limits_hold = FEW - counted.doubtful <= allowed <= FEW and not counted.failed
        served, cut = seen.ids | counted.ids, seen.cut_ids | counted.cut_ids
        await asyncio.to_thread(_look_at_the_ledger, report, ledger, served, cut)
    return report


def _change(config: Path) -> None:
    config.write_text(config.read_text() + "default_models: {conversational: mock}\n")


def _last_words(place: Path) -> str:
    log = place / "haproxy.log"
    return log.read_text()[-1000:] if log.exists() else ""


def _look_at_the_ledger(report: Report, url: str, served: set[str], cut: set[str]) -> None:
    """What was served is written once, and so is a stream whose router died: as lost, by whoever found its spool."""
    until = time.monotonic() + LAG
    while True:
        try:
            written = stores.written(url)
        except stores.Unreadable as error:
            report.ledger, report.ledger_holds = f"cannot be read: {error}", False
            return
        missing = (served | cut) - written.keys()
        if not missing or time.monotonic() > until:
            break
        time.sleep(0.1)
    doubled = [each for each, outcomes in written.items() if len(outcomes) > 1]
    lost = sum(written.get(each) == ["lost"] for each in cut)
    report.ledger = (
        f"{len(served)} served, {len(missing)} not written, {len(doubled)} written twice;"
        f" {lost} of {len(cut)} streams cut stand there as lost"
    )
    report.ledger_holds = not missing and not doubled and lost == len(cut)
