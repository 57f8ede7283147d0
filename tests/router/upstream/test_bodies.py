"""Bodies in both directions: streamed up, answered early, and never more held than the reader or the upstream takes."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from router.upstream.answer import BUFFER_HIGH, Answer
from router.upstream.faults import Broken, Silence
from tests.router.upstream.scripted import (
    HELLO,
    End,
    Scripted,
    Step,
    answered,
    ask,
    later,
    looped,
    post,
    settled,
    silenced,
)

CHUNKED = b"POST /x HTTP/1.1\r\nhost: up\r\ntransfer-encoding: chunked\r\n\r\n"
REFUSED = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig"
HUGE = 256 * 1024 * 1024
PIECE = 64 * 1024


class Producer:
    """A body of up to `size` bytes that counts what was asked of it, and may wait for the test between two pieces."""

    def __init__(self, size: int, gate: asyncio.Event | None = None) -> None:
        self.given = 0
        self.ended = False
        self._size = size
        self._gate = gate

    async def __call__(self) -> AsyncIterator[bytes]:
        try:
            while self.given < self._size:
                if self._gate is not None and self.given:
                    await self._gate.wait()
                self.given += PIECE
                yield b"x" * PIECE
                await asyncio.sleep(0)
        finally:
            self.ended = True


async def still(count: "Producer") -> int:
    """What it had given when it stopped giving."""
    before = -1
    while before != count.given:
        before = count.given
        await asyncio.sleep(0.02)
    return before


@looped
async def test_a_body_is_streamed_up_piece_by_piece_while_it_is_made() -> None:
    async with Scripted([HELLO]) as upstream:
        pool = upstream.pool()

        async def body() -> AsyncIterator[bytes]:
            for piece in (b"one", b"three"):
                yield b"%x\r\n%b\r\n" % (len(piece), piece)
                await settled()
            yield b"0\r\n\r\n"

        answer = await answered(pool, CHUNKED, body())
        assert await answer.read(9) == b"hello"
        assert upstream.requests == [CHUNKED + b"3\r\none\r\n5\r\nthree\r\n0\r\n\r\n"]
        assert isinstance(await ask(pool), Answer)
        assert upstream.accepted == 1  # a whole exchange: its connection is as good as any
        await pool.close()


@looped
async def test_a_body_that_breaks_off_is_said_to_and_leaves_no_half_request_behind() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"half"
        raise EOFError

    async with Scripted([HELLO]) as upstream:
        pool = upstream.pool()
        assert await silenced(pool, head=post(8), body=body()) == Silence("upload", sent=True)
        await settled()
        assert (upstream.requests, upstream.live, pool.opened, pool.inflight) == ([], 0, 0, 0)


@looped
async def test_what_goes_wrong_in_the_making_of_a_body_reaches_the_caller_and_closes_the_connection() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"half"
        raise LookupError("of the caller's own")

    async with Scripted([HELLO]) as upstream:
        pool = upstream.pool()
        with pytest.raises(LookupError, match="of the caller's own"):
            await ask(pool, post(8), body())
        await settled()
        assert (upstream.requests, upstream.live, pool.opened, pool.inflight) == ([], 0, 0, 0)


# An upstream that answers before it has the whole body


@looped
async def test_an_early_answer_ends_the_upload_and_its_connection_is_not_used_again() -> None:
    body = Producer(HUGE)
    async with Scripted([REFUSED], [HELLO], reads=False) as upstream:
        pool = upstream.pool()
        answer = await answered(pool, post(HUGE), body())
        assert (answer.status, await answer.read(9)) == (413, b"big")
        assert body.given < HUGE
        await settled()
        assert isinstance(await ask(pool), Answer)
        assert upstream.accepted == 2
        await pool.close()


@pytest.mark.parametrize("script", [[REFUSED], [REFUSED[:-1]]], ids=["whole", "begun"])
@looped
async def test_an_early_answer_is_heard_while_the_upstream_takes_no_more_of_the_body(script: list[Step]) -> None:
    """It neither reads on nor closes: what was written before it answered may never leave our buffer."""
    body = Producer(HUGE)
    go = asyncio.Event()
    async with Scripted([go, *script, asyncio.Event()], reads=False) as upstream:
        pool = upstream.pool()
        call = asyncio.create_task(ask(pool, post(HUGE), body()))
        assert await still(body) < HUGE
        go.set()
        async with asyncio.timeout(2):
            answer = await call
        assert isinstance(answer, Answer) and answer.status == 413
        answer.close()
        await settled()
        assert pool.opened == 0 and body.given < HUGE


@looped
async def test_an_early_answer_to_a_body_sent_at_once_costs_the_connection_too() -> None:
    async with Scripted([REFUSED, asyncio.Event()], [HELLO], reads=False) as upstream:
        pool = upstream.pool()
        answer = await answered(pool, post(HUGE // 8), b"x" * (HUGE // 8))
        assert (answer.status, await answer.read(9)) == (413, b"big")
        await settled()
        assert pool.opened == 0
        again = await answered(pool)
        assert not again.reused and await again.read(9) == b"hello"
        await pool.close()


@looped
async def test_a_connection_that_ends_while_a_body_goes_up_ends_the_upload() -> None:
    body = Producer(HUGE)
    go = asyncio.Event()
    async with Scripted([go, End.RESET], reads=False) as upstream:
        pool = upstream.pool()
        call = asyncio.create_task(ask(pool, post(HUGE), body()))
        assert await still(body) < HUGE
        go.set()
        assert await call == Silence("closed", sent=True)
        assert body.given < HUGE and pool.opened == 0


# Back-pressure


@looped
async def test_an_upload_that_the_upstream_does_not_read_pauses_its_producer() -> None:
    body = Producer(HUGE)
    async with Scripted([asyncio.Event()], reads=False) as upstream:
        pool = upstream.pool()
        call = asyncio.create_task(ask(pool, post(HUGE), body()))
        assert await still(body) < HUGE / 8
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await settled()
        assert (pool.opened, pool.inflight) == (0, 0)


@looped
async def test_the_deadline_ends_an_upload_that_nobody_reads() -> None:
    body = Producer(HUGE)
    async with Scripted([asyncio.Event()], reads=False) as upstream:
        pool = upstream.pool()
        call = asyncio.create_task(ask(pool, post(HUGE), body(), first=1e9, within=60))
        await still(body)
        pool.sweep(later(61))
        assert await call == Silence("timeout", sent=True)


@looped
async def test_the_deadline_ends_an_upload_whose_producer_gives_nothing() -> None:
    body = Producer(HUGE, asyncio.Event())
    async with Scripted([HELLO]) as upstream:
        pool = upstream.pool()
        call = asyncio.create_task(ask(pool, post(HUGE), body(), first=1e9, within=60))
        await settled()
        pool.sweep(later(61))
        async with asyncio.timeout(2):
            assert await call == Silence("timeout", sent=True)
        await settled()
        assert body.ended and upstream.live == 0


@looped
async def test_an_early_answer_is_heard_while_the_producer_gives_nothing() -> None:
    body = Producer(HUGE, asyncio.Event())
    async with Scripted([REFUSED], reads=False) as upstream:
        pool = upstream.pool()
        async with asyncio.timeout(2):
            answer = await answered(pool, post(HUGE), body())
        assert (answer.status, await answer.read(9)) == (413, b"big")


@looped
async def test_a_huge_answer_that_nobody_reads_stops_the_upstream_and_is_whole_when_it_is_read() -> None:
    sent = 0
    size = 64 * 1024 * 1024

    class Counting(Scripted):
        async def play(self, writer: asyncio.StreamWriter, script: Sequence[Step]) -> bool:
            nonlocal sent
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
            while sent < size:
                writer.write(b"x" * PIECE)
                await writer.drain()
                sent += PIECE
            return True

    async with Counting([]) as upstream:
        pool = upstream.pool()
        answer = await answered(pool)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.02)
        assert sent < size / 4
        held = len(await answer.chunk())
        assert held <= 3 * BUFFER_HIGH
        read = held
        while data := await answer.chunk():
            read += len(data)
            assert len(data) <= 3 * BUFFER_HIGH
        assert read == size
        await pool.close()


@looped
async def test_a_body_larger_than_the_reader_allows_is_let_go_at_the_limit() -> None:
    size = 8 * BUFFER_HIGH
    async with Scripted([b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size, b"x" * size], [HELLO]) as upstream:
        pool = upstream.pool()
        answer = await answered(pool)
        with pytest.raises(Broken, match="too_large"):
            await answer.read(BUFFER_HIGH)
        await settled()
        assert (upstream.live, pool.opened) == (0, 0)


@pytest.mark.parametrize("way", ["read", "chunk", "close"])
@looped
async def test_a_connection_whose_answer_ended_while_reading_was_paused_serves_the_next_call(way: str) -> None:
    rest = asyncio.Event()
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (BUFFER_HIGH + 1)
    script: list[Step] = [head, b"x" * BUFFER_HIGH, rest, b"x"]
    async with Scripted(script, [HELLO]) as upstream:
        pool = upstream.pool()
        answer = await answered(pool)
        await settled(50)
        rest.set()
        await settled()
        assert answer.complete
        if way == "read":
            assert len(await answer.read(10**6)) == BUFFER_HIGH + 1
        elif way == "close":
            answer.close()
        async with asyncio.timeout(2):
            again = await answered(pool)
        assert again.reused and await again.read(9) == b"hello"
        if way == "chunk":
            assert len(await answer.chunk()) == BUFFER_HIGH + 1
        await pool.close()
