"""The connections of one upstream: LIFO of idle ones, a bound on open ones, a fair queue behind it.

`open` sends one request and returns its Answer with the head in hand, or the Silence that came instead. Taking and
giving back are O(1). A pool is a bulkhead: an upstream that hangs exhausts its own connections and nobody else's.

Counting: `_open` counts connections that exist or are being made, and each gives its place back once, in `_vacate`: at
its own end, or where dialling failed. A waiter in the queue is given either a free connection or
None, which says "make one, the place is yours".
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from router.upstream.answer import NEVER, Answer
from router.upstream.connection import Connection
from router.upstream.dial import Dialer
from router.upstream.faults import NoAnswer, Silence
from router.upstream.line import Line

TICK: Final = 0.1  # seconds between two looks at the clocks


class Pool:
    """Requests go in, Answers come out; `retire` lets what runs finish and keeps nothing."""

    def __init__(self, dialer: Dialer, *, limit: int, connect: float, queue: float, idle: float) -> None:
        self.dialer = dialer
        self._limit = limit
        self._connect = connect
        self._queue_seconds = queue
        self._idle_seconds = idle
        self._idle: list[Connection] = []
        self._busy: set[Answer] = set()
        self._waiters: Line[Connection | Silence | None] = Line()
        self._open = 0
        self._retired = False
        self._ticker: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def opened(self) -> int:
        """Connections that exist now, idle ones included."""
        return self._open

    @property
    def inflight(self) -> int:
        return len(self._busy)

    async def open(
        self,
        head: bytes,
        body: bytes | AsyncIterator[bytes],
        *,
        first: float,
        deadline: float,
        replay: bool,
        lane: str = "",
    ) -> Answer | Silence:
        """Send a request; come back with the answer's head.

        `head` ends with the blank line. `first` is the seconds until the first byte of the answer, `deadline` the
        moment (loop time) at which everything is over. A kept connection that turns out to be closed is replaced by a
        fresh one, once, where `replay` allows to send again what was sent. `lane`: with whom it waits where every
        connection is busy; lanes take turns.
        """
        if isinstance(body, bytes):
            data, upload = head + body, None
        else:
            data, upload = head, body
        loop = self._loop or self._start()
        fresh = False
        while True:
            connection = None if fresh else self._take()
            if connection is None:
                obtained = await self._obtain(loop, fresh, deadline, lane)
                if isinstance(obtained, Silence):
                    return obtained
                connection = obtained
            due = deadline if first == NEVER else min(loop.time() + first, deadline)
            answer = connection.begin(data, due, deadline, upload is not None)
            self._busy.add(answer)
            if self._ticker is None:
                self._ticker = loop.call_later(TICK, self._tick)
            try:
                if upload is not None and not await _upload(connection, answer, upload):
                    answer.close()
                    return Silence("upload", sent=True)
                while not answer.status and answer.failure is None:
                    await answer.arrival()
            except BaseException:
                answer.close()
                raise
            finally:
                if answer.complete or answer.failure is not None:
                    self._busy.discard(answer)
            reason = answer.failure
            if reason is None or (answer.status and answer.waiting()):
                return answer
            stale = answer.reused and not answer.touched and reason == "closed"
            if not (stale and replay and upload is None) or fresh:
                return Silence(_SILENCES[reason], sent=True, stale=stale)
            fresh = True

    def _take(self) -> Connection | None:
        """The connection that was used last, of those that are idle and still stand."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable():
                return connection
        return None

    async def _obtain(
        self, loop: asyncio.AbstractEventLoop, fresh: bool, deadline: float, lane: str
    ) -> Connection | Silence:
        """A connection where none is idle: a new one, or the next in line."""
        if self._open < self._limit:
            self._open += 1
        elif fresh and self._idle:
            self._idle.pop(0).close()  # makes room for the fresh one as soon as it is gone
            self._open += 1
        else:
            end = min(loop.time() + self._queue_seconds, deadline)
            while (handed := await self._stand_in_line(loop, end - loop.time(), lane)) is not None:
                if isinstance(handed, Silence) or handed.usable():  # else it closed while it was handed over
                    return handed
        connection = Connection(loop, self._free, self._lost)
        try:
            failed = await self.dialer.dial(connection, min(self._connect, deadline - loop.time()))
        except BaseException:
            connection.abort()
            self._vacate(connection)
            raise
        if failed is None and self._limit == 0:
            failed = Silence("closed", sent=False)
        if failed is not None:
            connection.abort()
            self._vacate(connection)
            return failed
        return connection

    async def _stand_in_line(
        self, loop: asyncio.AbstractEventLoop, seconds: float, lane: str
    ) -> Connection | Silence | None:
        waiter: asyncio.Future[Connection | Silence | None] = loop.create_future()
        self._waiters.append(lane, waiter)
        try:
            async with asyncio.timeout(seconds):
                return await waiter
        except TimeoutError:
            self._leave_line(lane, waiter)
            return Silence("queue_timeout", sent=False)
        except BaseException:
            self._leave_line(lane, waiter)
            raise

    def _leave_line(self, lane: str, waiter: "asyncio.Future[Connection | Silence | None]") -> None:
        """A waiter gave up; what it was already handed goes to the next."""
        if waiter.done() and not waiter.cancelled():
            handed = waiter.result()
            if handed is None:
                self._open -= 1
                self._wake_next()
            elif isinstance(handed, Connection) and handed.usable():  # one that ended gives its place back itself
                self._free(handed)
            return
        self._waiters.remove(lane, waiter)

    def _free(self, connection: Connection) -> None:
        if self._retired:
            connection.close()
            return
        while self._waiters:
            waiter = self._waiters.pop()
            if not waiter.done():
                waiter.set_result(connection)
                return
        assert self._loop is not None
        connection.idle_since = self._loop.time()
        self._idle.append(connection)

    def _lost(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        self._vacate(connection)

    def _vacate(self, connection: Connection) -> None:
        """Give a connection's place back, once."""
        if connection.placed:
            connection.placed = False
            self._open -= 1
            self._wake_next()

    def _wake_next(self) -> None:
        while self._waiters and self._open < self._limit:
            waiter = self._waiters.pop()
            if not waiter.done():
                self._open += 1
                waiter.set_result(None)
                return

    def _start(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        return self._loop

    def _tick(self) -> None:
        assert self._loop is not None
        now = self._loop.time()
        self.sweep(now)
        busy = bool(self._busy or self._idle)
        self._ticker = self._loop.call_later(TICK, self._tick) if busy else None

    def sweep(self, now: float) -> None:
        """Expire the exchanges whose clock ran out and the connections that were kept long enough."""
        for answer in [each for each in self._busy if each.complete or each.look(now) or each.failure is not None]:
            self._busy.discard(answer)
            if not answer.complete and answer.failure is None:
                answer.expire(now)
        oldest = now - self._idle_seconds
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.pop(0).close()

    def retire(self) -> None:
        """No new keeping: idle connections close now, busy ones when they end."""
        self._retired = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def close(self) -> None:
        """End everything at once; what asks from now on stands in line in vain."""
        self.retire()
        self._limit = 0
        while self._waiters:
            waiter = self._waiters.pop()
            if not waiter.done():
                waiter.set_result(Silence("closed", sent=False))
        for answer in list(self._busy):
            answer.close()
        self._busy.clear()
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        await asyncio.sleep(0)


_SILENCES: Final[dict[str, NoAnswer]] = {
    "closed": "closed",
    "framing": "framing",
    "silence": "timeout",
    "deadline": "timeout",
    "too_large": "head_too_large",
}


async def _upload(connection: Connection, answer: Answer, upload: AsyncIterator[bytes]) -> bool:
    """Send a body as it comes, until the upstream has answered or failed. False: the body itself broke off."""
    sending = asyncio.ensure_future(_send(connection, answer, upload))
    sending.add_done_callback(lambda _: answer.wake())
    whole, ended = False, None
    try:
        while not sending.done() and not answer.status and answer.failure is None:
            await answer.arrival()
        whole = not sending.done() or sending.result()
    except BaseException as error:  # noqa: BLE001 - raised below, once it is sure that nothing is sent any more
        ended = error
    sending.cancel()  # where it waits for more of the body, or for the upstream to take it
    await asyncio.gather(sending, return_exceptions=True)
    try:
        if ended is not None:
            raise ended
    finally:
        ended = None  # a ring with its traceback
    return whole


async def _send(connection: Connection, answer: Answer, upload: AsyncIterator[bytes]) -> bool:
    try:
        async for piece in upload:
            connection.write(piece)
            await connection.drain()
    except EOFError:
        return False
    answer.uploading = False
    return True
