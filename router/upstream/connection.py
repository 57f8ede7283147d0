"""One HTTP/1.1 connection to an upstream: one exchange at a time, parsed by httptools, framed strictly.

A `Connection` outlives its exchanges; an `Answer` is one exchange. The connection goes back to its pool the moment the
last byte of a cleanly framed message is parsed, even while the caller still reads what the Answer has buffered.
Whatever is odd (bytes after the end, an upgrade, an answer before the request was whole) closes the connection.

An Answer carries `due`, the moment at which it counts as silent; the pool's ticker looks at it ten times a second, so
a clock costs an assignment a read and no timer.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

import httptools

from router.upstream.faults import Break, Broken

HEAD_LIMIT: Final = 64 * 1024
BUFFER_HIGH: Final = 256 * 1024  # pause reading above
NEVER: Final = float("inf")

Headers = list[tuple[bytes, bytes]]


class Answer:
    """Status, headers (names lower-cased) and the body as it comes. Must be read to its end or closed.

    `framed` is False where the body simply ended with the connection: such an end proves nothing.
    """

    __slots__ = (
        "_chunks",
        "_connection",
        "_error",
        "_loop",
        "_silence",
        "_size",
        "_waiter",
        "complete",
        "deadline",
        "due",
        "framed",
        "headers",
        "reused",
        "status",
        "touched",
        "uploading",
    )

    def __init__(self, connection: "Connection", loop: asyncio.AbstractEventLoop, due: float, deadline: float) -> None:
        self.status = 0
        self.headers: Headers = []
        self.framed = False
        self.complete = False
        self.touched = False  # a byte of the response has come
        self.uploading = False
        self.reused = False
        self.due = due
        self.deadline = deadline
        self._connection = connection
        self._loop = loop
        self._chunks: list[bytes] = []
        self._size = 0
        self._error: Break | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._silence = NEVER

    def header(self, name: bytes) -> bytes | None:
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def clocks(self, silence: float) -> None:
        """From now on at most `silence` seconds may pass between two reads, and never past the deadline."""
        self._silence = silence
        self.due = min(self._loop.time() + silence, self.deadline)

    async def chunk(self) -> bytes:
        """The next bytes of the body, all that have come; empty at its end. Raises Broken."""
        while not self._chunks:
            if self.complete:
                return b""
            if self._error is not None:
                raise Broken(self._error)
            await self.arrival()
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        if self._size > BUFFER_HIGH:
            self._connection.resume()
        self._size = 0
        return data

    def waiting(self) -> bool:
        """Whether bytes have come that nobody took yet."""
        return bool(self._chunks)

    async def read(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes. Raises Broken."""
        if self.complete and self._size <= limit:
            return b"".join(self._chunks)
        parts: list[bytes] = []
        size = 0
        while data := await self.chunk():
            size += len(data)
            if size > limit:
                self.close()
                raise Broken("too_large")
            parts.append(data)
        return b"".join(parts)

    def close(self) -> None:
        """Let go: an answer that has not ended takes its connection with it."""
        if not self.complete and self._error is None:
            self._error = "closed"
            self._connection.abort()

    def expire(self, now: float) -> None:
        """The ticker's: the clock ran out."""
        self.fail("deadline" if now >= self.deadline else "silence")
        self._connection.abort()

    async def arrival(self) -> None:
        """Wait until something more has come: the head, bytes, the end or a failure."""
        waiter = self._waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def failure(self) -> Break | None:
        return self._error

    # What follows is for the connection.

    def add(self, data: bytes) -> int:
        self._chunks.append(data)
        self._size += len(data)
        return self._size

    def fail(self, reason: Break) -> None:
        if not self.complete and self._error is None:
            self._error = reason
        self.wake()

    def spoil(self) -> None:
        """The message ended, and more bytes came behind it: its framing cannot be believed."""
        self.complete = False
        self._error = "framing"

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def refresh(self) -> None:
        if self._silence != NEVER:
            self.due = min(self._loop.time() + self._silence, self.deadline)


class Connection(asyncio.Protocol):
    """The protocol object; `free` is called when it may be used again, `lost` when it is gone."""

    __slots__ = (
        "_answer",
        "_drained",
        "_free",
        "_head",
        "_interim",
        "_keep",
        "_loop",
        "_lost",
        "_parser",
        "_paused",
        "_transport",
        "idle_since",
        "placed",
        "served",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        free: "Callable[[Connection], None]",
        lost: "Callable[[Connection], None]",
    ) -> None:
        self._loop = loop
        self._free = free
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._head = 0  # bytes of the head so far
        self._interim = False
        self._keep = False
        self._paused = False
        self._drained: asyncio.Future[None] | None = None
        self.served = 0
        self.idle_since = 0.0
        self.placed = True  # counts as one of its pool's open connections

    # The pool's side.

    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def begin(self, data: bytes, due: float, deadline: float, uploading: bool = False) -> Answer:
        """Send a request's head and (first) bytes; the Answer is filled as bytes come."""
        answer = self._answer = Answer(self, self._loop, due, deadline)
        answer.uploading = uploading
        answer.reused = self.served > 0
        self.served += 1
        self._head = 0
        cast(asyncio.Transport, self._transport).write(data)
        return answer

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the upstream has taken what was written, more or less."""
        if self._paused and self.usable():
            self._drained = self._loop.create_future()
            try:
                await self._drained
            finally:
                self._drained = None

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # asyncio's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:  # nobody asked: never an answer to the next request
            self.abort()
            return
        answer.touched = True
        if not answer.status:
            self._head += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fault(answer)
            return
        if answer.complete:
            self._answer = None
            answer.wake()
            if self._keep and not answer.uploading and self.usable():
                self._free(self)
            else:
                self.close()
        elif answer.status:
            answer.refresh()
            answer.wake()
        elif self._head > HEAD_LIMIT:
            self._fault(answer)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        answer, self._answer = self._answer, None
        self._transport = None
        if answer is not None and not answer.complete:
            if exc is None and answer.status and not answer.framed and answer.failure() is None:
                answer.complete = True
            else:
                answer.fail("closed")
            answer.wake()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._lost(self)

    def _fault(self, answer: Answer) -> None:
        answer.spoil()
        answer.wake()
        self.abort()

    # httptools' side.

    def on_message_begin(self) -> None:
        if self._answer is None or self._answer.complete:
            raise ValueError("bytes after the end of the message")

    def on_header(self, name: bytes, value: bytes) -> None:
        answer = cast(Answer, self._answer)
        if answer.status:  # trailers are dropped: no client of ours reads them
            return
        name = name.lower()
        if name == b"content-length" or (name == b"transfer-encoding" and value.lower() == b"chunked"):
            answer.framed = True
        answer.headers.append((name, value))

    def on_headers_complete(self) -> None:
        answer = cast(Answer, self._answer)
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            if status == 101:
                raise ValueError("an upgrade nobody asked for")
            self._interim = True
            answer.headers.clear()
            answer.framed = False
            return
        if status in (204, 304):
            answer.framed = True
        answer.status = status

    def on_body(self, data: bytes) -> None:
        answer = cast(Answer, self._answer)
        if answer.add(data) > BUFFER_HIGH:
            cast(asyncio.Transport, self._transport).pause_reading()

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            return
        answer = cast(Answer, self._answer)
        self._keep = bool(self._parser.should_keep_alive()) and answer.framed
        answer.complete = True
