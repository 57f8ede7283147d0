"""Replicas of whole servers on a real Redis and a real PostgreSQL, and callers of theirs who notice everything."""

import asyncio
import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx2
import psycopg
import pytest

from tests.router.stores.postgres_server import PostgresServer, postgres, postgres_url
from tests.router.stores.redis_server import RedisServer
from tests.running import Running, serving

__all__ = ["postgres", "postgres_url"]

ADMIN: Final = "admin-canary-of-outages-0123456789"
KEYS: Final = {name: f"hf_Canary{name.title()}0000000000000000000000" for name in ("wide", "tight", "purse")}
SOLD: Final = 40  # of the tight limit, and of the purse
CALLERS: Final = 6  # of each replica
CHAT: Final = {"model": "chat", "max_tokens": 16, "messages": [{"role": "user", "content": "hello there"}]}
_CONFIG: Final = """
server: {{workers: {workers}, drain: {drain}, drain_delay: 0s}}
auth: {{admin_key: {admin}}}
stores: {{shared: "{shared}", ledger: "{ledger}", directory: "{state}"}}
plans:
  wide: {{requests: 10000000/hour, tokens: 10000000000/hour, concurrency: 1000, budget: 100000 USD/month}}
  tight: {{requests: 40/week}}
  purse: {{budget: 4 USD/month}}
virtual_keys:
  - {{name: wide, plan: wide, key: {wide}}}
  - {{name: tight, plan: tight, key: {tight}}}
  - {{name: purse, plan: purse, key: {purse}}}
upstreams: {{sandbox: {{provider: sandbox}}}}
tables: []
models:
  chat: {{deployments: [{{upstream: sandbox, provider_id: sandbox/echo, price: {{input: 1, output: 2}}}}]}}
  picture:
    task: text-to-image
    deployments: [{{upstream: sandbox, provider_id: sandbox/echo, price: {{image: 0.1}}}}]
"""
PICTURE: Final = {"model": "picture", "prompt": "a cat", "n": 1, "size": "64x64"}


@dataclass
class Stores:
    redis: RedisServer
    postgres: PostgresServer
    url: str  # of the database
    held: psycopg.Connection[tuple[object, ...]] | None = None  # by whom all tables are locked

    @property
    def name(self) -> str:
        return re.search(r"/(books\d+)", self.url)[1]  # type: ignore[index]

    def say(self, *statements: str, database: str = "") -> None:
        """To PostgreSQL, not as one of the routers."""
        url = self.url if not database else self.url.replace(f"/{self.name}", f"/{database}")
        with psycopg.connect(url, autocommit=True) as connection:
            for each in statements:
                connection.execute(each.encode())

    def requests(self) -> list[str]:
        with psycopg.connect(self.url) as connection:
            return [row[0] for row in connection.execute("SELECT request FROM entries")]


@pytest.fixture
def stores(postgres: PostgresServer, postgres_url: str) -> Iterator[Stores]:
    redis = RedisServer()
    redis.start()
    yield Stores(redis, postgres, postgres_url)
    redis.close()


def config(stores: Stores, state: Path, workers: int = 1, shared: str = "", drain: str = "60s") -> str:
    return _CONFIG.format(
        workers=workers, drain=drain, admin=ADMIN, shared=shared or stores.redis.url, ledger=stores.url,
        state=state, **KEYS,
    )  # fmt: skip


@contextlib.contextmanager
def replicas(
    stores: Stores, place: Path, count: int = 2, workers: int = 1, shared: str = "", drain: str = "60s"
) -> Iterator[list[Running]]:
    """`shared`: what they count in, where that is not Redis."""
    with contextlib.ExitStack() as stack:
        found = []
        for number in range(count):
            here = place / f"replica{number}"
            here.mkdir(exist_ok=True)
            found.append(stack.enter_context(serving(config(stores, here / "state", workers, shared, drain), here)))
        yield found


def create(running: Running, name: str) -> str:
    """A key of the store."""
    headers = {"authorization": f"Bearer {ADMIN}"}
    answer = httpx2.post(f"{running.base}/admin/keys", json={"name": name, "plan": "wide"}, headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["key"])


def opens(running: Running, key: str, patience: float = 0.0) -> tuple[int, str, float]:
    """How a request with it ends, and how long that takes. `patience`: until it is a 200."""
    until = time.monotonic() + patience
    while True:
        began = time.monotonic()
        headers = {"authorization": f"Bearer {key}"}
        answer = httpx2.post(f"{running.base}/v1/chat/completions", json=CHAT, headers=headers, timeout=30)
        took = time.monotonic() - began
        if answer.status_code == 200 or began >= until:
            return answer.status_code, answer.json().get("error", {}).get("code", ""), took
        time.sleep(0.05)


def paint(running: Running, whose: str = "wide") -> tuple[int, float]:
    began = time.monotonic()
    headers = {"authorization": f"Bearer {KEYS[whose]}"}
    answer = httpx2.post(f"{running.base}/v1/images/generations", json=PICTURE, headers=headers, timeout=30)
    return answer.status_code, time.monotonic() - began


