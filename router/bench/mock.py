"""A chat server that costs next to nothing, so that what is measured is whatever stands before it.

`python -m router.bench.mock --port 9000` serves until it is stopped. Answers are bytes made beforehand; requests
are read just far enough to tell them apart. Streams share one wheel that turns once per interval, in steps of a
millisecond: a stream speaks once a turn, and the streams are spread evenly over the steps, as independent ones are.
It refuses nothing and checks nothing, and is no example of a server.
"""

import argparse
import asyncio
import gc
import re
import time
from typing import Final, cast

import uvloop

from router.bench import wire

STEP: Final = 0.001
_WANT: Final = re.compile(rb"\[\[(stream|idle) ?(\d*)\]\]")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


class Wheel:
    """Gives every stream its beat, on one timer."""

    def __init__(self, steps: int) -> None:
        self._slots: list[set[Connection]] = [set() for _ in range(steps)]
        self._next_slot = 0
        self._step = 0
        self._due = 0.0
        self._riders = 0

    def join(self, rider: "Connection") -> int:
        """Take a place; the number is given back to `leave`."""
        place = self._next_slot
        self._next_slot = (place + 1) % len(self._slots)
        self._slots[place].add(rider)
        self._riders += 1
        if self._riders == 1:
            self._due = time.monotonic() + STEP
            asyncio.get_running_loop().call_later(STEP, self._turn)
        return place

    def leave(self, rider: "Connection", place: int) -> None:
        self._slots[place].discard(rider)
        self._riders -= 1

    def _turn(self) -> None:
        now = time.monotonic()
        while self._due <= now:
            for rider in tuple(self._slots[self._step]):
                rider.beat()
            self._step = (self._step + 1) % len(self._slots)
            self._due += STEP
        if self._riders:
            # Not `call_at(self._due)`: uvloop rounds to milliseconds, and what is nearly due would turn without rest.
            asyncio.get_running_loop().call_later(STEP, self._turn)


class Connection(asyncio.Protocol):
    """One caller: a request, its answer, the next request."""

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._transport: asyncio.Transport
        self._held = bytearray()  # of a request that is not whole yet
        self._needed = 0
        self._place = -1
        self._left = 0
        self._finish = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is not a subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def data_received(self, data: bytes) -> None:
        if self._held:
            self._held += data
            if len(self._held) < self._needed:
                return
            data = bytes(self._held)
            self._held.clear()
        while data:
            head_end = data.find(b"\r\n\r\n") + 4
            end = _end(data, head_end) if head_end > 3 else 0
            if not end or len(data) < end:
                self._held += data
                self._needed = end
                return
            self._answer(data[:head_end], data[head_end:end])
            data = data[end:]

    def _answer(self, head: bytes, body: bytes) -> None:
        path = head.split(b" ", 2)[1]
        if not path.endswith(b"/chat/completions"):
            self._transport.write(wire.FACT_ANSWERS.get(path, wire.LOST))
        elif b'"stream":true' in body or b'"stream": true' in body:
            self._stream(body)
        else:
            self._transport.write(wire.ANSWER)

    def _stream(self, body: bytes) -> None:
        want = _WANT.search(body)
        self._left = int(want[2] or wire.FOREVER) if want else 1
        self._finish = wire.FINISH + (wire.FINISH_USAGE if b'"include_usage"' in body else b"") + wire.STREAM_END
        self._transport.write(wire.STREAM_HEAD)
        self.beat()
        if self._left and not (want and want[1] == b"idle"):
            self._place = self._wheel.join(self)

    def beat(self) -> None:
        """Say the next event, and the end after the last one."""
        self._transport.write(b"%b%019d%b" % (wire.EVENT_HEAD, time.monotonic_ns(), wire.EVENT_TAIL))
        self._left -= 1
        if not self._left:
            self._leave()
            self._transport.write(self._finish)

    def _leave(self) -> None:
        if self._place >= 0:
            self._wheel.leave(self, self._place)
            self._place = -1


def _end(data: bytes, head_end: int) -> int:
    """Where the request ends, or 0 if that is not known yet."""
    length = _LENGTH.search(data, 0, head_end)
    if length:
        return head_end + int(length[1])
    if _CHUNKED.search(data, 0, head_end):
        return len(data) if data.endswith(b"\r\n0\r\n\r\n") else 0
    return head_end


async def _serve(port: int, interval_ms: int) -> None:
    wheel = Wheel(interval_ms)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(wheel), "127.0.0.1", port, backlog=4096)
    gc.freeze()
    gc.disable()
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="A chat server that costs next to nothing.")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--interval", type=int, default=20, help="milliseconds between the events of a stream")
    options = parser.parse_args()
    uvloop.run(_serve(options.port, options.interval))


if __name__ == "__main__":
    main()
