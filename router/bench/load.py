"""The caller's side: raw connections that ask, count and look at the clock, and do nothing else.

Three drivers: `latency` (one blocking socket, one request after another), `requests` (a closed loop over many
connections) and `Crowd` (many open streams). Latency of a streamed event is the driver's clock less the stamp in the
event, which the mock wrote on the same machine. Answers are read just far enough to know where they end and that
their status is 200; whether a proxy answers rightly is what `check` asks once, before anything is measured.
"""

import asyncio
import re
import socket
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from router.bench import wire

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
Headers = Mapping[str, str]


class Unanswered(Exception):
    """The proxy refused, hung up or said something else than it was asked for."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What a closed loop saw; times in seconds."""

    per_second: float
    p50: float
    p99: float


@dataclass(slots=True)
class Window:
    """What all streams of a crowd got in a stretch of time."""

    seconds: float = 0.0
    events: int = 0
    alone: int = 0  # events that came as the only one of their read
    delays: list[int] = field(default_factory=list)  # nanoseconds from the mock's write to the driver's read

    def worst(self) -> float:
        return max(self.delays, default=0) / 1e9

    def p(self, share: float) -> float:
        return quantile(self.delays, share) / 1e9


def quantile(values: list[int], share: float) -> float:
    """The value below which `share` of them lie; NaN of none."""
    return float(sorted(values)[min(len(values) - 1, int(len(values) * share))]) if values else float("nan")


def check(port: int, headers: Headers) -> None:
    """One answer and one short stream, each looked at whole: what is measured afterwards is right at least once."""
    answer = _ask(port, wire.body(), headers)
    if wire.REPLY.encode() not in answer or b"total_tokens" not in answer:
        raise Unanswered(f"not the answer of the mock: {answer[-300:]!r}")
    stream = _ask(port, wire.stream_body(5), headers)
    if stream.count(wire.MARK) != 5 or b"[DONE]" not in stream:
        raise Unanswered(f"not the stream of the mock: {stream[-300:]!r}")


def answers(port: int, headers: Headers) -> bool:
    """Whether a chat through this port gets its answer already."""
    try:
        return wire.REPLY.encode() in _ask(port, wire.body(), headers)
    except (OSError, Unanswered):
        return False


def _ask(port: int, payload: bytes, headers: Headers) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        line.sendall(wire.request(port, payload, headers))
        return _read(line)


def _read(line: socket.socket) -> bytes:
    got = b""
    while not whole(got):
        data = line.recv(262144)
        if not data:
            raise Unanswered(f"hung up after {got[-300:]!r}")
        got += data
    if not got.startswith(b"HTTP/1.1 200"):
        raise Unanswered(got[:600].decode(errors="replace"))
    return got


def whole(got: bytes) -> bool:
    """Whether these bytes are one answer to its end."""
    head_end = got.find(b"\r\n\r\n") + 4
    if head_end < 4:
        return False
    length = _LENGTH.search(got, 0, head_end)
    if length:
        return len(got) >= head_end + int(length[1])
    return bool(_CHUNKED.search(got, 0, head_end)) and got.endswith(_LAST_CHUNK)


def latency(port: int, headers: Headers, *, seconds: float) -> Timing:
    """One connection, one request after another."""
    payload = wire.request(port, wire.body(), headers)
    times: list[int] = []
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started = before = time.monotonic_ns()
        while before - started < seconds * 1e9:
            line.sendall(payload)
            _read(line)
            now = time.monotonic_ns()
            times.append(now - before)
            before = now
    return Timing(len(times) / seconds, quantile(times, 0.5) / 1e9, quantile(times, 0.99) / 1e9)


class _Asker(asyncio.Protocol):
    """One connection of a closed loop."""

    def __init__(self, payload: bytes, times: list[int]) -> None:
        self._payload = payload
        self._times = times
        self._got = b""
        self._sent = 0
        self._transport: asyncio.Transport
        self.failure: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        self._sent = time.monotonic_ns()
        self._transport.write(self._payload)

    def data_received(self, data: bytes) -> None:
        got = self._got = self._got + data if self._got else data
        if not whole(got):
            return
        if not got.startswith(b"HTTP/1.1 200"):
            self.failure = got[:300].decode(errors="replace")
            self._transport.abort()
            return
        self._times.append(time.monotonic_ns() - self._sent)
        self._got = b""
        self._send()

    def close(self) -> None:
        self._transport.abort()


