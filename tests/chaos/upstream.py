"""An upstream made of raw sockets that misbehaves by the book: the fault is chosen by the model that is asked for.

Each attempt is kept with its time, head and body, how much of the answer was written and when its connection ended. A
script is a generator of steps: bytes are written as they are, a number is a pause in seconds, an `End` is how it ends.
Nothing of the program under test is used here.
"""

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class End(Enum):
    """How a connection ends. KEEP: it does not, the next request may come."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"
    HOLD = "hold"  # nothing more is said, until the other side has had enough


Step = bytes | float | End


@dataclass
class Attempt:
    """One request, as it arrived. `nth` of its model, from 1, so many seconds `after` the first. `ended`: when the
    connection was over, by either side.
    """

    at: float
    model: str
    nth: int
    after: float
    path: str
    headers: dict[str, str]
    body: Any
    written: int = 0
    ended: float | None = None
    gone: bool = False  # the caller left before the script was over


Script = Callable[[Attempt], Iterable[Step]]


@dataclass
class Chaos:
    """Listens on a port of its own, in a thread with a loop of its own."""

    scripts: Mapping[str, Script]
    attempts: list[Attempt] = field(default_factory=list)
    port: int = 0
    open: int = 0  # connections
    _loop: asyncio.AbstractEventLoop | None = None

    def of(self, model: str) -> list[Attempt]:
        return [each for each in self.attempts if each.model == model]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        attempt: Attempt | None = None
        early = b""  # of the next request, heard while this one was answered
        try:
            while True:
                attempt = None
                attempt = await self._read(reader, early)
                end, early = await self._play(attempt, reader, writer)
                if end is not End.KEEP:
                    return
                attempt.ended = time.monotonic()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            if attempt is not None:
                attempt.ended = time.monotonic()
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, early: bytes) -> Attempt:
        head = early + await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        body = json.loads(raw) if raw else None
        model = body.get("model", "") if isinstance(body, dict) else ""
        earlier, now = self.of(model), time.monotonic()
        after = now - earlier[0].at if earlier else 0.0
        attempt = Attempt(now, model, len(earlier) + 1, after, first.split(" ")[1], headers, body)
        self.attempts.append(attempt)
        return attempt

    async def _play(
        self, attempt: Attempt, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[End, bytes]:
        """The script beside an ear for the caller's leaving."""
        leaving = asyncio.ensure_future(reader.read(1))
        script = self.scripts.get(attempt.model) or self.scripts.get("*", _nobody)
        try:
            for step in script(attempt):
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                    attempt.written += len(step)
                elif step is End.RESET:
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()
                    return step, b""
                elif isinstance(step, End) and step is not End.HOLD:
                    return step, b""
                else:
                    done, _ = await asyncio.wait([leaving], timeout=step if isinstance(step, float | int) else None)
                    if done:
                        attempt.gone = True
                        return End.CLOSE, b""
            return End.KEEP, leaving.result() if leaving.done() else b""
        except OSError:
            attempt.gone = True
            raise
        finally:
            leaving.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await leaving


def _nobody(_: Attempt) -> Iterator[Step]:
    yield b"HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n"


@contextlib.contextmanager
def chaos(*upstreams: Chaos) -> Iterator[None]:
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    over = asyncio.Event()

    async def main() -> None:
        servers = []
        for each in upstreams:
            each._loop = loop
            servers.append(await asyncio.start_server(each.serve, "127.0.0.1", 0, backlog=1024))
            each.port = servers[-1].sockets[0].getsockname()[1]
        ready.set()
        await over.wait()
        for server in servers:
            server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(5)
        loop.close()
