"""Upstreams whose every byte is written by a test: over a transport of paper, and over a real socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from router.upstream.connection import Connection
from router.upstream.dial import Dialer, Origin
from router.upstream.faults import Broken
from router.upstream.pool import Pool

HEAD = b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"
Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Paper(asyncio.Transport):
    """A transport that keeps what is written to it, and notes how it was left."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.left = ""  # "", "closed" or "aborted"

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return bool(self.left)

    def close(self) -> None:
        self.left = self.left or "closed"

    def abort(self) -> None:
        self.left = "aborted"

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Exchange:
    """What one scripted answer came to."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.fault = ""  # why there is no whole answer
        self.kept = False  # the connection may be used again
        self.left = ""  # how the connection was left

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exchange) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(self.body)

    def __repr__(self) -> str:
        return f"Exchange({vars(self)})"


async def exchanged(pieces: Iterable[bytes], ends: bool = False) -> Exchange:
    """Feed an answer to a connection in pieces; `ends`: the peer closes after the last."""
    loop = asyncio.get_running_loop()
    found = Exchange()
    freed: list[Connection] = []
    connection = Connection(loop, freed.append, lambda _: None)
    paper = Paper()
    connection.connection_made(paper)
    answer = connection.begin(HEAD, float("inf"), float("inf"))
    for piece in pieces:
        if not paper.left:
            connection.data_received(piece)
    if ends or paper.left:
        connection.connection_lost(None)
    found.status, found.headers, found.left, found.kept = answer.status, answer.headers, paper.left, bool(freed)
    try:
        if answer.complete or answer.failure() is not None:
            while data := await answer.chunk():
                found.body += data
        else:
            found.fault = "unfinished"
    except Broken as broken:
        found.fault = broken.reason
    answer.close()
    return found


def ran(pieces: Iterable[bytes], ends: bool = False) -> Exchange:
    return asyncio.run(exchanged(pieces, ends))


class Server:
    """A listening socket; `seen` counts its connections, `open` those that still stand."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self.seen = 0
        self.open = 0
        self.closed = asyncio.Event()
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._answer(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen += 1
        self.open += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._play(reader, writer)
            writer.close()  # what is written still goes out
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            self.open -= 1
            self.closed.set()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # connections are lost a turn after they are aborted


@contextlib.asynccontextmanager
async def listening(play: Play, **options: Any) -> AsyncIterator[Server]:
    server = Server(play)
    listener = await asyncio.start_server(server.answer, "127.0.0.1", 0, **options)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await server.stop()


@contextlib.asynccontextmanager
async def pooled(port: int, *, scheme: str = "http", host: str = "127.0.0.1", **options: Any) -> AsyncIterator[Pool]:
    clocks = {"limit": 4, "connect": 5.0, "queue": 5.0, "idle": 15.0}
    dialing = {name: options.pop(name) for name in ("context", "proxy", "proxy_auth") if name in options}
    pool = Pool(Dialer(Origin(scheme, host, port), **dialing), **{**clocks, **options})
    try:
        yield pool
    finally:
        await pool.close()


async def until(true: Callable[[], bool]) -> None:
    """Wait for what nobody announces: the other side of a socket, the pool's own ticker."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """The head of a request; its body is empty in these tests unless they say otherwise."""
    return await reader.readuntil(b"\r\n\r\n")


def whole(body: bytes, *lines: bytes) -> bytes:
    head = [b"HTTP/1.1 200 OK", *lines, b"content-length: %d" % len(body)]
    return b"\r\n".join([*head, b"", body])


async def asked(pool: Pool, *, replay: bool = True, first: float = 5.0, deadline: float = 10.0) -> Any:
    now = asyncio.get_running_loop().time()
    return await pool.open(HEAD, b"", first=first, deadline=now + deadline, replay=replay)
