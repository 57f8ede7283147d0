"""One request and its answer, as a connection sees them: what arrives, what is owed, and how it is framed.

In go the parsed head and the pieces of the body; out come the bytes of one HTTP/1.1 response. The head of the answer is
held until its first bytes, so that a plain answer is one write. Refuses a head that would split into two, and an answer
longer or shorter than it said. This is a router.caller.Caller; for other apps router/server/asgi.py wraps it.
"""

import asyncio
import http
import logging
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import httptools

log = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]


def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:  # a provider's own number, such as 529
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


def target_of(url: bytes) -> tuple[bytes, bytes]:
    """Path and query of what a request asks for."""
    if url.startswith(b"/") or url == b"*":
        path, _, query = url.partition(b"?")
        return path, query
    target = httptools.parse_url(url)  # `http://host/path`: who is asked stays with the Host field
    return target.path or b"/", target.query or b""


STATUS_LINES: Final = {status: _status_line(status) for status in range(100, 1000)}
BODILESS: Final = frozenset({204, 304})
COPIED_BODY: Final = 16_384  # up to here one joined write is cheaper than a list of them
HELD_BODY: Final = 65_536  # bytes of a request that wait unread before the caller is paused

_NONE, _LENGTH, _CHUNKED, _CLOSE = range(4)  # how the answer's end is told


