import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from router.bounds import Bound
from router.stores.buckets import Calendar
from router.stores.memory import MemoryStore
from router.stores.redis import Shared
from router.stores.redis.breaker import FAILURES, Breaker
from router.stores.redis.clock import Clock
from router.stores.redis.line import Away
from router.stores.redis.places import Places, key_of
from router.stores.redis.shares import part, purse
from tests.router.stores.redis_server import RedisServer

REQUESTS = Bound("tenant/a/requests", "tenant", "a", "requests", 10, 604_800.0)
RUNNING = Bound("tenant/a/concurrency", "tenant", "a", "concurrency", 6)
MONEY = Bound("tenant/a/budget", "tenant", "a", "budget", 100, 0.0, "month")


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    running.say("FLUSHALL")
    return running


@contextlib.asynccontextmanager
async def two_replicas(server: RedisServer) -> AsyncIterator[tuple[Shared, Shared]]:
    one, two = Shared(server.url, MemoryStore()), Shared(server.url, MemoryStore())
    await one.open()
    await two.open()
    try:
        yield one, two
    finally:
        await one.close()
        await two.close()


def test_a_rest_is_known_to_the_other_replica_within_a_second_and_a_little(server: RedisServer) -> None:
    async def run() -> None:
        async with two_replicas(server) as (one, two):
            heard: dict[str, float] = {}
            two.rests.heard = heard.__setitem__
            one.rests.publish("key/sha256:ab", time.time() + 30)
            one.rests.publish("key/sha256:ab", time.time() + 20)
            one.rests.publish("key/over", time.time() - 1)
            began = time.monotonic()
            async with asyncio.timeout(3):
                while not heard:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert time.monotonic() - began < 1.5
            assert list(heard) == ["key/sha256:ab"] and heard["key/sha256:ab"] == pytest.approx(30, abs=1.6)
            assert two.rests.resting() == pytest.approx(heard, abs=0.2)
            assert one.replicas == two.replicas == 2

    asyncio.run(run())


def test_an_answer_is_kept_for_the_other_replica_and_too_large_a_one_is_not(server: RedisServer) -> None:
    async def run() -> None:
        async with two_replicas(server) as (one, two):
            assert await two.answers.get(b"\x00k") is None
            one.answers.put(b"\x00k", b"\xffanswer", 60)
            one.answers.put(b"large", bytes(one.answers.largest + 1), 60)
            await one.answers.close()
            assert await two.answers.get(b"\x00k") == b"\xffanswer"
            assert await two.answers.get(b"large") is None and one.answers.dropped == 1

    asyncio.run(run())


def test_a_change_is_heard_by_every_replica_at_once(server: RedisServer) -> None:
    async def run() -> None:
        async with two_replicas(server) as (one, two):
            heard: asyncio.Queue[str] = asyncio.Queue()
            listening = asyncio.create_task(two.changes.listen(heard.put_nowait))
            async with asyncio.timeout(3):
                assert await heard.get() == "", "anything may have changed before"
                one.changes.notify("keys")
                assert await heard.get() == "keys"
                server.say("CLIENT", "KILL", "TYPE", "pubsub")
                assert await heard.get() == "", "and while nobody listened"
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    asyncio.run(run())


