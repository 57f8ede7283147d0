"""A call may be cancelled at any await; nothing of it stays behind: no connection, no place in the pool, no task."""

import asyncio
import os
import random
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer

import pytest

from router.upstream.answer import Answer
from router.upstream.pool import Pool
from tests.router.upstream.played import asked, listening, pooled, read_request, until, whole

MANY = 3000


async def slowly(reader: Reader, writer: Writer) -> None:
    """Answers in small pieces, each a turn of the loop after the one before."""
    while True:
        await read_request(reader)
        for byte in whole(b"answer"):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)


async def read(pool: Pool) -> bytes:
    answer = await asked(pool)
    assert isinstance(answer, Answer), answer
    try:
        return await answer.read(100)
    finally:
        answer.close()


async def settled(pool: Pool, idle: int) -> None:
    await until(lambda: pool.inflight == 0 and pool.opened <= idle)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_call_that_is_cancelled_after_any_number_of_turns_leaves_nothing() -> None:
    """Step by step through a whole call: dialling, writing, waiting for the head, reading, giving back."""

    async def main() -> None:
        async with listening(slowly) as server, pooled(server.port, limit=1) as pool:
            ended = 0
            for steps in range(400):
                task = asyncio.create_task(read(pool))
                await turns(steps)
                task.cancel()
                (result,) = await asyncio.gather(task, return_exceptions=True)
                ended += result == b"answer"
                await settled(pool, idle=1)
                if steps % 20 == 0:  # and the one place of this pool can be had again
                    assert await asyncio.wait_for(read(pool), 5) == b"answer"
                if ended > 20:
                    break
            assert ended > 20, "the steps never reached the end of a call"

    asyncio.run(main())


def test_one_who_is_cancelled_in_the_line_hands_his_place_on() -> None:
    async def main() -> None:
        async with listening(slowly) as server, pooled(server.port, limit=1) as pool:
            for steps in range(0, 60, 3):
                tasks = [asyncio.create_task(read(pool)) for _ in range(4)]
                await turns(steps)
                tasks[1].cancel()
                tasks[2].cancel()
                results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
                assert results[0] == results[3] == b"answer"
                await settled(pool, idle=1)

    asyncio.run(main())


def test_thousands_of_cancelled_calls_leave_no_socket_task_or_place() -> None:
    async def main() -> None:
        dice = random.Random(7)
        async with listening(slowly, backlog=512) as server, pooled(server.port, limit=32) as pool:
            await read(pool)
            await settled(pool, idle=1)
            before = len(os.listdir("/proc/self/fd"))
            tasks_before = len(asyncio.all_tasks()) - server.open

            async def one() -> None:
                task = asyncio.create_task(read(pool))
                await turns(dice.randrange(120))
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

            for _ in range(MANY // 100):
                await asyncio.gather(*(one() for _ in range(100)))
            await settled(pool, idle=32)
            assert await asyncio.wait_for(asyncio.gather(*(read(pool) for _ in range(64))), 10) == [b"answer"] * 64
            await settled(pool, idle=32)
            pool.retire()
            await until(lambda: not server.open and not pool.opened)
            assert len(os.listdir("/proc/self/fd")) <= before
            assert len(asyncio.all_tasks()) <= tasks_before

    asyncio.run(main())


@pytest.mark.parametrize("when", ["reading", "pouring"])
def test_an_answer_that_is_left_unread_takes_its_connection_with_it(when: str) -> None:
    async def main() -> None:
        async def endless(reader: Reader, writer: Writer) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
            await reader.read()

        async with listening(endless) as server, pooled(server.port) as pool:
            answer = await asked(pool)
            assert await answer.chunk() == b"x"
            task = asyncio.create_task(answer.pour(lambda _: True) if when == "pouring" else answer.read(10))
            await turns(3)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            answer.close()
            await asyncio.wait_for(server.closed.wait(), 0.1)  # FAULTS: the upstream is closed within 100 ms
            await settled(pool, idle=0)

    asyncio.run(main())
