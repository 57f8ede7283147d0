"""Who gets which connection, who waits in line for one, and what is tried once more on a fresh one."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from router.upstream.answer import Answer
from router.upstream.dial import Dialer, Origin
from router.upstream.faults import Silence
from tests.router.upstream.scripted import (
    BEGUN,
    GET,
    HELLO,
    End,
    Scripted,
    Whole,
    ask,
    begun,
    later,
    looped,
    post,
    settled,
    silenced,
    whole,
)


@looped
async def test_the_connection_given_back_last_is_taken_first() -> None:
    gates = [asyncio.Event() for _ in range(3)]
    async with Scripted(*((gate, HELLO) for gate in gates), [HELLO]) as upstream:
        pool = upstream.pool()
        calls = await begun(3, pool)
        for number in (2, 0, 1):
            gates[number].set()
            await calls[number]
        for _ in range(3):
            assert isinstance(await whole(pool), Whole)
        assert upstream.peers[3:] == [upstream.peers[1]] * 3
        assert (upstream.accepted, pool.opened) == (3, 3)
        await pool.close()


@looped
async def test_never_more_are_open_than_the_limit_and_the_line_is_first_come_first_served() -> None:
    gates = [asyncio.Event() for _ in range(5)]
    async with Scripted(*((gate, HELLO) for gate in gates)) as upstream:
        pool = upstream.pool(limit=2)
        calls = await begun(5, pool)
        assert (pool.opened, pool.inflight, upstream.accepted) == (2, 2, 2)
        for number, gate in enumerate(gates):
            gate.set()
            await settled(20)
            assert [call.done() for call in calls] == [True] * (number + 1) + [False] * (4 - number)
            assert pool.opened == 2
        assert upstream.accepted == 2
        await pool.close()


@pytest.mark.parametrize("end", End)
@looped
async def test_a_connection_that_ends_gives_its_place_to_the_first_in_line(end: End) -> None:
    gates = [asyncio.Event() for _ in range(3)]
    async with Scripted([gates[0], end], [gates[1], HELLO], [gates[2], HELLO]) as upstream:
        pool = upstream.pool(limit=1)
        first, second, third = await begun(3, pool)
        gates[0].set()
        assert await first == Silence("closed", sent=True)
        gates[1].set()
        assert isinstance(await second, Whole)
        assert not third.done()
        gates[2].set()
        assert isinstance(await third, Whole)
        assert (upstream.accepted, pool.opened) == (2, 1)
        await pool.close()


@looped
async def test_a_dial_that_fails_gives_its_place_to_the_first_in_line() -> None:
    async with Scripted([HELLO]) as upstream:
        pool = upstream.pool(limit=1)
        upstream_port, pool.dialer = upstream.port, Dialer(Origin("http", "127.0.0.1", 1))
        calls = [asyncio.create_task(whole(pool)) for _ in range(3)]
        await asyncio.sleep(0)
        pool.dialer = Dialer(Origin("http", "127.0.0.1", upstream_port))
        found = await asyncio.gather(*calls)
        assert isinstance(found[0], Silence) and (found[0].reason, found[0].sent) == ("refused", False)
        assert isinstance(found[1], Whole) and isinstance(found[2], Whole)
        await pool.close()


@looped
async def test_who_waits_in_line_beyond_the_queues_clock_is_told_so_and_holds_no_place() -> None:
    gate = asyncio.Event()
    async with Scripted([gate, HELLO], [HELLO]) as upstream:
        pool = upstream.pool(limit=1, queue=0.03)
        (busy,) = await begun(1, pool)
        assert await silenced(pool) == Silence("queue_timeout", sent=False)
        gate.set()
        assert isinstance(await busy, Whole)
        assert isinstance(await whole(pool), Whole)
        assert (pool.opened, pool.inflight, upstream.accepted) == (1, 0, 1)
        await pool.close()


@looped
async def test_an_idle_connection_is_closed_when_its_time_is_up_and_not_before() -> None:
    async with Scripted([HELLO]) as upstream:
        pool = upstream.pool(idle=15)
        await whole(pool)
        pool.sweep(later(14))
        await settled()
        assert (pool.opened, upstream.live) == (1, 1)
        pool.sweep(later(16))
        await settled()
        assert (pool.opened, upstream.live) == (0, 0)
        assert isinstance(await whole(pool), Whole)
        await pool.close()


@looped
async def test_a_connection_that_the_upstream_closes_while_idle_is_not_used() -> None:
    gate = asyncio.Event()
    async with Scripted([HELLO, gate, End.CLOSE], [HELLO]) as upstream:
        pool = upstream.pool()
        await whole(pool)
        gate.set()
        await settled()
        assert pool.opened == 0
        assert isinstance(await ask(pool), Answer)
        await pool.close()


# The keep-alive race: the upstream closes a kept connection while the next request is on its way.


@pytest.mark.parametrize("end", End)
@looped
async def test_a_replayable_call_on_a_kept_connection_that_closes_unanswered_is_sent_once_more(end: End) -> None:
    async with Scripted([HELLO], [end], [HELLO]) as upstream:
        pool = upstream.pool()
        await whole(pool)
        answer = await ask(pool, replay=True)
        assert isinstance(answer, Answer) and not answer.reused
        assert (len(upstream.requests), upstream.accepted, pool.opened) == (3, 2, 1)
        await pool.close()


@looped
async def test_a_replayed_call_that_closes_unanswered_again_is_not_sent_a_third_time() -> None:
    async with Scripted([HELLO], [End.CLOSE]) as upstream:
        pool = upstream.pool()
        await whole(pool)
        assert await silenced(pool, replay=True) == Silence("closed", sent=True)
        assert len(upstream.requests) == 3


@looped
async def test_a_replayed_call_that_is_handed_a_kept_connection_is_not_sent_a_third_time_either() -> None:
    gate = asyncio.Event()
    async with Scripted([HELLO], [gate, End.CLOSE], [HELLO], [End.CLOSE]) as upstream:
        pool = upstream.pool(limit=1)
        await whole(pool)
        replayed = asyncio.create_task(ask(pool, replay=True))
        await settled()
        (waiting,) = await begun(1, pool)  # it gets the place of the one that closed
        gate.set()
        assert await replayed == Silence("closed", sent=True, stale=True)
        assert isinstance(await waiting, Whole)
        assert len(upstream.requests) == 4


@looped
async def test_a_call_that_may_not_be_sent_twice_is_reported_stale_and_sent_once() -> None:
    async with Scripted([HELLO], [End.CLOSE]) as upstream:
        pool = upstream.pool()
        await whole(pool)
        assert await silenced(pool) == Silence("closed", sent=True, stale=True)
        assert len(upstream.requests) == 2


@looped
async def test_a_body_that_is_streamed_up_is_never_sent_twice() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"once"

    async with Scripted([HELLO], [End.CLOSE]) as upstream:
        pool = upstream.pool()
        await whole(pool)
        silence = await silenced(pool, head=post(4), body=body(), replay=True)
        assert silence == Silence("closed", sent=True, stale=True)
        assert len(upstream.requests) == 2


@pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
@looped
async def test_once_a_byte_of_an_answer_has_come_nothing_is_sent_again(said: bytes) -> None:
    async with Scripted([HELLO], [said, End.CLOSE]) as upstream:
        pool = upstream.pool()
        await whole(pool)
        assert await silenced(pool, replay=True) == Silence("closed", sent=True)
        assert len(upstream.requests) == 2


@looped
async def test_a_fresh_connection_that_closes_unanswered_is_not_tried_again() -> None:
    async with Scripted([End.CLOSE]) as upstream:
        pool = upstream.pool()
        assert await silenced(pool, replay=True) == Silence("closed", sent=True)
        assert len(upstream.requests) == 1


@looped
async def test_a_replay_in_a_full_pool_takes_a_fresh_connection_and_not_another_kept_one() -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    async with Scripted([gates[0], HELLO], [gates[1], HELLO], [End.CLOSE], [HELLO]) as upstream:
        pool = upstream.pool(limit=2)
        calls = await begun(2, pool)
        for gate in gates:
            gate.set()
        await asyncio.gather(*calls)
        answer = await ask(pool, replay=True)
        assert isinstance(answer, Answer) and not answer.reused
        await settled()
        assert upstream.accepted == 3 and pool.opened <= 2
        await pool.close()


# Leaving


@looped
async def test_a_retired_pool_closes_what_is_idle_now_and_what_is_busy_when_it_ends() -> None:
    gate = asyncio.Event()
    async with Scripted([HELLO], [BEGUN, gate, b"llo"], [HELLO]) as upstream:
        pool = upstream.pool(limit=2)
        busy = asyncio.create_task(whole(pool))
        await busy
        busy = asyncio.create_task(whole(pool))
        await settled()
        pool.retire()
        await settled()
        assert upstream.live == 1
        gate.set()
        assert isinstance(await busy, Whole)
        await settled()
        assert (pool.opened, upstream.live) == (0, 0)


@looped
async def test_who_stands_in_line_when_a_pool_is_retired_is_still_served() -> None:
    gate = asyncio.Event()
    async with Scripted([gate, HELLO], [HELLO]) as upstream:
        pool = upstream.pool(limit=1)
        calls = await begun(3, pool)
        pool.retire()
        gate.set()
        assert all(isinstance(found, Whole) for found in await asyncio.gather(*calls))
        await settled()
        assert (pool.opened, upstream.live) == (0, 0)


@looped
async def test_closing_a_pool_ends_what_is_read_and_what_waits_and_nothing_is_opened_behind_it() -> None:
    async with Scripted([BEGUN, asyncio.Event()], [asyncio.Event()]) as upstream:
        pool = upstream.pool(limit=2)
        reading, heading, waiting = await begun(3, pool)
        await pool.close()
        async with asyncio.timeout(2):
            assert await reading == "closed"
            assert await heading == Silence("closed", sent=True)
            assert await waiting == Silence("closed", sent=False)
        await settled()
        assert (pool.opened, pool.inflight, upstream.live, upstream.accepted) == (0, 0, 0, 2)
        assert GET in upstream.requests