class Deaf:
    """Between a replica and Redis: while `deaf`, what Redis answers is lost and the connection with it."""

    def __init__(self, server: RedisServer, home: str) -> None:
        self._server = server
        self.path = Path(home) / "deaf.sock"
        self.deaf = False
        self.lost = 0

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._carry, self.path)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to = await asyncio.open_unix_connection(self._server.path)
        up = asyncio.create_task(self._up(reader, to))
        while data := await there.read(1 << 16):
            if self.deaf:
                self.lost += 1
                break
            writer.write(data)
        up.cancel()
        await asyncio.gather(up, return_exceptions=True)
        for end in (writer, to):
            end.close()

    async def _up(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            to.write(data)
        to.close()


async def lose(proxy: Deaf, one: Shared, two: Shared) -> None:
    asked = [(REQUESTS, 1), (RUNNING, 1), (MONEY, 10)]
    assert await one.limits.take(asked, "before") is None
    proxy.deaf = True
    assert await one.limits.take(asked, "lost") is None, "counted by its share"
    one.limits.settle([(REQUESTS, 1, 1), (RUNNING, 1, 1), (MONEY, 10, 7)], "before")
    assert await one.limits.take(asked, "again") is None
    await asyncio.sleep(0.02)
    proxy.deaf = False
    assert proxy.lost >= 3
    one.limits.settle([(REQUESTS, 1, 1), (RUNNING, 1, 1), (MONEY, 10, 5)], "lost")
    async with asyncio.timeout(5):
        while one.degraded or one.limits.waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    for bound, used in ((REQUESTS, 3), (RUNNING, 1), (MONEY, 7 + 5 + 10)):
        said = await two.limits.take([(bound, bound.amount + 1 - used)], "look")
        assert said is not None and said.used == used, bound.kind
    assert one.limits.fallbacks == one.limits.replayed == 2


def test_what_redis_did_and_its_answer_was_lost_counts_once(server: RedisServer) -> None:
    async def run(home: str) -> None:
        proxy = Deaf(server, home)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(await proxy.serve())
            one, two = Shared(f"unix://{proxy.path}", MemoryStore()), Shared(server.url, MemoryStore())
            for each in (two, one):
                stack.push_async_callback(each.close)
                await each.open()
            await lose(proxy, one, two)

    with tempfile.TemporaryDirectory() as home:
        asyncio.run(run(home))


def test_without_redis_a_replica_opens_and_works_alone_and_says_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        caplog.set_level(logging.DEBUG, "router")
        shared = Shared("redis://:hunter2-secret@127.0.0.1:1/0", MemoryStore(), replicas=2)
        began = time.monotonic()
        await shared.open()
        assert (shared.degraded, shared.reason) == (True, "refused") and time.monotonic() - began < 0.5
        limits = shared.limits
        said = [await limits.take([(REQUESTS, 1), (RUNNING, 1), (MONEY, 10)], f"h{each}") for each in range(4)]
        assert said[:3] == [None] * 3 and said[3] is not None and said[3].bound is RUNNING and said[3].used == 6
        for hold, used in (("h0", 85), ("h1", 0), ("h2", 0)):
            limits.settle([(REQUESTS, 1, 1), (RUNNING, 1, 1), (MONEY, 10, used)], hold)
        said = [await limits.take([(MONEY, 6)], "edge")]
        assert said[0] is not None and said[0].used == 85, "within a tenth of the edge"
        assert limits.level(REQUESTS).used == 6 and limits.fallbacks == 5
        assert await shared.answers.get(b"k") is None
        shared.answers.put(b"k", b"v", 1)
        shared.changes.notify("keys")
        with pytest.raises(Away) as away:
            await shared._line.ask("PING")
        assert "secret" not in repr(away.value) + str(limits.failures) + shared.reason
        await shared.close()

    asyncio.run(run())
    assert [each.message for each in caplog.records] == [
        "Redis is away (refused): limits are counted by this replica alone"
    ]


@pytest.mark.parametrize("url", ["http://:hunter2@host", "redis://:hunter2/x@host:hunter2", "hunter2"])
def test_a_url_that_is_none_is_refused_without_being_said(url: str) -> None:
    with pytest.raises(ValueError) as refused:
        Shared(url, MemoryStore())
    assert "hunter2" not in str(refused.value) and refused.value.__suppress_context__


def test_the_breaker_opens_after_five_failures_in_a_row_or_one_refusal() -> None:
    breaker = Breaker()
    assert breaker.open, "until somebody has seen it"
    breaker.close()
    seen = []
    for number in range(2 * FAILURES - 1):
        breaker.fail()
        if number == FAILURES - 2:
            breaker.succeed()
        seen.append(breaker.open)
    assert seen == [False] * (2 * FAILURES - 2) + [True]
    breaker.succeed()
    assert breaker.open, "only a probe closes it"
    breaker.close()
    breaker.fail(refused=True)
    assert breaker.open


def test_the_clock_is_that_of_redis_within_the_time_of_the_fastest_answer() -> None:
    steady = [100.0]
    clock = Clock(lambda: steady[0], lambda: 5.0)
    assert clock.now() == 5_000_000
    clock.hear(1_000_000_000, 99_990_000, 100_000_000)  # it stood at 1,000 s some time in 10 ms
    assert clock.now() == 1_000_000_000
    clock.hear(1_000_006_000, 100_000_000, 100_001_000)  # and 6 ms later within 1 ms: the former was said 5 ms before
    assert clock.now() == 1_000_005_000
    clock.hear(500_000_000, 100_000_000, 100_001_000)  # it was set
    assert clock.now() == 499_999_000
    steady[0] = 101.0
    assert clock.now() == 500_999_000


@pytest.mark.parametrize(
    ("amount", "known", "replicas", "here"),
    [(100, 30, 1, 100), (100, 30, 2, 90), (100, 95, 2, 90), (100, 0, 4, 50), (100, 40, 4, 70), (100, 120, 3, 90)],
)
def test_money_goes_on_from_what_was_known_and_stops_before_the_edge(
    amount: int, known: int, replicas: int, here: int
) -> None:
    assert purse(amount, known, replicas) == here
    assert known > amount or known + replicas * max(0, here - known) <= 2 * amount


def test_a_share_of_anything_is_something() -> None:
    assert [part(10, 3), part(2, 3), part(0, 3)] == [3, 1, 0]


def test_a_budgets_key_is_another_in_each_period() -> None:
    clock = Clock(wall=lambda: now[0])
    now = [1_767_225_599.0]  # the last second of 2025
    places = Places(Calendar(clock.seconds))
    before = places.of(MONEY)
    assert places.of(MONEY) is before and before.end == 1_767_225_600
    now[0] += 1
    assert places.of(MONEY).key != before.key and places.of(MONEY).end == 1_769_904_000


def test_long_names_are_hashed_and_all_keys_share_one_tag() -> None:
    assert key_of("r", "tenant/a") == "{router}:r:tenant/a"
    assert len(key_of("r", "ü" * 150)) < 100 and key_of("r", "ü" * 150) != key_of("r", "ü" * 151)