async def requests(port: int, headers: Headers, *, connections: int, seconds: float) -> Timing:
    """So many connections, each sending its next request when its last one is answered."""
    loop = asyncio.get_running_loop()
    payload = wire.request(port, wire.body(), headers)
    times: list[int] = []
    askers = []
    for _ in range(connections):
        _, asker = await loop.create_connection(lambda: _Asker(payload, times), "127.0.0.1", port)
        askers.append(asker)
    started = time.monotonic()
    times.clear()
    await asyncio.sleep(seconds)
    taken = time.monotonic() - started
    for asker in askers:
        asker.close()
    if failure := next((asker.failure for asker in askers if asker.failure), None):
        raise Unanswered(failure)
    return Timing(len(times) / taken, quantile(times, 0.5) / 1e9, quantile(times, 0.99) / 1e9)


async def figure(port: int, name: str) -> float:
    """One of the router's own figures, as `/metrics` tells it; 0 where it does not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n".encode())
        lines = (await reader.read()).decode().splitlines()
    finally:
        writer.close()
    return next((float(line.split()[-1]) for line in lines if line.startswith(name + " ")), 0.0)


class _Listener(asyncio.Protocol):
    """One stream of a crowd."""

    def __init__(self, payload: bytes, crowd: "Crowd") -> None:
        self._payload = payload
        self._crowd = crowd
        self._cut = b""  # a stamp that the read ended in
        self._heard = self._begun = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._payload)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if self._cut:
            data = self._cut + data
            self._cut = b""
        window, count, at = self._crowd.window, 0, data.find(wire.MARK)
        while at >= 0:
            if len(data) < at + wire.STAMP:
                self._cut = data[at:]
                break
            window.delays.append(now - int(data[at + 2 : at + wire.STAMP]))
            count += 1
            at = data.find(wire.MARK, at + wire.STAMP)
        window.events += count
        window.alone += count == 1
        if not self._heard:
            self._heard = True
            if not data.startswith(b"HTTP/1.1 200"):
                self._crowd.failed(data[:300].decode(errors="replace"))
        if not self._begun and count:
            self._begun = True
            self._crowd.started()

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.failed(f"a stream ended: {exc}")

    def close(self) -> None:
        self._transport.abort()


class Crowd:
    """Streams that are open at the same time, counted together."""

    def __init__(self, port: int, payload: bytes, headers: Headers) -> None:
        self._port = port
        self._payload = wire.request(port, payload, headers)
        self._listeners: list[_Listener] = []
        self._open = 0
        self._failures: list[str] = []
        self._closing = False
        self.window = Window()

    async def open(self, count: int, *, at_once: int, timeout: float) -> int:
        """Open them, never more than `at_once` waiting for their first event; how many had it in the time given."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + timeout
        while self._open < count and loop.time() < give_up:
            while len(self._listeners) < min(count, self._open + at_once):
                _, listener = await loop.create_connection(
                    lambda: _Listener(self._payload, self), "127.0.0.1", self._port
                )
                self._listeners.append(listener)
            await asyncio.sleep(0.001)
            if self._failures:
                raise Unanswered(f"{self._open} of {count} streams had begun; {self._failures[0]}")
        return self._open

    async def listen(self, seconds: float, besides: Awaitable[object] | None = None) -> Window:
        """What they get from now on, for so long, and until what else is awaited has come."""
        window = self.window = Window()
        started = time.monotonic()
        await asyncio.sleep(seconds)
        if besides is not None:
            await besides
        window.seconds = time.monotonic() - started
        self.window = Window()
        if self._failures:
            raise Unanswered(self._failures[0])
        return window

    def started(self) -> None:
        self._open += 1

    def failed(self, reason: str) -> None:
        if not self._closing:
            self._failures.append(reason)

    async def close(self) -> None:
        self._closing = True
        for listener in self._listeners:
            listener.close()
        await asyncio.sleep(0.1)


async def send(port: int, payload: bytes, headers: Headers, *, timeout: float) -> float:
    """One request beside whatever else goes on; the seconds until its answer was whole."""
    started = time.monotonic()
    got = b""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(wire.request(port, payload, headers))
            while not whole(got) and (data := await reader.read(262144)):
                got += data
            writer.close()
    except TimeoutError:
        raise Unanswered(f"a request of {len(payload):,} bytes had no answer after {timeout:.0f} s") from None
    if not got.startswith(b"HTTP/1.1 200"):
        raise Unanswered(got[:300].decode(errors="replace") or "hung up")
    return time.monotonic() - started