@dataclass
class Load:
    """What the callers saw. `answered`: ids of requests that had an answer, by whose they were."""

    phase: str = "before"
    ends: bool = False
    took: dict[str, list[float]] = field(default_factory=lambda: {"before": [], "during": [], "after": []})
    failed: list[str] = field(default_factory=list)
    answered: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in KEYS})

    async def ask(self, client: httpx2.AsyncClient, base: str, whose: str, number: str) -> int:
        path, body = ("images/generations", PICTURE) if whose == "purse" else ("chat/completions", CHAT)
        headers = {"authorization": f"Bearer {KEYS[whose]}", "x-request-id": number}
        phase, began = self.phase, time.perf_counter()
        try:
            answer = await client.post(f"{base}/v1/{path}", json=body, headers=headers)
        except httpx2.TransportError as error:
            self.failed.append(repr(error))
            return 0
        self.took[phase].append(time.perf_counter() - began)
        if answer.status_code == 200:
            self.answered[whose].append(number)
        elif whose == "wide" or answer.status_code not in (402, 429):
            self.failed.append(f"{phase}: {answer.status_code} {answer.text[:200]}")
        return answer.status_code

    async def call(self, client: httpx2.AsyncClient, base: str, name: str) -> None:
        number = 0
        while not self.ends:
            number += 1
            await self.ask(client, base, "wide", f"{name}-{number}")
            for whose in ("tight", "purse"):
                if number % 12 == 0:
                    await self.ask(client, base, whose, f"{name}-{number}-{whose}")
            await asyncio.sleep(0.04)

    def late(self, phase: str) -> float:
        took = sorted(self.took[phase])
        return took[min(len(took) - 1, math.ceil(len(took) * 0.99))]

    def words(self) -> str:
        said = [f"{phase} {len(took)} at p99 {self.late(phase) * 1e3:.0f} ms" for phase, took in self.took.items()]
        return f"{', '.join(said)}; of {SOLD}: " + ", ".join(f"{n} {len(self.answered[n])}" for n in ("tight", "purse"))


Change = Callable[[Stores], object]


async def through(
    stores: Stores, running: list[Running], begin: Change, end: Change, seconds: float, before: float = 1.0
) -> Load:
    load = Load()
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(limits=limits, timeout=30) as client, asyncio.TaskGroup() as group:
        for number, each in enumerate(running):
            for whose in KEYS:  # the ledger is asked what each had spent, once
                assert await load.ask(client, each.base, whose, f"first-{number}-{whose}") == 200
        load.took["before"].clear()
        for number, each in enumerate(running):
            for caller in range(CALLERS):
                group.create_task(load.call(client, each.base, f"r{number}c{caller}"))
        await asyncio.sleep(before)
        load.phase = "during"
        await asyncio.to_thread(begin, stores)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(end, stores)
        load.phase = "after"
        await asyncio.to_thread(recovered, running)
        await asyncio.sleep(0.3)
        load.ends = True
    return load


def figure(running: Running, name: str) -> float:
    """Summed over what labels there are."""
    text = httpx2.get(f"{running.base}/metrics").text
    return sum(float(each) for each in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def recovered(running: list[Running], patience: float = 20.0) -> None:
    """Nothing is away any more, and all that happened is written."""
    names = ("router_store_degraded", "router_ledger_away")
    until = time.monotonic() + patience
    while any(figure(each, name) for each in running for name in names):
        assert time.monotonic() < until, [(name, figure(each, name)) for each in running for name in names]
        time.sleep(0.1)


def written(running: list[Running]) -> None:
    until = time.monotonic() + 20
    while any(
        figure(each, name) for each in running for name in ("router_ledger_waiting_entries", "router_inflight_requests")
    ):
        assert time.monotonic() < until
        time.sleep(0.05)


async def exact_after(load: Load, running: list[Running]) -> None:
    """What was let through during the outage counts: each limit lets through what it has left, and no more."""
    async with httpx2.AsyncClient(timeout=30) as client:
        for whose in ("tight", "purse"):
            during = len(load.answered[whose])
            assert during <= 2 * SOLD, f"{whose}: {during}"
            number = refused = 0
            while refused < 2 * len(running):  # each says no, and goes on saying it
                number += 1
                status = await load.ask(client, running[number % len(running)].base, whose, f"after-{number}-{whose}")
                refused += status != 200
            assert len(load.answered[whose]) == max(during, SOLD), f"{whose}: {during} during"


def checked(load: Load, running: list[Running], stores: Stores, kept: bool = True) -> None:
    assert load.failed == []
    usual = max(load.late("before"), load.late("after"))  # as busy as the machine is otherwise
    assert load.late("during") - usual <= 0.1, load.words()
    asyncio.run(exact_after(load, running))
    written(running)
    found = stores.requests()
    assert len(found) == len(set(found))
    answered = {each for ids in load.answered.values() for each in ids}
    if kept:
        assert set(found) == answered, (len(found), len(answered))
