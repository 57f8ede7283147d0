"""The clocks of a call: connecting, the first byte, silence, the deadline. Where it can be, the time is passed in."""

import asyncio

import pytest

from router.upstream.answer import BUFFER_HIGH, Answer
from router.upstream.dial import Dialer, Origin, context
from router.upstream.faults import Broken, Silence
from router.upstream.pool import Pool
from router.upstream.settings import Tls
from tests.router.upstream.scripted import (
    BEGUN,
    HELLO,
    Scripted,
    answered,
    ask,
    begun,
    later,
    looped,
    settled,
    silenced,
)


@looped
async def test_a_call_without_a_first_byte_ends_on_its_clock_and_takes_its_connection_with_it() -> None:
    async with Scripted([asyncio.Event()]) as upstream:
        pool = upstream.pool()
        call = asyncio.create_task(ask(pool, first=10))
        await upstream.until(lambda: len(upstream.requests) == 1)
        pool.sweep(later(9))
        await settled()
        assert not call.done()
        pool.sweep(later(11))
        assert await call == Silence("timeout", sent=True)
        await settled()
        assert (pool.opened, pool.inflight, upstream.live) == (0, 0, 0)


@looped
async def test_a_head_that_trickles_does_not_put_the_first_clock_off() -> None:
    more = asyncio.Event()
    async with Scripted([b"HTTP/1.1 ", more, b"200 OK\r\nx: ", asyncio.Event()]) as upstream:
        pool = upstream.pool()
        call = asyncio.create_task(ask(pool, first=10))
        await upstream.until(lambda: len(upstream.requests) == 1)
        await settled()
        pool.sweep(later(8))
        more.set()
        await settled()
        pool.sweep(later(11))
        assert await call == Silence("timeout", sent=True)


@looped
async def test_silence_is_counted_from_the_last_bytes_that_came() -> None:
    more = asyncio.Event()
    async with Scripted([BEGUN, more, b"l", asyncio.Event()]) as upstream:
        pool = upstream.pool()
        answer = await answered(pool)
        answer.clocks(5)
        assert await answer.chunk() == b"he"
        pool.sweep(later(0))
        pool.sweep(later(4))
        more.set()
        assert await answer.chunk() == b"l"
        pool.sweep(later(4))  # sees that something came: five seconds from here
        pool.sweep(later(8))
        waiting = asyncio.create_task(answer.chunk())
        await settled()
        assert not waiting.done()
        pool.sweep(later(10))
        with pytest.raises(Broken, match="silence"):
            await waiting
        await settled()
        assert (pool.opened, upstream.live) == (0, 0)


@looped
async def test_the_deadline_ends_an_answer_that_never_fell_silent() -> None:
    async with Scripted([BEGUN, asyncio.Event()]) as upstream:
        pool = upstream.pool()
        answer = await ask(pool, within=60)
        assert isinstance(answer, Answer)
        answer.clocks(1e9)
        await answer.chunk()
        pool.sweep(later(61))
        with pytest.raises(Broken, match="deadline"):
            await answer.chunk()


@looped
async def test_an_upstream_that_waits_for_a_slow_reader_is_not_called_silent() -> None:
    size = 8 * BUFFER_HIGH
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size
    async with Scripted([head, b"x" * size]) as upstream:
        pool = upstream.pool()
        answer = await ask(pool, within=60)
        assert isinstance(answer, Answer)
        answer.clocks(5)
        await settled(50)
        for seconds in (1, 7, 13, 19, 25):  # nobody reads
            pool.sweep(later(seconds))
        assert answer.failure is None
        assert len(await answer.read(size)) == size
        await pool.close()


@looped
async def test_a_handshake_that_is_not_answered_ends_on_the_connect_clock() -> None:
    async with Scripted([HELLO]) as upstream:
        dialer = Dialer(Origin("https", "127.0.0.1", upstream.port), context(Tls()))
        pool = Pool(dialer, limit=1, connect=0.05, queue=1, idle=1)
        assert await silenced(pool) == Silence("connect_timeout", sent=False)
        await settled()
        assert (pool.opened, upstream.live, upstream.requests) == (0, 0, [])


@looped
async def test_nobody_connects_beyond_the_calls_deadline() -> None:
    async with Scripted([HELLO]) as upstream:
        dialer = Dialer(Origin("https", "127.0.0.1", upstream.port), context(Tls()))
        pool = Pool(dialer, limit=1, connect=60, queue=1, idle=1)
        async with asyncio.timeout(5):
            assert await silenced(pool, within=0.05) == Silence("connect_timeout", sent=False)


@looped
async def test_nobody_waits_in_line_beyond_the_calls_deadline() -> None:
    async with Scripted([asyncio.Event()]) as upstream:
        pool = upstream.pool(limit=1, queue=60)
        (busy,) = await begun(1, pool)
        async with asyncio.timeout(5):
            silence = await silenced(pool, within=0.03)
        assert silence == Silence("queue_timeout", sent=False)
        await pool.close()
        await busy
