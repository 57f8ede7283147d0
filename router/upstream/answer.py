"""One answer of an upstream: status, headers, and the body as it comes, taken piece by piece or poured.

An Answer carries `due`, the moment at which it counts as silent, and `moved`, whether anything came since the pool's
ticker looked; it looks ten times a second, so a clock costs an assignment a read and no timer.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from router.upstream.compressed import opened
from router.upstream.faults import Break, Broken

BUFFER_HIGH: Final = 256 * 1024  # pause reading above
NEVER: Final = float("inf")

Headers = list[tuple[bytes, bytes]]


class Source(Protocol):
    """Where an answer comes from: its connection."""

    def abort(self) -> None: ...
    def resume(self) -> None: ...


class Answer:
    """Status, headers (names lower-cased) and the body as it comes. Must be read to its end or closed.

    `framed` is False where the body simply ended with the connection: such an end proves nothing.
    """

    __slots__ = (
        "_chunks",
        "_loop",
        "_refused",
        "_silence",
        "_size",
        "_source",
        "_take",
        "_waiter",
        "complete",
        "deadline",
        "due",
        "failure",
        "fields",
        "framed",
        "headers",
        "moved",
        "on_quiet",
        "reused",
        "status",
        "touched",
        "uploading",
    )

    def __init__(self, source: Source, loop: asyncio.AbstractEventLoop, due: float, deadline: float) -> None:
        self.status = 0
        self.headers: Headers = []
        self.fields: dict[bytes, bytes] = {}  # the same by name; of a name that comes twice, the last
        self.framed = False
        self.complete = False
        self.failure: Break | None = None  # why it broke off
        self.touched = False  # a byte of the response has come
        self.uploading = False
        self.reused = False
        self.moved = False  # something came since the ticker looked
        self.on_quiet: Callable[[], None] | None = None  # called by the ticker where nothing came since it looked
        self.due = due
        self.deadline = deadline
        self._source = source
        self._loop = loop
        self._chunks: list[bytes] = []
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._take: Callable[[bytes], bool] | None = None
        self._refused = False  # `_take` wants no more for now
        self._silence = NEVER

    def clocks(self, silence: float) -> None:
        """From now on at most `silence` seconds may pass between two reads, and never past the deadline."""
        self._silence = silence
        self.due = min(self._loop.time() + silence, self.deadline)

    async def chunk(self) -> bytes:
        """The next bytes of the body, all that have come; empty at its end. Raises Broken."""
        while not self._chunks:
            if self.complete:
                return b""
            if self.failure is not None:
                raise Broken(self.failure)
            await self.arrival()
        return self._taken()

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        """Give the body to `take` as it comes: in the very read that brought it, so that no task is woken for it.

        True at the body's end; False as soon as `take` returns False, which says that it wants no more for now.
        Raises Broken.
        """
        while True:
            if self._chunks and not take(self._taken()):
                return False
            if self.complete:
                return True
            if self.failure is not None:
                raise Broken(self.failure)
            self._take = take
            try:
                await self.arrival()
                if self._refused:
                    self._refused = False
                    return False
            finally:
                self._take = None

    def _taken(self) -> bytes:
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        if self._size > BUFFER_HIGH and not self.complete:  # its connection may be another call's by now
            self._source.resume()
        self._size = 0
        return data

    def waiting(self) -> bool:
        """Whether bytes have come that nobody took yet."""
        return bool(self._chunks)

    async def read(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes, opened where it came compressed. Raises Broken."""
        if self.complete and self._size <= limit:
            body = b"".join(self._chunks)
            return self._opened(body, limit) if b"content-encoding" in self.fields else body
        parts: list[bytes] = []
        size = 0
        while data := await self.chunk():
            size += len(data)
            if size > limit:
                self.close()
                raise Broken("too_large")
            parts.append(data)
        body = b"".join(parts)
        return self._opened(body, limit) if b"content-encoding" in self.fields else body

    def _opened(self, body: bytes, limit: int) -> bytes:
        data = opened(body, self.fields.pop(b"content-encoding"), limit)
        if data is None:
            raise Broken("framing")
        self.headers = [each for each in self.headers if each[0] != b"content-encoding"]
        return data

    def close(self) -> None:
        """Let go: an answer that has not ended takes its connection with it."""
        if not self.complete and self.failure is None:
            self.failure = "closed"
            self._source.abort()

    def expire(self, now: float) -> None:
        """The ticker's: the clock ran out."""
        self.fail("deadline" if now >= self.deadline else "silence")
        self._source.abort()

    def arrival(self) -> asyncio.Future[None]:
        """To be awaited: something more has come, the head, bytes, the end or a failure."""
        waiter = self._waiter = self._loop.create_future()
        return waiter

    # What follows is for the connection.

    def add(self, data: bytes) -> int:
        self._chunks.append(data)
        self._size += len(data)
        return self._size

    def full(self) -> bool:
        """Whether more has come than is read ahead: reading is paused."""
        return self._size > BUFFER_HIGH

    def fail(self, reason: Break) -> None:
        if not self.complete and self.failure is None:
            self.failure = reason
        self.wake()

    def spoil(self) -> None:
        """The message ended, and more bytes came behind it: its framing cannot be believed."""
        self.complete = False
        self.failure = "framing"

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def deliver(self) -> None:
        """What was read stands in the buffer: to whom it goes."""
        take = self._take
        if take is None:
            self.wake()
        elif self._chunks:
            try:
                if take(self._taken()):
                    return
            except Exception as error:  # noqa: BLE001 - the waiting call's to raise
                if self._waiter is not None and not self._waiter.done():
                    self._waiter.set_exception(error)
            self._take, self._refused = None, True
            self.wake()

    def look(self, now: float) -> bool:
        """The ticker's: whether the clock ran out."""
        if self.moved or self._size > BUFFER_HIGH:  # where reading is paused it is not the upstream that is silent
            self.moved = False
            if self.status and self._silence != NEVER:
                self.due = min(now + self._silence, self.deadline)
        elif self.on_quiet is not None:
            self.on_quiet()
        return self.due <= now
