"""One request and its answer: the ASGI side of a connection.

In go the parsed head and the pieces of the body; out come the bytes of one HTTP/1.1 response. The head of the answer
is held until the first message of the body, so that a plain answer is one write; an empty piece with more to come
lets it go at once. Refuses a head that would split into two (CR, LF or NUL in a header), and an answer longer or
shorter than it said.
"""

import asyncio
import http
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

log = logging.getLogger(__name__)


def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:  # a provider's own number, such as 529
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


STATUS_LINES = {status: _status_line(status) for status in range(100, 1000)}
BODILESS = frozenset({204, 304})
COPIED_BODY = 16_384  # up to here one joined write is cheaper than a list of them
HELD_BODY = 65_536  # bytes of a request that wait unread before the caller is paused


class Caller(Protocol):
    """What a turn needs of its connection."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    write_paused: bool

    def resume_reading(self) -> None: ...
    async def drained(self) -> None: ...
    def default_headers(self) -> Headers: ...
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
        "caller",
        "complete",
        "continues",
        "gone",
        "keep_alive",
        "more_body",
        "scope",
        "started",
    )

    def __init__(self, caller: Caller, scope: Scope, keep_alive: bool, continues: bool) -> None:
        self.caller = caller
        self.scope = scope
        self.keep_alive = keep_alive
        self.continues = continues  # the caller waits for 100 Continue before it sends its body
        self.gone = False  # the caller went away
        self.started = False  # the app gave a head (it may still be held here)
        self.complete = False  # the last byte of the answer is written
        self.more_body = True
        self._body: bytes | bytearray = b""
        self._delivered = False  # the app has been given the end of the body
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""
        self._framing = ""  # "length", "chunked", "close" (ends with the connection), or "none"
        self._left = 0  # bytes still owed under "length"

    # The request, as it arrives

    def feed(self, piece: bytes) -> bool:
        """Take a piece of the body; True when so much waits unread that the caller should be paused."""
        if not self._body:
            self._body = piece
        elif isinstance(self._body, bytearray):
            self._body += piece
        else:
            self._body = bytearray(self._body) + piece
        self._wake()
        return len(self._body) > HELD_BODY

    def feed_end(self) -> None:
        self.more_body = False
        self._wake()

    def leave(self) -> None:
        """The caller is gone: whoever waits for more of the body is told."""
        self.gone = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> Message:
        if self.continues and not (self.started or self.gone):
            self.continues = False
            self.caller.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            if self.gone or self.complete:
                return {"type": "http.disconnect"}
            if self._body or not (self.more_body or self._delivered):
                break
            self.caller.resume_reading()
            self._waiter = self.caller.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        body, self._body = bytes(self._body), b""
        self._delivered = not self.more_body
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    # The answer

    async def send(self, message: Message) -> None:
        if self.caller.write_paused and not self.gone:
            await self.caller.drained()
        if self.gone:
            return
        kind = message["type"]
        if self.complete:
            raise RuntimeError(f"{kind} was sent after the end of the answer")
        if not self.started:
            if kind != "http.response.start":
                raise RuntimeError(f"{kind} was sent before http.response.start")
            self._head = self._head_of(message["status"], message.get("headers", ()))
            self.started = True
        elif kind == "http.response.body":
            self._write(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind} was sent where http.response.body was due")

    def _head_of(self, status: int, headers: Headers) -> bytes:
        parts = [STATUS_LINES[status]]
        lines = 1
        framing = ""
        closes = False
        for group in (self.caller.default_headers(), headers):
            for name, value in group:
                name = name.lower()
                if name == b"content-length":
                    if framing:
                        raise RuntimeError("the answer says its length twice")
                    framing, self._left = "length", int(value)
                elif name == b"transfer-encoding":
                    continue  # ours to choose
                elif name == b"connection":
                    closes = closes or b"close" in value.lower()
                    continue
                parts += (name, b": ", value, b"\r\n")
                lines += 1
        if status in BODILESS or self.scope["method"] == "HEAD":
            framing = "none"
        elif not framing and self.scope["http_version"] == "1.0":
            framing = "close"
        elif not framing:
            framing = "chunked"
            parts.append(b"transfer-encoding: chunked\r\n")
            lines += 1
        if closes or framing == "close" or self.continues:
            self.keep_alive = False  # one who was never told to continue may send the body or not
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
            lines += 1
        head = b"".join(parts)
        if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
            raise RuntimeError("a header of the answer has a line break in it")
        self._framing = framing
        return head + b"\r\n"

    def _write(self, body: bytes, more: bool) -> None:
        head, self._head = self._head, b""
        if self._framing == "length":
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the answer is not as long as its content-length says")
            pieces: tuple[bytes, ...] = (head, body)
        elif self._framing == "chunked":
            end = b"" if more else b"0\r\n\r\n"
            pieces = (head, b"%x\r\n" % len(body), body, b"\r\n", end) if body else (head, end)
        elif self._framing == "close":
            pieces = (head, body)
        else:
            pieces = (head,)
        if len(body) > COPIED_BODY:
            self.caller.transport.writelines(pieces)
        elif out := b"".join(pieces):
            self.caller.transport.write(out)
        if not more:
            self.complete = True
            self._wake()
            self.caller.turn_over(self)

    # The app

    async def run(self, app: App) -> None:
        """Let the app answer; whatever it does, the caller gets one answer or a closed connection, never silence."""
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            if not self.complete:
                self.caller.cut()
            raise
        except Exception:  # the last door: nothing above could word it for the caller
            log.exception("the application failed")
        if self.complete or self.gone:
            return
        log.error("the application left %s %s unanswered", self.scope["method"], self.scope["path"])
        if self.started and not self._head:
            self.caller.cut()  # a cut must look like a cut
            return
        self.started, self._head, self.keep_alive = True, b"", False
        text = b"Internal Server Error"
        self._left = 0
        self._head = self._head_of(500, [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text))])
        self._write(text, more=False)
