"""A call cancelled at every turn of the loop that it takes: nothing of it stays, and its pool serves the next one.

On asyncio's own loop and on uvloop's, which the server runs on: their transports end in different orders.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
import uvloop

from router.upstream.answer import BUFFER_HIGH
from router.upstream.faults import Silence
from router.upstream.pool import Pool
from tests.router.upstream.scripted import (
    HELLO,
    End,
    Scripted,
    Step,
    answered,
    ask,
    descriptors,
    post,
    run,
    settled,
    whole,
)

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
LARGE = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (4 * BUFFER_HIGH) + b"x" * (4 * BUFFER_HIGH)
MOST = 400  # turns within which every one of the calls below has ended

Call = Callable[[Pool], Awaitable[object]]


async def read(pool: Pool) -> None:
    answer = await answered(pool)
    try:
        while await answer.chunk():
            pass
    finally:
        answer.close()


async def pour(pool: Pool) -> None:
    answer = await answered(pool)
    try:
        while not await answer.pour(lambda _: False):
            await settled(1)
    finally:
        answer.close()


async def upload(pool: Pool) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield b"x" * 100

    answer = await answered(pool, post(300), body())
    answer.close()


async def replayed(pool: Pool) -> None:
    await read(pool)
    answer = await ask(pool, replay=True)
    if not isinstance(answer, Silence):
        answer.close()


CALLS: dict[str, tuple[Call, Sequence[Sequence[Step]]]] = {
    "read": (read, [[HELLO[:20], HELLO[20:40], HELLO[40:]]]),
    "chunked": (read, [[CHUNKED, b"5\r\nhello\r\n", b"0\r\n", b"\r\n"]]),
    "larger than what is read ahead": (read, [[LARGE]]),
    "poured": (pour, [[CHUNKED, b"5\r\nhello\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n"]]),
    "uploaded": (upload, [[HELLO]]),
    "answered early": (upload, [[b"HTTP/1.1 413 Big\r\ncontent-length: 0\r\n\r\n", asyncio.Event()]]),
    "closed by the upstream": (whole, [[HELLO[:-1], End.CLOSE]]),
    "reset by the upstream": (whole, [[End.RESET]]),
    "replayed": (replayed, [[HELLO], [End.CLOSE], [HELLO]]),
}


async def served(pool: Pool) -> None:
    """The pool still does what it is for."""
    async with asyncio.timeout(5):
        answer = await ask(pool, replay=True)
        assert not isinstance(answer, Silence), answer
        assert await answer.read(99) == b"hello"


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", CALLS)
def test_a_call_cancelled_at_any_turn_leaves_no_connection_and_no_place_taken(name: str, loop: str) -> None:
    call, scripts = CALLS[name]

    async def story() -> None:
        for turns in range(MOST):
            async with Scripted(*scripts, reads=name != "answered early") as upstream:
                pool = upstream.pool(limit=1)
                task = asyncio.ensure_future(call(pool))
                await settled(turns)
                ended = task.done()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await settled()
                assert pool.opened <= 1 and upstream.live <= pool.opened
                upstream.scripts = [[HELLO]]
                await served(pool)
                assert pool.opened == 1
                await pool.close()
                await settled()
                assert (pool.opened, pool.inflight, upstream.live) == (0, 0, 0)
            if ended:
                assert turns > 5
                return
        raise AssertionError("it never ended")

    run(story(), LOOPS[loop])


@pytest.mark.parametrize("loop", LOOPS)
def test_one_who_leaves_the_line_at_any_turn_takes_nobodys_place(loop: str) -> None:
    """One holds the only connection, two wait and leave, one behind them stays; meanwhile the upstream hangs up."""

    async def story() -> None:
        for turns in range(60):
            gate = asyncio.Event()
            async with Scripted([gate, HELLO, End.CLOSE], [HELLO]) as upstream:
                pool = upstream.pool(limit=1)
                holder, *leaving, last = [asyncio.create_task(whole(pool)) for _ in range(4)]
                await upstream.until(lambda upstream=upstream: len(upstream.requests) == 1)  # type: ignore[misc]
                gate.set()
                await settled(turns)
                for each in leaving:
                    each.cancel()
                    await asyncio.sleep(0)
                async with asyncio.timeout(5):
                    await asyncio.gather(holder, last, *leaving, return_exceptions=True)
                await settled()
                assert pool.opened <= 1
                await served(pool)
                await pool.close()
                await settled()
                assert (pool.opened, pool.inflight, upstream.live) == (0, 0, 0)

    run(story(), LOOPS[loop])


@pytest.mark.parametrize("loop", LOOPS)
def test_thousands_of_cancelled_calls_let_no_socket_no_task_and_no_count_grow(loop: str) -> None:
    dice = random.Random(20)
    ways: list[list[Step]] = [
        [HELLO[:20], HELLO[20:]],
        [HELLO, End.CLOSE],
        [CHUNKED, b"5\r\nhello\r\n", b"0\r\n\r\n"],
        [HELLO[:-1], End.RESET],
        [End.CLOSE],
        [LARGE],
    ]
    dealt = [dice.choice(ways) for _ in range(4000)]
    cancelled = 0

    async def one(pool: Pool) -> None:
        nonlocal cancelled
        task = asyncio.ensure_future(dice.choice([read, pour, upload, whole])(pool))
        await settled(dice.randrange(40))
        cancelled += task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def story() -> None:
        async with Scripted(*dealt, [HELLO]) as upstream:
            pool = upstream.pool(limit=16)
            before = descriptors(), len(asyncio.all_tasks())
            for _ in range(40):
                await asyncio.gather(*(one(pool) for _ in range(100)))
            assert cancelled > 2000
            await settled(50)
            assert pool.opened <= 16
            upstream.scripts = [[HELLO]]
            await asyncio.gather(*(served(pool) for _ in range(100)))
            await pool.close()
            await settled(50)
            assert (pool.opened, pool.inflight, upstream.live) == (0, 0, 0)
            assert (descriptors(), len(asyncio.all_tasks())) <= before

    run(story(), LOOPS[loop])
