"""One worker: uvicorn's Server around our app and connection, with our way of stopping.

uvicorn's own way waits for half-open sockets, skips the lifespan when forced, and dies of the signal that it drained
for. Here a drain has one bound, everything that is left is cancelled and cut, the lifespan is always closed, the exit
code is 0.
"""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Literal, Protocol

import uvicorn
from uvicorn.server import Server

from router.server.asgi import Message, Scope
from router.server.guard import Guard

CLOSING = 1.5  # seconds for what is cancelled to finish its accounts, and for the lifespan to close
LOOK = 0.05  # seconds
COUNT = 0.25
CROWDED = 0.8
MANY = 1 << 20
FILES = "/proc/self/fd"  # where there is none, nobody is turned away
Stopping = tuple[float, float]  # seconds for what runs, and of those the first in which everybody is still served
log = logging.getLogger(__name__)


class Drainable(Protocol):
    """The app; `drain` makes readiness say 503 from then on. `operators` is asked for only where a socket is theirs."""

    operators: Any

    def __call__(
        self,
        scope: Scope,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
        /,
    ) -> Awaitable[None]: ...

    def drain(self) -> None: ...

    def reload_soon(self) -> None: ...


class Tls(Protocol):
    """PEM files."""

    @property
    def cert(self) -> str: ...
    @property
    def key(self) -> str: ...


def _config(app: Any, tls: Tls | None, lifespan: Literal["on", "off"]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        interface="asgi3",
        http=Guard,
        ws="none",
        loop="uvloop",
        lifespan=lifespan,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
        ssl_certfile=tls.cert if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )


class Worker(Server):
    def __init__(
        self,
        app: Drainable,
        stopping: Stopping,
        lifeline: int | None,
        tls: Tls | None,
        operators: socket.socket | None,
    ) -> None:
        super().__init__(_config(app, tls, "on"))
        self._app = app
        self._grace, self._delay = stopping
        self._lifeline = lifeline
        self._operators = operators
        self._looking: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._looking = asyncio.create_task(self._look_at_files(), name="open files")
        if self._operators is not None and not self.should_exit:
            theirs = _config(self._app.operators, None, "off")
            theirs.load()
            loop = asyncio.get_running_loop()
            listening = await loop.create_server(
                lambda: Guard(theirs, self.server_state, {}, loop), sock=self._operators
            )
            self.servers.append(listening)

    async def _look_at_files(self) -> None:
        """Of the files that may be open, the last ones are for those within: new callers get a 503."""
        with contextlib.suppress(OSError):
            while True:
                files = os.stat(FILES).st_size or len(os.listdir(FILES))  # the first since Linux 6.2
                room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] * CROWDED - files
                Guard.most = len(self.server_state.connections) + max(0, int(room))
                await asyncio.sleep(COUNT)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._drain)
        loop.add_signal_handler(signal.SIGINT, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._app.reload_soon)
        if self._lifeline is not None:
            loop.add_reader(self._lifeline, self._orphaned)
        yield

    def _drain(self) -> None:
        self._app.drain()
        self.should_exit = True

    def _stop(self) -> None:
        self._grace = 0.0
        self.force_exit = True
        self._delay = 0.0
        self._drain()
        for task in list(self._running()):
            task.cancel()

    def _running(self) -> Iterator[asyncio.Task[None]]:
        """What answers: each connection's own, and those whose connection is gone before they ended."""
        yield from self.server_state.tasks
        for each in self.server_state.connections:
            if isinstance(each, Guard) and each.task is not None and not each.task.done():
                yield each.task

    def _orphaned(self) -> None:
        """The supervisor is gone without a word (SIGKILL): its end of the pipe is closed."""
        assert self._lifeline is not None
        asyncio.get_running_loop().remove_reader(self._lifeline)
        self._drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._looking is not None:
            self._looking.cancel()
        until = time.monotonic() + self._grace
        await self._let_it_be_known()
        for server in self.servers:
            server.close()
        for each in sockets or []:
            each.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        tasks = set(self._running())
        if tasks and self._grace:
            _, tasks = await asyncio.wait(tasks, timeout=max(0.0, until - time.monotonic()))
        if tasks:
            log.warning("%d requests were cut: they did not end within the drain", len(tasks))
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=CLOSING / 3)
        await self._flushed()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                await self.lifespan.shutdown()

    async def _let_it_be_known(self) -> None:
        """Readiness says 503 while everybody is still served, so that those who balance load turn away in time."""
        for _ in range(round(min(self._delay, self._grace) / LOOK)):
            if self.force_exit or not self.server_state.connections:
                break
            await asyncio.sleep(LOOK)

    async def _flushed(self) -> None:
        """The last bytes of the last answers are on their way; whoever does not take them is cut."""
        for _ in range(10):
            if self.force_exit or not self.server_state.connections:
                break
            await asyncio.sleep(0.02)
        for connection in list(self.server_state.connections):
            if isinstance(connection, Guard):
                connection.cut()


def _allow_many_files() -> None:
    """As many as the system lets this process have; the soft limit is often a thousand, two files a request."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, MANY), hard))


def work(
    app: Drainable,
    listener: socket.socket,
    stopping: Stopping,
    lifeline: int | None,
    tls: Tls | None,
    operators: socket.socket | None,
) -> int:
    _allow_many_files()
    gc.freeze()  # what is loaded by now lives as long as the process: no collection need look at it again
    worker = Worker(app, stopping, lifeline, tls, operators)
    worker.run(sockets=[listener])
    return 0
