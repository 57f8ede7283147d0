"""One HTTP/1.1 connection to an upstream: one exchange at a time, parsed by httptools, framed strictly.

A `Connection` outlives its exchanges; an `Answer` is one exchange. The connection goes back to its pool the moment the
last byte of a cleanly framed message is parsed, even while the caller still reads what the Answer has buffered.
Whatever is odd (bytes after the end, an upgrade, an answer before the request was whole) closes the connection.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

import httptools

from router.upstream.answer import BUFFER_HIGH, Answer, Headers

HEAD_LIMIT: Final = 64 * 1024


class Connection(asyncio.Protocol):
    """The protocol object; `free` is called when it may be used again, `lost` when it is gone."""

    __slots__ = (
        "_answer",
        "_drained",
        "_free",
        "_head",
        "_headers",
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
        self._headers: Headers = []
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
        if self._headers:
            self._headers = []
        assert self._transport is not None
        self._transport.write(data)
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
        answer.touched = answer.moved = True
        try:
            if not answer.status:
                self._head += len(data)
                if self._head > HEAD_LIMIT:  # the head must end within its limit, whatever came with it
                    room = HEAD_LIMIT - self._head + len(data)
                    self._parser.feed_data(data[:room])
                    data = data[room:]
                    if not answer.status:
                        self._fault(answer)
                        return
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fault(answer)
            return
        if answer.complete:
            self._answer = None
            answer.wake()
            if answer.uploading or self._paused:  # answered before the request was whole
                self.abort()
            elif self._keep:
                if answer.full():
                    self.resume()
                self._free(self)
            else:
                self.close()
        elif answer.status:
            if self._headers:  # trailers are dropped: no client of ours reads them
                self._headers = []
            answer.deliver()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        answer, self._answer = self._answer, None
        self._transport = None
        if answer is not None and not answer.complete:
            if exc is None and answer.status and not answer.framed and answer.failure is None:
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
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        answer = self._answer
        assert answer is not None
        status = self._parser.get_status_code()
        if status < 200:
            if status == 101:
                raise ValueError("an upgrade nobody asked for")
            if status < 100:
                raise ValueError("no status")  # its body would stand before the real answer's
            self._interim = True
            self._headers = []
            return
        answer.headers, self._headers = self._headers, []
        fields = answer.fields = dict(answer.headers)
        coding = fields.get(b"transfer-encoding")
        answer.framed = (
            b"content-length" in fields
            or status in (204, 304)
            or (coding is not None and coding.lower().rstrip().endswith(b"chunked"))
        )
        answer.status = status

    def on_body(self, data: bytes) -> None:
        answer = self._answer
        assert answer is not None
        if answer.add(data) > BUFFER_HIGH and self._transport is not None:
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            return
        answer = self._answer
        assert answer is not None
        self._keep = answer.framed and self._parser.should_keep_alive()
        answer.complete = True
