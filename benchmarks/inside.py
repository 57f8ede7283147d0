"""What our own code costs, without a socket: requests and streamed chunks fed to the connection that callers meet.

    python -m benchmarks.inside [--profile] [--counted]

Both ends are transports of paper: the caller's writes each request as soon as it has its answer, the upstream's answers
each request in the next turn of the loop. All else is the program itself, parser to log line. The figures are the least
of several rounds, in the processor's time, all threads together, so they hardly depend on what else the machine does;
add the kernel's share for what a request costs.
"""

import argparse
import asyncio
import cProfile
import functools
import gc
import pstats
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
import uvloop
from uvicorn.server import ServerState

from router import config
from router.app import Router
from router.bench import wire
from router.server.guard import Guard
from router.upstream.connection import Connection
from router.upstream.faults import Silence

CALLERS = 32
REQUESTS = 20_000
STREAMS = 300
CHUNKS = 200
ROUNDS = 5

_CONFIG = f"""
virtual_keys: [{{name: bench, key: {wire.KEY}}}]
upstreams: {{mock: {{provider: openai, base_url: "http://127.0.0.1:9/v1", models: [bench-model], keys: [k]}}}}
tables: []
telemetry: {{log: "off"}}
stores: {{ledger: "off"}}
"""
_COUNTED = f"""
plans:
  bench: {{requests: 1000000000/hour, tokens: 1000000000000/hour, concurrency: 10000, budget: 1000000 USD/month}}
virtual_keys: [{{name: bench, plan: bench, key: {wire.KEY}}}]
upstreams: {{mock: {{provider: openai, base_url: "http://127.0.0.1:9/v1", keys: [k]}}}}
models: {{bench-model: {{deployments: [{{upstream: mock, price: {{input: 0.1, output: 0.4}}}}]}}}}
tables: []
telemetry: {{log: "off"}}
stores: {{directory: state}}
"""


class Paper(asyncio.Transport):
    """Hands what is written to `heard`."""

    def __init__(self, heard: Callable[[bytes], object]) -> None:
        super().__init__()
        self.heard = heard

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.heard(bytes(data))

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


def answer_of(stream: bool) -> list[bytes]:
    """An upstream's answer, a read each."""
    if not stream:
        return [wire.ANSWER]
    event = wire.EVENT_HEAD + b"0" * 19 + wire.EVENT_TAIL
    return [wire.STREAM_HEAD + event, *[event] * (CHUNKS - 2), wire.FINISH + wire.STREAM_END]


class Upstream:
    """In the place of the dialler: its connections answer whatever they are asked."""

    def __init__(self, answer: list[bytes]) -> None:
        self._answer = answer

    async def dial(self, connection: Connection, _: float) -> Silence | None:
        connection.connection_made(Paper(lambda _: self._say(connection, 0)))
        return None

    def _say(self, connection: Connection, number: int) -> None:
        asyncio.get_running_loop().call_soon(self._said, connection, number)

    def _said(self, connection: Connection, number: int) -> None:
        connection.data_received(self._answer[number])
        if number + 1 < len(self._answer):
            self._say(connection, number + 1)


async def round_of(guards: list[Guard], ask: bytes, ends: bytes, wanted: int) -> float:
    """Seconds of this process, all its threads, until all callers together have had so many answers."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    had = 0

    def heard(guard: Guard, data: bytes) -> None:
        nonlocal had
        if data.endswith(ends):
            had += 1
            if had < wanted:
                loop.call_soon(guard.data_received, ask)
            elif not done.done():
                done.set_result(None)

    for guard in guards:
        guard.transport.heard = functools.partial(heard, guard)  # type: ignore[attr-defined]
    began = time.process_time()
    for guard in guards:
        guard.data_received(ask)
    await done
    seconds = time.process_time() - began
    await asyncio.sleep(0.05)  # those that were under way end
    return seconds


async def measure(app: Router, stream: bool, profile: cProfile.Profile | None) -> float:
    """Seconds a request, the least of the rounds."""
    (upstream,) = app.upstreams.values()
    upstream.pool.dialer = Upstream(answer_of(stream))  # type: ignore[assignment]
    served = uvicorn.Config(app, interface="asgi3", http=Guard, ws="none", lifespan="off", log_config=None)
    served.load()
    loop = asyncio.get_running_loop()
    guards = [Guard(served, ServerState(), {}, loop) for _ in range(CALLERS)]
    for guard in guards:
        guard.connection_made(Paper(lambda _: None))
    ask = wire.request(9, wire.stream_body(1) if stream else wire.body(), {})
    ends, wanted = (b"0\r\n\r\n", STREAMS) if stream else (b"}", REQUESTS)
    gc.freeze()
    best = min([await round_of(guards, ask, ends, wanted) for _ in range(ROUNDS)])
    if profile is not None:
        profile.enable()
        await round_of(guards, ask, ends, wanted)
        profile.disable()
    await upstream.pool.close()
    return best / wanted


async def main(stream: bool, profiled: bool, counted: bool) -> None:
    profile = cProfile.Profile() if profiled else None
    with TemporaryDirectory() as place:
        file = Path(place) / "config.yaml"
        file.write_text(_COUNTED if counted else _CONFIG)
        app = Router(config.load(file, {}))
        async with app.lifespan():
            seconds = await measure(app, stream, profile)
    if stream:
        print(f"{seconds / CHUNKS * 1e6:6.2f} us a chunk, of streams of {CHUNKS}")
    else:
        print(f"{seconds * 1e6:6.2f} us a request")
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", action="store_true", help="also where the time goes, by function")
    parser.add_argument("--counted", action="store_true", help="with limits, a budget, prices and the ledger")
    chosen = parser.parse_args()
    for each in (False, True):
        uvloop.run(main(each, chosen.profile, chosen.counted))
