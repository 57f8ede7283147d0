"""An answer poured: given on in the read that brought it, as long as its taker wants more."""

import asyncio

import pytest

from router.upstream.faults import Broken
from tests.router.upstream.scripted import End, Scripted, Step, answered, looped, settled, whole


@looped
async def test_pouring_stops_when_no_more_is_wanted_and_goes_on_where_it_stopped() -> None:
    gates = [asyncio.Event() for _ in range(4)]
    words = [b"one", b"two", b"six", b"ten"]
    script: list[Step] = [b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n"]
    for gate, word in zip(gates, words, strict=True):
        script += [gate, word]
    async with Scripted(script) as upstream:
        pool = upstream.pool()
        answer = await answered(pool)
        got: list[bytes] = []

        def take(data: bytes) -> bool:
            got.append(data)
            return data != b"two"

        pouring = asyncio.create_task(answer.pour(take))
        for gate in gates[:2]:
            gate.set()
            await settled()
        assert await pouring is False
        for gate in gates[2:]:
            gate.set()
            await settled()
        assert got == [b"one", b"two"]
        assert await answer.pour(take) is True
        assert got == [b"one", b"two", b"sixten"]
        assert await whole(pool) != "closed"
        await pool.close()


@looped
async def test_an_error_of_the_taker_is_raised_where_it_pours() -> None:
    go = asyncio.Event()
    async with Scripted([b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n", go, b"one", asyncio.Event()]) as upstream:
        pool = upstream.pool()
        answer = await answered(pool)

        def take(_: bytes) -> bool:
            raise LookupError("of the taker's own")

        pouring = asyncio.create_task(answer.pour(take))
        await settled()
        go.set()
        with pytest.raises(LookupError, match="of the taker's own"):
            await pouring
        answer.close()
        await settled()
        assert (upstream.live, pool.opened) == (0, 0)


@looped
async def test_an_answer_that_breaks_while_it_is_poured_is_broken_after_all_that_came() -> None:
    async with Scripted([b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\none", b"two", End.RESET]) as upstream:
        pool = upstream.pool()
        answer = await answered(pool)
        got: list[bytes] = []

        def take(data: bytes) -> bool:
            got.append(data)
            return True

        with pytest.raises(Broken, match="closed"):
            await answer.pour(take)
        assert b"".join(got) == b"onetwo"
        assert pool.opened == 0
