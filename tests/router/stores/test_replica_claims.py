"""Idempotency keys of several replicas, on a real Redis: killed, stopped, and back again."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from router.cache import Kept
from router.claims import BESIDE, Memory, Noted, Unavailable
from router.stores.redis import claims as module
from router.stores.redis.claims import PIECE, ReplicaClaims
from router.stores.redis.line import Line
from tests.router.stores.redis_server import RedisServer

MIB = 2**20
RUNNING = Noted(b"asked\xff", False)
PAID = Noted(b"asked\xff", True)


def kept(size: int) -> Noted:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    return Noted(b"asked\xff", False, "kept", Kept(200, b"a: b\r\n", body, False, "t", "t/m", 0.1))


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no outage."""
    monkeypatch.setattr(module, "SECONDS", 0.5)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    made = RedisServer()
    made.start()
    yield made
    made.close()


def run(
    server: RedisServer, story: Callable[[ReplicaClaims, ReplicaClaims], Coroutine[Any, Any, None]], **more: Any
) -> None:
    async def whole() -> None:
        lines = [Line(server.url) for _ in range(2)]
        for line in lines:
            line.breaker.close()
        mine, theirs = (
            ReplicaClaims(line, Memory(MIB, 60.0), more.get("most", 64 * MIB), more.get("ttl", 60.0)) for line in lines
        )
        try:
            await story(mine, theirs)
        finally:
            for each in (mine, theirs):
                await each.close()
            for line in lines:
                await line.close()

    asyncio.run(whole())


@pytest.mark.parametrize("size", [0, 5, PIECE, 3 * PIECE + 1])
def test_one_replica_claims_and_the_other_gets_its_answer(server: RedisServer, size: int) -> None:
    async def story(mine: ReplicaClaims, theirs: ReplicaClaims) -> None:
        assert await mine.claim(b"k", RUNNING) is None
        assert await theirs.claim(b"k", RUNNING) == RUNNING
        waiting = asyncio.create_task(theirs.changed(b"k", 5.0))
        await mine.end(b"k", kept(size))
        await waiting
        assert await theirs.claim(b"k", RUNNING) == kept(size) == await mine.claim(b"k", RUNNING)
        assert await theirs.claim(b"l", RUNNING) is None
        await theirs.release(b"l")
        assert await mine.claim(b"l", RUNNING) is None

    run(server, story)


def test_a_key_is_forgotten_when_its_time_is_up(server: RedisServer) -> None:
    async def story(mine: ReplicaClaims, theirs: ReplicaClaims) -> None:
        await mine.claim(b"k", RUNNING)
        await mine.end(b"k", kept(5))
        await asyncio.sleep(0.12)
        assert await theirs.claim(b"k", RUNNING) is None
        await theirs.end(b"k", kept(5))
        assert int(await mine._line.ask("GET", module._INDEXES[2])) == kept(5).size()

    run(server, story, ttl=0.1)


def test_a_silent_replica_has_nothing_any_more(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(mine: ReplicaClaims, theirs: ReplicaClaims) -> None:
        await mine.claim(b"text", RUNNING)
        await mine.claim(b"image", PAID)
        assert mine._pulse is not None
        mine._pulse.cancel()  # as if it were gone
        waiting = asyncio.create_task(theirs.changed(b"text", 5.0))
        await waiting
        assert await theirs.claim(b"text", RUNNING) is None
        found = await theirs.claim(b"image", PAID)
        assert found is not None and found.state == "unknown"
        await mine.end(b"text", kept(5))  # it lived, and comes too late
        assert await mine.claim(b"text", RUNNING) == RUNNING
        await mine.end(b"image", kept(6))  # nobody has begun anew
        assert await theirs.claim(b"image", PAID) == kept(6)

    monkeypatch.setattr(module, "LEASE", 0.2)
    run(server, story)


def test_a_lease_lasts_as_long_as_its_replica_does(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(mine: ReplicaClaims, theirs: ReplicaClaims) -> None:
        await mine.claim(b"k", RUNNING)
        await theirs.changed(b"k", 0.8)
        assert await theirs.claim(b"k", RUNNING) == RUNNING

    monkeypatch.setattr(module, "LEASE", 0.4)
    monkeypatch.setattr(module, "RENEW", 0.1)
    run(server, story)


def test_room_is_made_of_the_oldest_answers_and_then_of_the_oldest_keys(server: RedisServer) -> None:
    async def story(mine: ReplicaClaims, theirs: ReplicaClaims) -> None:
        async def state(name: str) -> str:
            found = await mine.claim(name.encode(), RUNNING)
            if found is None:
                await mine.release(name.encode())
            return found.state if found is not None else "none"

        for number in range(4):
            await mine.claim(b"%d" % number, RUNNING)
            await mine.end(b"%d" % number, kept(3 * BESIDE))
            await asyncio.sleep(0.002)
        assert [await state(str(number)) for number in range(4)] == ["not_kept", "not_kept", "kept", "kept"]
        for number in range(4, 20):
            await mine.claim(b"%d" % number, RUNNING)
            await mine.end(b"%d" % number, Noted(b"asked\xff", False, "not_kept"))
            await asyncio.sleep(0.002)
        assert [await state(str(number)) for number in (0, 9, 10, 19)] == ["none", "none", "not_kept", "not_kept"]
        assert int(await mine._line.ask("GET", module._INDEXES[2])) == 10 * BESIDE

    run(server, story, most=10 * BESIDE + 20)


def test_without_redis_text_is_claimed_here_and_what_is_paid_for_is_refused(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(mine: ReplicaClaims, theirs: ReplicaClaims) -> None:
        await mine.claim(b"before", RUNNING)
        server.hang()
        assert await mine.claim(b"text", RUNNING) is None
        assert await mine.claim(b"text", RUNNING) == RUNNING
        await mine.end(b"text", kept(5))
        assert await mine.claim(b"text", RUNNING) == kept(5)
        with pytest.raises(Unavailable):
            await mine.claim(b"image", PAID)
        await mine.end(b"before", kept(7))
        mine._line.breaker.open = True
        with pytest.raises(Unavailable):
            await mine.claim(b"image", PAID)
        server.go_on()
        mine._line.breaker.close()
        async with asyncio.timeout(5):
            while mine._late:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.02)
        assert await theirs.claim(b"before", RUNNING) == Noted(b"asked\xff", False, "not_kept")
        assert await theirs.claim(b"image", PAID) is None  # what was sent before it hung is nobody's

    monkeypatch.setattr(module, "RENEW", 0.05)
    run(server, story)
