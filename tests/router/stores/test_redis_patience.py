"""What one request waits for a Redis that stands still, however often it has to ask."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from router.bounds import Bound
from router.stores.memory import MemoryStore
from router.stores.redis import Shared
from router.stores.redis.line import TIMEOUT
from tests.router.stores.redis_server import RedisServer

CALLS = Bound("tenant/a/requests", "tenant", "a", "requests", 100, 604_800.0)
MONEY = Bound("tenant/a/budget", "tenant", "a", "budget", 100, 0.0, "month")
UPSTREAM = Bound("upstream/u/concurrency", "upstream", "u", "concurrency", 100)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.close()


def test_a_request_waits_once_for_a_redis_that_stands_still(server: RedisServer) -> None:
    async def run() -> None:
        shared = Shared(server.url, MemoryStore())
        await shared.open()
        try:
            limits = shared.limits
            assert await limits.take([(CALLS, 1)], "before") is None
            server.hang()
            began = time.perf_counter()
            assert await limits.take([(CALLS, 1)], "one") is None
            assert await limits.take([(MONEY, 10)], "one") is None
            once = time.perf_counter() - began
            assert not shared.degraded
            assert await limits.take([(UPSTREAM, 1)], "one's attempt") is None
            whole = time.perf_counter() - began
            server.go_on()
            limits.settle([(CALLS, 1, 1), (MONEY, 10, 7)], "one")
            limits.settle([(UPSTREAM, 1, 1)], "one's attempt")
            limits.settle([(CALLS, 1, 1)], "before")
            until = time.perf_counter() + 3
            while shared.degraded or limits.waiting or limits.level(CALLS).used != 2 or limits.level(MONEY).used != 7:
                assert time.perf_counter() < until
                await asyncio.sleep(0.02)
            assert await limits.take([(CALLS, 1)], "two") is None
            assert limits.fallbacks == 3
            print(f"{once * 1e3:.0f} ms for head and body, {whole * 1e3:.0f} ms with an upstream's limit")
            assert once < TIMEOUT * 1.5 and whole < TIMEOUT * 2
        finally:
            await shared.close()

    asyncio.run(run())


def test_what_redis_has_let_nobody_have_any_more_a_replica_does_not_give_out_either(server: RedisServer) -> None:
    tokens = Bound("tenant/a/tokens", "tenant", "a", "tokens", 1000, 604_800.0)
    calls = Bound("tenant/b/requests", "tenant", "b", "requests", 10, 604_800.0)

    async def run() -> None:
        shared = Shared(server.url, MemoryStore())
        await shared.open()
        try:
            limits = shared.limits
            assert [await limits.take([(calls, 1)], f"h{number}") for number in range(10)] == [None] * 10
            assert await limits.take([(tokens, 900)], "long") is None
            server.hang()
            said = await limits.take([(calls, 1)], "one more")
            assert said is not None and (said.bound, said.used) == (calls, 10)
            assert await limits.take([(tokens, 200)], "another") is not None
            limits.settle([(tokens, 900, 300)], "long")  # it came to less: what Redis would know is known here
            assert await limits.take([(tokens, 200)], "another again") is None
            assert await limits.take([(tokens, 700)], "too much") is not None
            server.go_on()
        finally:
            await shared.close()

    asyncio.run(run())
