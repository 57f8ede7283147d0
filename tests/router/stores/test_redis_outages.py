"""Everything that a Redis can do wrong, with two replicas under load: nobody is told, and nothing is counted wrong."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator

import pytest

from router.bounds import Bound
from router.stores.memory import MemoryStore
from router.stores.redis import Shared
from tests.router.stores.redis_server import RedisServer

WEEK = 604_800.0
CALLS = Bound("tenant/wide/requests", "tenant", "wide", "requests", 1_000_000, WEEK * 50)
RUNNING = Bound("tenant/wide/concurrency", "tenant", "wide", "concurrency", 400)
MONEY = Bound("tenant/wide/budget", "tenant", "wide", "budget", 10**12, 0.0, "year")
TIGHT = Bound("tenant/tight/requests", "tenant", "tight", "requests", 40, WEEK)
PURSE = Bound("tenant/tight/budget", "tenant", "tight", "budget", 40, 0.0, "month")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.close()


class Load:
    """What both replicas' callers did, as they saw it."""

    def __init__(self) -> None:
        self.ends = False
        self.took: list[float] = []
        self.raised: list[BaseException] = []
        self.spent = self.admitted = 0
        self.tight = {TIGHT.name: 0, PURSE.name: 0}

    async def take(self, shared: Shared, bounds: list[tuple[Bound, int]], hold: str) -> bool:
        began = time.perf_counter()
        try:
            return await shared.limits.take(bounds, hold) is None
        except Exception as error:
            self.raised.append(error)
            return False
        finally:
            self.took.append(time.perf_counter() - began)

    async def call(self, shared: Shared, name: str) -> None:
        dice = random.Random(name)
        number = 0
        while not self.ends:
            number += 1
            hold = f"{name}-{number}"
            head = [(CALLS, 1), (RUNNING, 1)]
            most, used = 1_000, dice.randint(0, 1_000)
            if await self.take(shared, head, hold):
                self.admitted += 1
                held = [(bound, n, n) for bound, n in head]
                await asyncio.sleep(dice.random() * 0.02)
                if await self.take(shared, [(MONEY, most)], hold):
                    self.spent += used
                    held.append((MONEY, most, used))
                    await asyncio.sleep(dice.random() * 0.05)
                shared.limits.settle(held, hold)
            for bound in (TIGHT, PURSE):
                if number % 10 == 0 and await self.take(shared, [(bound, 1)], f"{hold}-tight"):
                    self.tight[bound.name] += 1
                    shared.limits.settle([(bound, 1, 1)], f"{hold}-tight")
            await asyncio.sleep(0.01)


Change = Callable[[RedisServer], object]


async def through(server: RedisServer, begin: Change, end: Change, seconds: float) -> str:
    """A load before, during and after; then the books are held against each other."""
    async with contextlib.AsyncExitStack() as stack:
        replicas = []
        for _ in range(2):
            replicas.append(Shared(server.url, MemoryStore(), replicas=2))
            await replicas[-1].open()
            stack.push_async_callback(replicas[-1].close)
        load = Load()
        calls = [load.call(each, f"r{number}c{n}") for number, each in enumerate(replicas) for n in range(8)]
        async with asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(call)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(begin, server)
            load.took.clear()
            await asyncio.sleep(seconds)
            during = sorted(load.took)
            await asyncio.to_thread(end, server)
            await until(lambda: not any(each.degraded for each in replicas))
            await asyncio.sleep(0.3)
            load.ends = True
        await until(lambda: not any(each.degraded or each.limits.silent or each.limits.waiting for each in replicas))
        await checked(load, replicas)
    late = during[int(len(during) * 0.99)]
    assert late <= 0.1
    here, told = (sum(getattr(each.limits, name) for each in replicas) for name in ("fallbacks", "replayed"))
    return (
        f"{len(during)} takes in {seconds} s, p99 {late * 1000:.1f} ms, longest {during[-1] * 1000:.1f} ms; "
        f"{here} here, {told} told; of 40: {load.tight[TIGHT.name]} requests, {load.tight[PURSE.name]} of money"
    )


async def until(true: Callable[[], bool]) -> None:
    for _ in range(100):
        if true():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it never came true")


async def checked(load: Load, replicas: list[Shared]) -> None:
    """Redis has all of it, once."""
    assert load.raised == []
    assert load.admitted > 100 and load.spent > 0
    one = replicas[0]
    redis, places = one._line.client, one.limits._places
    purse = await redis.hgetall(places.of(MONEY).key)
    assert purse == {b"spent": b"%d" % load.spent, b"held": b"0"}
    assert await redis.hgetall(places.of(RUNNING).key) == {b"held": b"0"}
    for bound, admitted in ((CALLS, load.admitted), (TIGHT, load.tight[TIGHT.name])):
        at, _, amount, span = map(int, (await redis.get(places.of(bound).key)).split())
        assert (at - one._line.clock.now()) * amount / span == pytest.approx(admitted, abs=1.0), bound.name
    spent = await redis.hget(places.of(PURSE).key, "spent")
    assert int(spent) == load.tight[PURSE.name]
    for bound in (TIGHT, PURSE):
        admitted = load.tight[bound.name]
        assert admitted <= 2 * bound.amount
        for each in replicas:
            said = await each.limits.take([(bound, max(1, bound.amount + 1 - admitted))], f"after-{id(each)}")
            assert said is not None and said.used == admitted, bound.name


def asleep(server: RedisServer) -> None:
    with contextlib.suppress(TimeoutError):
        server.say("DEBUG", "SLEEP", "2.5", timeout=0.05)


def anew(server: RedisServer) -> None:
    server.kill()
    server.start()


FAULTS: dict[str, tuple[Change, Change]] = {
    "stopped": (RedisServer.hang, RedisServer.go_on),
    "killed, then back and empty": (RedisServer.kill, RedisServer.start),
    "started anew, empty": (anew, lambda server: None),
    "paused": (lambda server: server.say("CLIENT", "PAUSE", "2500"), lambda server: server.say("PING")),
    "asleep": (asleep, lambda server: server.say("PING")),
    "full": (
        lambda server: server.say("CONFIG", "SET", "maxmemory", "1mb"),
        lambda server: server.say("CONFIG", "SET", "maxmemory", "0"),
    ),
    "read-only": (
        lambda server: server.say("REPLICAOF", "127.0.0.1", "1"),
        lambda server: server.say("REPLICAOF", "NO", "ONE"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_nobody_notices_that_redis_is(server: RedisServer, fault: str) -> None:
    begin, end = FAULTS[fault]
    print(f"{fault}: {asyncio.run(through(server, begin, end, 3.0))}")


@pytest.mark.slow
def test_a_redis_that_refuses_from_the_start_is_found_when_it_comes(server: RedisServer) -> None:
    server.kill()
    print(asyncio.run(through(server, lambda server: None, RedisServer.start, 1.5)))
