"""A key that is made opens every worker of every replica within two seconds, and one that is revoked opens none.

Two replicas of two workers on one PostgreSQL, with Redis and without. Callers keep their connections: a worker must not
go on with what it once found on one.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from tests.flows.replicas import ADMIN, CHAT, KEYS, Stores, replicas
from tests.router.stores.postgres_server import PostgresServer, postgres, postgres_url
from tests.router.stores.redis_server import RedisServer
from tests.running import Running

__all__ = ["postgres", "postgres_url"]

MOST: Final = 2.0  # seconds
ROOT: Final = Path(__file__).parents[2]


@dataclass
class Fleet:
    """Two callers of each of the four workers."""

    running: list[Running]
    place: Path
    callers: list[httpx2.AsyncClient] = field(default_factory=list)
    longest: dict[str, float] = field(default_factory=dict)

    async def meet(self) -> None:
        for each in self.running:
            met: dict[str, int] = {}
            for _ in range(200):
                caller = httpx2.AsyncClient(base_url=each.base, limits=httpx2.Limits(max_connections=1), timeout=10)
                status, worker = await ask(caller, KEYS["wide"])
                assert status == 200
                met[worker] = met.get(worker, 0) + 1
                if met[worker] <= 2:
                    self.callers.append(caller)
                else:
                    await caller.aclose()
                if sorted(met.values())[:-1] and min(met.values()) >= 2:
                    break
            assert len(met) == 2, met
        assert len(self.callers) == 8

    async def all_say(self, what: str, key: str, status: int, since: float | None = None) -> float:
        """Seconds until every worker does. And from then on."""
        began = since or time.monotonic()
        took = max(await asyncio.gather(*(self._says(each, key, status, began) for each in self.callers)))
        self.longest[what] = max(took, self.longest.get(what, 0.0))
        assert took <= MOST, f"{what}: {took:.2f} s"
        assert {(await ask(each, key))[0] for each in self.callers} == {status}
        return took

    async def _says(self, caller: httpx2.AsyncClient, key: str, status: int, began: float) -> float:
        while (await ask(caller, key))[0] != status:
            assert time.monotonic() - began < 3 * MOST
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def command(self, *words: str) -> str:
        file = str(self.running[0].log.parent / "config.yaml")
        command = [sys.executable, "-m", "router", "keys", *words, "--config", file]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        run = asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True, env=env)
        return str((await run).stdout.strip())

    async def operate(self, replica: int, method: str, path: str, body: Any = None) -> dict[str, Any]:
        async with httpx2.AsyncClient(base_url=self.running[replica].base) as client:
            headers = {"authorization": f"Bearer {ADMIN}"}
            answer = await client.request(method, f"/admin/keys{path}", json=body, headers=headers)
            assert answer.status_code in (200, 201), answer.text
            told: dict[str, Any] = answer.json()
            return told

    def words(self) -> str:
        return ", ".join(f"{what} {took:.2f} s" for what, took in self.longest.items())


async def ask(caller: httpx2.AsyncClient, key: str) -> tuple[int, str]:
    """The status, and which worker said it: what its ids begin with."""
    headers = {"authorization": f"Bearer {key}"}
    answer = await caller.post("/v1/chat/completions", json=CHAT, headers=headers)
    return answer.status_code, answer.headers["x-request-id"][:12]


@contextlib.contextmanager
def fleet(place: Path, postgres: PostgresServer, with_redis: bool) -> Iterator[Fleet]:
    redis = RedisServer()
    redis.start()
    try:
        stores = Stores(redis, postgres, postgres.fresh())
        with replicas(stores, place, workers=2, shared=redis.url if with_redis else "memory") as running:
            yield Fleet(running, place)
    finally:
        redis.close()


async def by_command(fleet: Fleet, number: int) -> None:
    name = f"ci{number}"
    key = await fleet.command("create", "--name", name, "--save", "--plan", "wide")
    await fleet.all_say("made by command: known after", key, 200)
    fresh = await fleet.command("rotate", name, "--grace", "1s")
    rotated = time.monotonic()
    assert (await ask(fleet.callers[0], key))[0] == 200
    await fleet.all_say("rotated: the new one after", fresh, 200)
    await fleet.all_say("the old one refused, after its grace of 1 s:", key, 401, since=rotated + 1.0)
    await fleet.command("revoke", name)
    await fleet.all_say("revoked by command: refused after", fresh, 401)


async def by_operators(fleet: Fleet, number: int) -> None:
    name = f"laptop{number}"
    one, other = number % 2, (number + 1) % 2
    key = (await fleet.operate(one, "POST", "", {"name": name, "plan": "wide"}))["key"]
    await fleet.all_say("made by /admin: known after", key, 200)
    fresh = (await fleet.operate(other, "POST", f"/{name}/rotate", {"grace": "1h"}))["key"]
    await fleet.all_say("rotated by /admin: the new one after", fresh, 200)
    assert {(await ask(each, key))[0] for each in fleet.callers} == {200}
    await fleet.operate(one, "DELETE", f"/{name}")
    await asyncio.gather(
        fleet.all_say("revoked by /admin: refused after", fresh, 401),
        fleet.all_say("revoked by /admin: the one in its grace after", key, 401),
    )
    last = (await fleet.operate(one, "POST", "", {"name": f"{name}-now"}))["key"]
    await fleet.all_say("made by /admin: known after", last, 200)
    await fleet.operate(other, "POST", f"/{name}-now/rotate", {"grace": "0s"})
    await fleet.all_say("rotated without grace: the old one refused after", last, 401)


async def rounds(fleet: Fleet, commands: int, operators: int) -> None:
    await fleet.meet()
    try:
        for number in range(commands):
            await by_command(fleet, number)
        for number in range(operators):
            await by_operators(fleet, number)
    finally:
        for each in fleet.callers:
            await each.aclose()


@pytest.mark.slow
@pytest.mark.parametrize("with_redis", [False, True], ids=["without Redis", "with Redis"])
def test_no_worker_of_any_replica_lets_a_revoked_key_in_after_two_seconds(
    postgres: PostgresServer,
    tmp_path: Path,
    with_redis: bool,
) -> None:
    with fleet(tmp_path, postgres, with_redis) as found:
        asyncio.run(rounds(found, commands=3, operators=6))
        print(("with Redis: " if with_redis else "without: ") + found.words())
