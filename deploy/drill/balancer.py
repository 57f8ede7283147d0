"""What stands before the replicas: HAProxy with deploy/haproxy.cfg, or a small stand-in where there is none.

The stand-in passes connections on and asks for readiness as often as HAProxy would. It is no balancer for use: it sees
no requests, so a connection stays where it is until the router closes it.
"""

import asyncio
import contextlib
import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from deploy.drill.debian import Program

CONFIG: Final = Path(__file__).parents[1] / "haproxy.cfg"
EVERY: Final = 0.5  # seconds between two looks
DOWN_AFTER: Final = 2  # looks in a row


@contextlib.contextmanager
def haproxy(program: Program, port: int, figures: int, replicas: Sequence[int], log: Path) -> Iterator[None]:
    addresses = {f"ROUTER_{nth}": f"127.0.0.1:{each}" for nth, each in enumerate(replicas, 1)}
    env = {**program.env, "LISTEN": f"127.0.0.1:{port}", "FIGURES": f"127.0.0.1:{figures}", **addresses}
    with log.open("wb") as output:
        process = subprocess.Popen([program.path, "-db", "-f", CONFIG], env=env, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def stand_in(port: int, replicas: Sequence[int]) -> Iterator[None]:
    command = [sys.executable, "-m", __name__, str(port), *map(str, replicas)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(CONFIG.parents[1])})
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/health/readiness")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


class StandIn:
    def __init__(self, replicas: Sequence[int]) -> None:
        self._load = dict.fromkeys(replicas, 0)
        self._failed = dict.fromkeys(replicas, DOWN_AFTER)

    def look(self) -> None:
        while True:
            for port in self._failed:
                self._failed[port] = 0 if is_ready(port) else self._failed[port] + 1
            time.sleep(EVERY)

    async def passed_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up = [port for port, failed in self._failed.items() if failed < DOWN_AFTER]
        for port in sorted(up, key=self._load.__getitem__):
            with contextlib.suppress(OSError):
                there = await asyncio.open_connection("127.0.0.1", port)
                self._load[port] += 1
                ways = [asyncio.create_task(_pump(reader, there[1])), asyncio.create_task(_pump(there[0], writer))]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for each in ways:
                    each.cancel()
                self._load[port] -= 1
                there[1].close()
                break
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def _serve(port: int, replicas: Sequence[int]) -> None:
    balancer = StandIn(replicas)
    threading.Thread(target=balancer.look, daemon=True).start()
    server = await asyncio.start_server(balancer.passed_on, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(int(sys.argv[1]), [int(each) for each in sys.argv[2:]]))
