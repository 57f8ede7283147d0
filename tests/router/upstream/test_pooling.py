"""The pool over real sockets: who gets which connection, what waits, what the clocks end, what is tried again."""

import asyncio
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from router.upstream.answer import Answer
from router.upstream.faults import Broken, Silence
from tests.router.upstream.played import asked, listening, pooled, read_request, until, whole


async def echo(reader: Reader, writer: Writer) -> None:
    """Answers each request with its connection's own port."""
    while True:
        await read_request(reader)
        writer.write(whole(b"%d" % writer.get_extra_info("peername")[1]))


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(main())  # type: ignore[arg-type]


async def port_of(pool: Any) -> bytes:
    answer = await asked(pool)
    assert isinstance(answer, Answer), answer
    return await answer.read(100)


def test_the_connection_that_was_used_last_is_used_next() -> None:
    async def main() -> None:
        async with listening(echo) as server, pooled(server.port) as pool:
            first = await asyncio.gather(*(port_of(pool) for _ in range(3)))
            assert len(set(first)) == 3 and pool.opened == 3 and pool.inflight == 0
            last = await port_of(pool)
            assert [await port_of(pool) for _ in range(5)] == [last] * 5
            assert server.seen == 3

    run(main)


def test_no_more_are_open_than_the_limit_and_the_line_is_served_in_its_order() -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def held(reader: Reader, writer: Writer) -> None:
            while True:
                await read_request(reader)
                await go.wait()
                writer.write(whole(b"x"))

        order: list[int] = []
        async with listening(held) as server, pooled(server.port, limit=2) as pool:

            async def one(number: int) -> None:
                await (await asked(pool)).read(10)
                order.append(number)

            tasks = [asyncio.create_task(one(number)) for number in range(10)]
            await until(lambda: server.open == 2)
            await asyncio.sleep(0.02)
            assert pool.opened == 2 and server.seen == 2
            go.set()
            await asyncio.gather(*tasks)
            assert order == list(range(10)) and server.seen == 2

    run(main)


def test_who_waits_too_long_for_a_connection_is_told_and_takes_nobodys_place() -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def held(reader: Reader, writer: Writer) -> None:
            while True:
                await read_request(reader)
                await go.wait()
                writer.write(whole(b"x"))

        async with listening(held) as server, pooled(server.port, limit=1, queue=0.05) as pool:
            holder = asyncio.create_task(asked(pool))
            await until(lambda: server.open == 1)
            assert await asked(pool) == Silence("queue_timeout", sent=False)
            go.set()
            assert isinstance(await holder, Answer)
            assert isinstance(await asked(pool), Answer)

    run(main)


def test_idle_connections_are_closed_when_their_time_is_up_and_not_before() -> None:
    async def main() -> None:
        async with listening(echo) as server, pooled(server.port, idle=15.0) as pool:
            await port_of(pool)
            now = asyncio.get_running_loop().time()
            pool.sweep(now + 14.0)
            assert pool.opened == 1
            pool.sweep(now + 16.0)
            await until(lambda: server.open == 0 and pool.opened == 0)

    run(main)


def test_retiring_closes_idle_connections_now_and_busy_ones_when_they_end() -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def slow(reader: Reader, writer: Writer) -> None:
            while True:
                head = await read_request(reader)
                writer.write(whole(b"xy")[:-1])
                if head:
                    await go.wait()
                writer.write(b"y")

        async with listening(slow) as server, pooled(server.port) as pool:
            answer = await asked(pool)
            pool.retire()
            go.set()
            assert await answer.read(10) == b"xy"
            await until(lambda: server.open == 0 and pool.opened == 0)

    run(main)


@pytest.mark.parametrize("replay", [True, False])
def test_a_kept_connection_that_was_closed_is_replaced_once_where_the_call_may_be_sent_again(replay: bool) -> None:
    async def main() -> None:
        async def once(reader: Reader, writer: Writer) -> None:
            """Answers one request, takes a second one and hangs up: the keep-alive race."""
            await read_request(reader)
            writer.write(whole(b"x"))
            await read_request(reader)

        async with listening(once) as server, pooled(server.port) as pool:
            assert await port_of(pool) == b"x"
            again = await asked(pool, replay=replay)
            if replay:
                assert isinstance(again, Answer) and server.seen == 2
            else:
                assert again == Silence("closed", sent=True, stale=True) and server.seen == 1

    run(main)


def test_a_fresh_connection_that_is_closed_is_not_tried_again() -> None:
    async def main() -> None:
        async def hangs_up(reader: Reader, writer: Writer) -> None:
            await read_request(reader)

        async with listening(hangs_up) as server, pooled(server.port) as pool:
            assert await asked(pool) == Silence("closed", sent=True) and server.seen == 1

    run(main)