class Line(Protocol):
    """What a turn needs of its connection."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    write_paused: bool

    def resume_reading(self) -> None: ...
    async def drained(self) -> None: ...
    def default_lines(self) -> bytes: ...
    def turn_over(self, turn: "Turn") -> None: ...
    def cut(self) -> None: ...


class Turn:
    __slots__ = (
        "_body",
        "_delivered",
        "_framing",
        "_head",
        "_left",
        "_waiter",
        "complete",
        "continues",
        "extra_lines",
        "fields",
        "gone",
        "headers",
        "keep_alive",
        "line",
        "method",
        "more_body",
        "on_gone",
        "started",
        "url",
        "version",
    )

    def __init__(
        self,
        line: Line,
        method: bytes,
        url: bytes,
        version: str,
        headers: Headers,
        fields: dict[bytes, bytes],
        keep_alive: bool,
        continues: bool,
    ) -> None:
        self.line = line
        self.method = method
        self.url = url
        self.version = version
        self.headers = headers
        self.fields = fields  # the same by name; of a name that stands there twice, the last
        self.keep_alive = keep_alive
        self.continues = continues  # the caller waits for 100 Continue before it sends its body
        self.extra_lines = b""  # header lines that whoever answers knows nothing of
        self.gone = False  # the caller went away
        self.started = False  # the answer has a head (it may still be held here)
        self.complete = False  # the last byte of the answer is written
        self.more_body = True
        self.on_gone: Callable[[], None] | None = None
        self._body: bytes | bytearray = b""
        self._delivered = False  # the end of the body has been handed on
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""
        self._framing = _NONE
        self._left = 0  # bytes still owed under _LENGTH

    def path(self) -> str:
        """Percent-decoded, without the query."""
        text = self.url.decode("ascii")
        if text[:1] != "/" or "?" in text:
            text = target_of(self.url)[0].decode("ascii")
        return urllib.parse.unquote(text) if "%" in text else text

    def query(self) -> str:
        return target_of(self.url)[1].decode("latin-1")

    # The request, as it arrives

    def feed(self, piece: bytes) -> bool:
        """Take a piece of the body; True when so much waits unread that the caller should be paused."""
        if not self._body:
            self._body = piece
        elif isinstance(self._body, bytearray):
            self._body += piece
        else:
            self._body = bytearray(self._body) + piece
        if self._waiter is not None:
            self._wake()
        return len(self._body) > HELD_BODY

    def feed_end(self) -> None:
        self.more_body = False
        if self._waiter is not None:
            self._wake()

    def leave(self) -> None:
        """The caller is gone: whoever waits for more of the body is told, and so is who answers."""
        self.gone = True
        self._wake()
        told, self.on_gone = self.on_gone, None
        if told is not None:
            told()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def piece(self) -> bytes | None:
        """What has come of the body since the last time; `whole` tells whether that was the last of it.

        None: there is no more to come, because the caller is gone or the answer complete.
        """
        if self.continues and not (self.started or self.gone):
            self.continues = False
            self.line.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            if self.gone or self.complete:
                return None
            if self._body or not (self.more_body or self._delivered):
                break
            self.line.resume_reading()
            self._waiter = self.line.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        body, self._body = bytes(self._body), b""
        self._delivered = not self.more_body
        return body

    async def body(self, limit: int) -> bytes:
        """The whole body; or, as soon as more than `limit` bytes of it have come, those. EOFError: the caller left."""
        if not self.more_body and not self.gone:  # all here, as it is for nearly every request
            body, self._body = bytes(self._body), b""
            self._delivered = True
            return body
        parts: list[bytes] = []
        size = 0
        while size <= limit:
            piece = await self.piece()
            if piece is None:
                raise EOFError
            parts.append(piece)
            size += len(piece)
            if self._delivered:
                break
        return b"".join(parts)

    def whole(self) -> bool:
        """Whether the end of the body has been handed on."""
        return self._delivered

    # The answer

    def begin(self, status: int, lines: bytes, length: int | None = None) -> None:
        """The head: header lines, each ended by CRLF, in names that are lower-case; framing is ours to add."""
        if self.started:
            raise RuntimeError("an answer has one head")
        self.started = True
        if length is not None:
            framing = _LENGTH
            framed = b"content-length: %d\r\n" % length
            self._left = length
        elif self.version == "1.0":
            framing, framed, self.keep_alive = _CLOSE, b"", False
        else:
            framing, framed = _CHUNKED, b"transfer-encoding: chunked\r\n"
        if status in BODILESS or self.method == b"HEAD":
            framed = b"" if framing == _CHUNKED or status == 204 else framed  # RFC 9110 §8.6
            framing = _NONE
        if self.continues or not self.keep_alive:
            self.keep_alive = False  # one who was never told to continue may send the body or not
            framed += b"connection: close\r\n"
        self._framing = framing
        lines += self.extra_lines
        self._head = b"%b%b%b%b\r\n" % (STATUS_LINES[status], self.line.default_lines(), lines, framed)

    def write(self, data: bytes) -> bool:
        """A piece of the answer, on its way at once. False: the caller does not keep up, so await `drained` first."""
        if self.gone or self.complete:
            return True
        head = self._head
        if head:
            self._head = b""
        if self._framing == _CHUNKED:
            if not data:
                out = head
            elif len(data) <= COPIED_BODY:
                out = b"%b%x\r\n%b\r\n" % (head, len(data), data)
            else:
                self.line.transport.writelines((head, b"%x\r\n" % len(data), data, b"\r\n"))
                return not self.line.write_paused
        else:
            if self._framing == _LENGTH:
                self._left -= len(data)
                if self._left < 0:
                    raise RuntimeError("the answer is longer than its content-length says")
            elif self._framing == _NONE:
                data = b""
            out = head + data
        if out:
            self.line.transport.write(out)
        return not self.line.write_paused

    def end(self, data: bytes = b"") -> None:
        """The last piece."""
        if self.gone:
            return
        if self._framing == _LENGTH and self._left != len(data):
            raise RuntimeError("the answer is not as long as its content-length says")
        if self._framing == _CHUNKED:
            if data:
                self.write(data)
            head, self._head = self._head, b""
            self.line.transport.write(head + b"0\r\n\r\n")
        else:
            self.write(data)
        self.complete = True
        if self._waiter is not None:
            self._wake()
        self.line.turn_over(self)

    async def answer(self, status: int, lines: bytes, body: bytes) -> None:
        """A whole answer, in one write."""
        line = self.line
        if line.write_paused:
            await self.drained()
        if self.gone:
            return
        plain = self.keep_alive and not self.continues and self.method != b"HEAD" and status not in BODILESS
        if plain and len(body) <= COPIED_BODY:
            self.started = self.complete = True
            head = (STATUS_LINES[status], line.default_lines(), lines, self.extra_lines, len(body), body)
            line.transport.write(b"%b%b%b%bcontent-length: %d\r\n\r\n%b" % head)
            line.turn_over(self)
        else:
            self.begin(status, lines, len(body))
            self.end(body)

    async def finish(self, data: bytes) -> None:
        if self.line.write_paused:
            await self.drained()
        self.end(data)

    def cut(self) -> None:
        self.line.cut()

    async def drained(self) -> None:
        if self.line.write_paused and not self.gone:
            await self.line.drained()

    # Who answers

    async def run(self, serving: Awaitable[None]) -> None:
        """Let it be answered; whatever comes, the caller gets one answer or a closed connection, never silence."""
        try:
            await serving
        except asyncio.CancelledError:
            if not self.complete:
                self.line.cut()
            raise
        except Exception:  # the last door: nothing above could word it for the caller
            log.exception("the application failed")
        if self.complete or self.gone:
            return
        log.error("the application left %s %s unanswered", self.method.decode(), self.url.decode())
        if self.started and not self._head:
            self.line.cut()  # a cut must look like a cut
            return
        self.started, self._head, self.keep_alive = False, b"", False
        text = b"Internal Server Error"
        self.begin(500, b"content-type: text/plain\r\n", len(text))
        self.end(text)
