"""The caller's side of one request, as those who answer it see it; and the same over a foreign ASGI server.

Our own server's Turn (router/server/turn.py) is a Caller as it stands. `AsgiCaller` makes one of scope, receive and
send, for those who run the app on a server of their own; it is correct, not fast.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

Headers = list[tuple[bytes, bytes]]
Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


def headers_of(scope: Scope) -> Headers:
    """As we have them. ASGI allows any iterable of pairs, and servers beside uvicorn make use of that."""
    return [(name.lower(), value) for name, value in scope["headers"]]


class Caller(Protocol):
    """`headers` in lower-case names, and `fields`, the same by name (of one that stands there twice, the last).

    `on_gone` is called at once when the caller leaves before the answer's end.
    """

    headers: Headers
    fields: dict[bytes, bytes]
    on_gone: Callable[[], None] | None

    async def body(self, limit: int) -> bytes:
        """The whole body; or, as soon as more than `limit` bytes have come, those. EOFError: the caller left."""

    async def piece(self) -> bytes | None:
        """What has come since the last time; None where nothing more will."""

    def whole(self) -> bool:
        """Whether the last piece was handed out."""

    async def answer(self, status: int, lines: bytes, body: bytes) -> None:
        """A whole answer. `lines` are header lines, each with its CRLF, in lower-case names, without any framing."""

    def begin(self, status: int, lines: bytes, length: int | None = None) -> None:
        """The head of an answer in pieces."""

    def write(self, data: bytes) -> bool:
        """A piece, on its way at once. False: await `drained` before the next."""

    async def drained(self) -> None: ...

    async def finish(self, data: bytes) -> None:
        """The last piece."""

    def cut(self) -> None:
        """End the connection so that nobody can take what was sent for a whole answer."""


class Cut(Exception):
    """What a foreign server must see raised, since ASGI has no word for cutting a connection."""


class AsgiCaller:
    """A Caller over ASGI's scope (with `headers_of`), receive and send; leave it by `close`."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers: Headers = scope["headers"]
        self.fields = dict(self.headers)
        self.on_gone: Callable[[], None] | None = None
        self._receive = receive
        self._send = send
        self._whole = False
        self._watcher: asyncio.Task[None] | None = None
        self._unsent: list[Any] = []

    async def piece(self) -> bytes | None:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            return None
        self._whole = not message.get("more_body", False)
        if self._whole:
            self._watcher = asyncio.create_task(self._watch())
        return bytes(message.get("body", b""))

    async def body(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while size <= limit and not self._whole:
            piece = await self.piece()
            if piece is None:
                raise EOFError
            parts.append(piece)
            size += len(piece)
        return b"".join(parts)

    def whole(self) -> bool:
        return self._whole

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self.on_gone is not None:
            self.on_gone()

    async def answer(self, status: int, lines: bytes, body: bytes) -> None:
        self.begin(status, lines, len(body))
        await self.finish(body)

    def begin(self, status: int, lines: bytes, length: int | None = None) -> None:
        headers = [tuple(line.split(b": ", 1)) for line in lines.split(b"\r\n") if line]
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        self._unsent.append({"type": "http.response.start", "status": status, "headers": headers})

    def write(self, data: bytes) -> bool:
        self._unsent.append({"type": "http.response.body", "body": data, "more_body": True})
        return False

    async def drained(self) -> None:
        unsent, self._unsent = self._unsent, []
        for message in unsent:
            await self._send(message)

    async def finish(self, data: bytes) -> None:
        self._unsent.append({"type": "http.response.body", "body": data})
        await self.drained()

    def cut(self) -> None:
        raise Cut

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()

    async def served(self, work: Awaitable[None]) -> None:
        """`work`, and then closed."""
        try:
            await work
        finally:
            self.close()
