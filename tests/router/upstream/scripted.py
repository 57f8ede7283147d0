"""An upstream that plays a script: bytes, pauses that last until the test says go on, and an end of its choice.

It is a real server on 127.0.0.1 in the test's own loop. Nothing here sleeps: `settled` gives the loop the few turns in
which what was written is read on the other side.
"""

import asyncio
import enum
import functools
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, Self

from router.upstream.answer import Answer
from router.upstream.dial import Dialer, Origin
from router.upstream.faults import Break, Broken, Silence
from router.upstream.pool import Pool

P = ParamSpec("P")
GET = b"GET /x HTTP/1.1\r\nhost: up\r\n\r\n"
BEGUN = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe"
HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
TOO_LONG = 20.0  # seconds after which a test is called hung


class End(enum.Enum):
    """How a script may end a connection; one that ends without leaves it open for the next request."""

    CLOSE = "FIN"
    RESET = "RST"


Step = bytes | asyncio.Event | End
Script = Sequence[Step]


def looped(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that is a coroutine, as the plain function that pytest runs: in a loop of its own, never for ever."""

    @functools.wraps(test)
    def plain(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return plain


def run(story: Coroutine[Any, Any, None], loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(TOO_LONG):
            await story

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(bounded())


class Scripted:
    """Plays one script a request, in the order given; the last one again and again.

    `reads=False`: it answers as soon as it has a head, and never reads a body.
    """

    def __init__(self, *scripts: Script, reads: bool = True, tls: ssl.SSLContext | None = None) -> None:
        self.scripts: list[Script] = list(scripts)
        self.requests: list[bytes] = []
        self.peers: list[int] = []  # the port that each request came from: which connection it was
        self.accepted = 0
        self.port = 0
        self._reads = reads
        self._tls = tls
        self._ends: set[tuple[_Reader, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # without: no TCP_NODELAY
        listening.bind(("127.0.0.1", 0))
        if not self._reads:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)  # so that it is soon felt
        self.port = listening.getsockname()[1]
        loop = asyncio.get_running_loop()
        serve = functools.partial(_protocol, self._serve)
        self._server = await loop.create_server(serve, sock=listening, ssl=self._tls, backlog=512)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await settled()

    @property
    def live(self) -> int:
        """Connections that stand, as the upstream sees it."""
        return sum(not reader.ended and not writer.transport.is_closing() for reader, writer in self._ends)

    def pool(self, *, limit: int = 8, connect: float = 5.0, queue: float = 5.0, idle: float = 15.0) -> Pool:
        return Pool(
            Dialer(Origin("http", "127.0.0.1", self.port)), limit=limit, connect=connect, queue=queue, idle=idle
        )

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something about this upstream is so."""
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    async def until_gone(self) -> None:
        """Wait until no connection stands."""
        while self.live:
            await settled()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None and isinstance(reader, _Reader)
        self._tasks.add(task)
        self.accepted += 1
        self._ends.add((reader, writer))
        self._changed.set()
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass
        except (asyncio.CancelledError, RuntimeError):
            pass  # Python 3.11's streams log a cancelled server task as an error; uvloop refuses to write when closed
        finally:
            self._ends.discard((reader, writer))
            self._changed.set()
            self._tasks.discard(task)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await self._body(head.lower(), reader) if self._reads else b""
        script = self.scripts[min(len(self.requests), len(self.scripts) - 1)]
        self.requests.append(head + body)
        self.peers.append(writer.get_extra_info("peername")[1])
        self._changed.set()
        return await self.play(writer, script)

    async def play(self, writer: asyncio.StreamWriter, script: Script) -> bool:
        """One answer; whether the connection stays open behind it."""
        before: Step | None = None
        for step in script:
            if isinstance(step, bytes) and isinstance(before, bytes):
                await settled(2)  # so that the two are read apart
            before = step
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif step is End.RESET:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return False
            elif step is End.CLOSE:
                writer.close()
                await writer.wait_closed()
                return False
            elif isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
        return True

    async def _body(self, head: bytes, reader: asyncio.StreamReader) -> bytes:
        if b"transfer-encoding: chunked" in head:
            body = b""
            while not body.endswith(b"0\r\n\r\n"):
                body += await reader.readuntil(b"\r\n")
            return body
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return await reader.readexactly(int(length or b"0"))


class _Reader(asyncio.StreamReader):
    """One that says at once when the other side has gone, whatever lies unread."""

    ended = False

    def feed_eof(self) -> None:
        self.ended = True
        super().feed_eof()


def _protocol(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]) -> asyncio.Protocol:
    return asyncio.StreamReaderProtocol(_Reader(), serve)


async def settled(turns: int = 10) -> None:
    """Let the loop turn: what is on its way between two sockets of this process arrives."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def ask(
    pool: Pool,
    head: bytes = GET,
    body: bytes | AsyncIterator[bytes] = b"",
    *,
    first: float = 10.0,
    within: float = 15.0,
    replay: bool = False,
) -> Answer | Silence:
    deadline = asyncio.get_running_loop().time() + within
    return await pool.open(head, body, first=first, deadline=deadline, replay=replay)


async def answered(pool: Pool, head: bytes = GET, body: bytes | AsyncIterator[bytes] = b"") -> Answer:
    answer = await ask(pool, head, body)
    assert isinstance(answer, Answer), answer
    return answer


async def silenced(pool: Pool, **more: Any) -> Silence:
    silence = await ask(pool, **more)
    assert isinstance(silence, Silence), "an answer came"
    return silence


def post(length: int) -> bytes:
    return b"POST /x HTTP/1.1\r\nhost: up\r\ncontent-length: %d\r\n\r\n" % length


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer read to its end."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


async def whole(pool: Pool) -> Whole | Silence | Break:
    """Ask and read to the end: the answer, or what came instead before its head, or broke it off behind."""
    answer = await ask(pool)
    if isinstance(answer, Silence):
        return answer
    body = b""
    try:
        while piece := await answer.chunk():
            body += piece
    except Broken as broken:
        return broken.reason
    return Whole(answer.status, answer.headers, body)


async def begun(count: int, pool: Pool) -> "list[asyncio.Task[Whole | Silence | Break]]":
    """So many calls, each begun after the one before it has got as far as it can."""
    tasks = []
    for _ in range(count):
        tasks.append(asyncio.create_task(whole(pool)))
        await settled()
    return tasks


def later(seconds: float) -> float:
    """So many seconds from now, as the loop counts; what `Pool.sweep` is given in place of waiting."""
    return asyncio.get_running_loop().time() + seconds


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