async def mute(reader: Reader, _: Writer) -> None:
    await reader.read()


async def half(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    writer.write(whole(b"xy")[:-1])
    await reader.read()


def test_the_clock_for_the_first_byte_ends_a_call_and_its_connection() -> None:
    async def main() -> None:
        async with listening(mute) as server, pooled(server.port) as pool:
            assert await asked(pool, first=0.05) == Silence("timeout", sent=True)
            await until(lambda: server.open == 0 and pool.opened == 0)

    run(main)


@pytest.mark.parametrize(("silence", "deadline", "reason"), [(0.05, 10.0, "silence"), (10.0, 0.3, "deadline")])
def test_the_clocks_behind_the_first_byte_break_an_answer(silence: float, deadline: float, reason: str) -> None:
    async def main() -> None:
        async with listening(half) as server, pooled(server.port) as pool:
            answer = await asked(pool, deadline=deadline)
            answer.clocks(silence)
            with pytest.raises(Broken) as broken:
                await answer.read(10)
            assert broken.value.reason == reason
            await until(lambda: server.open == 0 and pool.opened == 0)

    run(main)


def test_bytes_put_the_silence_off_but_not_the_deadline() -> None:
    async def main() -> None:
        async def drips(reader: Reader, writer: Writer) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            for _ in range(1000):
                writer.write(b".")
                await asyncio.sleep(0.05)

        async with listening(drips) as server, pooled(server.port) as pool:
            answer = await asked(pool, deadline=1.0)
            answer.clocks(0.4)
            with pytest.raises(Broken) as broken:
                await answer.read(2000)
            assert broken.value.reason == "deadline"

    run(main)


def test_a_place_that_refuses_or_does_not_exist_is_said_by_name() -> None:
    async def main() -> None:
        async with listening(echo) as server:
            port = server.port
        async with pooled(port) as pool:
            refused = await asked(pool)
            assert (refused.reason, refused.sent, pool.opened) == ("refused", False, 0)
        async with pooled(80, host="no-such-host.invalid") as pool:
            nowhere = await asked(pool)
            assert (nowhere.reason, nowhere.sent, pool.opened) == ("dns", False, 0)

    run(main)


def test_a_read_that_is_not_taken_stops_the_upstream_and_goes_on_when_it_is() -> None:
    """A whole of 64 MB; only what the sockets and our bound hold is ever sent before somebody reads."""

    async def main() -> None:
        sent = 0
        size = 64 * 1024 * 1024

        async def floods(reader: Reader, writer: Writer) -> None:
            nonlocal sent
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
            while sent < size:
                writer.write(b"x" * 65_536)
                await writer.drain()
                sent += 65_536

        async with listening(floods) as server, pooled(server.port) as pool:
            answer = await asked(pool)
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.05)
            assert sent < size / 4
            read = 0
            while data := await answer.chunk():
                read += len(data)
            assert read == size

    run(main)


def test_pouring_gives_what_comes_in_the_read_that_brought_it_until_told_to_stop() -> None:
    async def main() -> None:
        says: asyncio.Queue[bytes] = asyncio.Queue()

        async def talks(reader: Reader, writer: Writer) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            while text := await says.get():
                writer.write(b"%x\r\n%b\r\n" % (len(text), text))
            writer.write(b"0\r\n\r\n")

        async with listening(talks) as server, pooled(server.port) as pool:
            answer = await asked(pool)
            got: list[bytes] = []

            def take(data: bytes) -> bool:
                got.append(data)
                return data != b"stop"

            pouring = asyncio.create_task(answer.pour(take))
            for text in (b"one", b"two", b"stop"):
                says.put_nowait(text)
                await until(lambda text=text: got[-1:] == [text])  # type: ignore[misc]
            assert await pouring is False
            says.put_nowait(b"behind")
            await asyncio.sleep(0.05)
            assert got == [b"one", b"two", b"stop"]  # it waits until it is asked for
            says.put_nowait(b"")
            assert await answer.pour(take) is True
            assert got[3:] == [b"behind"]

    run(main)


def test_what_goes_wrong_in_the_taking_is_raised_where_it_is_waited_for() -> None:
    async def main() -> None:
        async def one(reader: Reader, writer: Writer) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
            await asyncio.sleep(0.02)
            writer.write(b"x")
            await reader.read()

        def take(_: bytes) -> bool:
            raise ZeroDivisionError

        async with listening(one) as server, pooled(server.port) as pool:
            answer = await asked(pool)
            with pytest.raises(ZeroDivisionError):
                await answer.pour(take)
            answer.close()
            await until(lambda: server.open == 0)

    run(main)
