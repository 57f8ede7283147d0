"""Redis and PostgreSQL go away in every way that they can, while two replicas serve: no caller is told.

Limits hold within twice what they are during that and exactly after it, and what was answered is in the ledger once.
The whole servers are asked from outside; what each store by itself has to bear is in tests/router/stores.
"""

import asyncio
import contextlib
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx2
import psycopg
import pytest

from tests.router.stores.postgres_server import PostgresServer, postgres, postgres_url  # noqa: F401 - fixtures
from tests.router.stores.redis_server import RedisServer
from tests.running import Running, serving

ADMIN: Final = "admin-canary-of-outages-0123456789"
KEYS: Final = {name: f"hf_Canary{name.title()}0000000000000000000000" for name in ("wide", "tight", "purse")}
SOLD: Final = 40  # of the tight limit, and of the purse
CALLERS: Final = 6  # of each replica
CHAT: Final = {"model": "chat", "max_tokens": 16, "messages": [{"role": "user", "content": "hello there"}]}
_CONFIG: Final = """
server: {{workers: {workers}, drain_delay: 0s}}
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
def stores(postgres: PostgresServer, postgres_url: str) -> Iterator[Stores]:  # noqa: F811 - the fixtures
    redis = RedisServer()
    redis.start()
    yield Stores(redis, postgres, postgres_url)
    redis.close()


def config(stores: Stores, state: Path, workers: int = 1, shared: str = "") -> str:
    return _CONFIG.format(
        workers=workers, admin=ADMIN, shared=shared or stores.redis.url, ledger=stores.url, state=state, **KEYS
    )  # fmt: skip


@contextlib.contextmanager
def replicas(
    stores: Stores, place: Path, count: int = 2, workers: int = 1, shared: str = ""
) -> Iterator[list[Running]]:
    """`shared`: what they count in, where that is not Redis."""
    with contextlib.ExitStack() as stack:
        found = []
        for number in range(count):
            here = place / f"replica{number}"
            here.mkdir(exist_ok=True)
            found.append(stack.enter_context(serving(config(stores, here / "state", workers, shared), here)))
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
    assert load.late("during") - load.late("before") <= 0.1, load.words()
    asyncio.run(exact_after(load, running))
    written(running)
    found = stores.requests()
    assert len(found) == len(set(found))
    answered = {each for ids in load.answered.values() for each in ids}
    if kept:
        assert set(found) == answered, (len(found), len(answered))


# What can go wrong


def nothing(_: Stores) -> None:
    pass


def asleep(stores: Stores) -> None:
    with contextlib.suppress(TimeoutError):
        stores.redis.say("DEBUG", "SLEEP", "2.5", timeout=0.05)


def anew(stores: Stores) -> None:
    stores.redis.kill()
    stores.redis.start()


REDIS: Final[dict[str, tuple[Change, Change]]] = {
    "stopped": (lambda s: s.redis.hang(), lambda s: s.redis.go_on()),
    "killed": (lambda s: s.redis.kill(), lambda s: s.redis.start()),
    "restarted empty": (anew, nothing),
    "paused": (lambda s: s.redis.say("CLIENT", "PAUSE", "2500"), lambda s: s.redis.say("PING")),
    "slow": (asleep, lambda s: s.redis.say("PING")),
    "full": (
        lambda s: s.redis.say("CONFIG", "SET", "maxmemory", "1mb"),
        lambda s: s.redis.say("CONFIG", "SET", "maxmemory", "0"),
    ),
    "read-only": (
        lambda s: s.redis.say("REPLICAOF", "127.0.0.1", "1"),
        lambda s: s.redis.say("REPLICAOF", "NO", "ONE"),
    ),
}

_OTHERS: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
)


def slow(stores: Stores) -> None:
    """Somebody else has all tables to himself, for longer than anybody waits for a lock."""
    held = psycopg.connect(stores.url)
    held.execute("LOCK TABLE entries, attempts, totals, virtual_keys, changes IN ACCESS EXCLUSIVE MODE")
    stores.held = held  # type: ignore[attr-defined]


def quick(stores: Stores) -> None:
    stores.held.rollback()  # type: ignore[attr-defined]
    stores.held.close()  # type: ignore[attr-defined]


def full(stores: Stores) -> None:
    """As PostgreSQL says that the disk is."""
    stores.say(
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$",
        "CREATE TRIGGER no_room BEFORE INSERT ON entries FOR EACH ROW EXECUTE FUNCTION no_room()",
    )


def read_only(stores: Stores) -> None:
    stores.say(f"ALTER DATABASE {stores.name} SET default_transaction_read_only = on", _OTHERS.format(name=stores.name))


def writable(stores: Stores) -> None:
    stores.say(
        f"ALTER DATABASE {stores.name} RESET default_transaction_read_only",
        _OTHERS.format(name=stores.name),
        database="postgres",
    )


def emptied(stores: Stores) -> None:
    stores.say(f"DROP DATABASE {stores.name} WITH (FORCE)", f"CREATE DATABASE {stores.name}", database="postgres")


POSTGRES: Final[dict[str, tuple[Change, Change]]] = {
    "stopped": (lambda s: s.postgres.stop(), lambda s: s.postgres.resume()),
    "killed": (lambda s: s.postgres.kill(), lambda s: s.postgres.start()),
    "slow": (slow, quick),
    "full": (full, lambda s: s.say("DROP FUNCTION no_room CASCADE")),
    "read-only": (read_only, writable),
    "restarted empty": (emptied, nothing),
}


def both(one: str, other: str) -> tuple[Change, Change]:
    def begin(stores: Stores) -> None:
        POSTGRES[other][0](stores)
        REDIS[one][0](stores)

    def end(stores: Stores) -> None:
        REDIS[one][1](stores)
        POSTGRES[other][1](stores)

    return begin, end


def test_nobody_notices_that_both_stores_are_killed(stores: Stores, tmp_path: Path) -> None:
    with replicas(stores, tmp_path) as running:
        load = asyncio.run(through(stores, running, *both("killed", "killed"), 2.2, before=0.7))
        checked(load, running, stores)
    print(f"both killed: {load.words()}")


UNKNOWN: Final = "hf_CanaryOfNobody0000000000000000000"


@pytest.mark.slow
def test_it_starts_and_serves_while_both_stores_are_away(stores: Stores, tmp_path: Path) -> None:
    with replicas(stores, tmp_path, count=1) as (running,):
        key = create(running, "laptop")
        assert opens(running, key, patience=2.0)[0] == 200
        written([running])
    stores.postgres.kill()
    stores.redis.kill()
    try:
        began = time.monotonic()
        with replicas(stores, tmp_path, count=1) as (running,):
            ready = time.monotonic() - began
            known = [opens(running, each) for each in (KEYS["wide"], key, KEYS["wide"], key)]
            assert [each[:2] for each in known] == [(200, "")] * 4
            unknown = opens(running, UNKNOWN)
        fresh = tmp_path / "fresh"
        fresh.mkdir()
        with replicas(stores, fresh, count=1) as (running,):  # which never saw the store
            first = opens(running, KEYS["wide"])
            assert first[0] == 200
            assert opens(running, UNKNOWN)[:2] == opens(running, key)[:2] == (503, "keys_unavailable")
            stores.redis.start()
            stores.postgres.start()
            assert opens(running, key, patience=5.0)[0] == 200
            recovered([running])
            written([running])
            assert len(stores.requests()) == 3
    finally:
        stores.postgres.start()
    assert unknown[:2] == (401, "invalid_api_key")  # all keys are known
    longest = max(each[2] for each in (*known, first))
    print(f"ready after {ready:.1f} s without stores; the longest request took {longest * 1e3:.0f} ms")
    assert longest < 0.5


@pytest.mark.slow
def test_it_starts_serves_and_stops_while_both_stores_hang(stores: Stores, tmp_path: Path) -> None:
    stores.postgres.stop()
    stores.redis.hang()
    try:
        began = time.monotonic()
        with replicas(stores, tmp_path, count=1) as (running,):
            ready = time.monotonic() - began
            took = [opens(running, KEYS["wide"]) for _ in range(20)]
            assert {each[0] for each in took} == {200}
            assert opens(running, UNKNOWN)[:2] == (503, "keys_unavailable")
            began = time.monotonic()
        stopped = time.monotonic() - began
    finally:
        stores.redis.go_on()
        stores.postgres.resume()
    late = sorted(each[2] for each in took)
    span = f"{late[0] * 1e3:.0f} to {late[-1] * 1e3:.0f} ms"
    print(f"ready after {ready:.1f} s, stopped in {stopped:.1f} s; requests took {span}")
    assert late[-2] < 0.1 and late[-1] < 1.3  # the first one waits for what its tenant had spent


@pytest.mark.slow
def test_operators_who_ask_a_database_that_hangs_are_in_nobodys_way(stores: Stores, tmp_path: Path) -> None:
    """Pictures are written down on a disk before they are paid for: that needs a thread, as those questions do."""
    headers = {"authorization": f"Bearer {ADMIN}"}

    def operate(path: str) -> int:
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(running.base + path, headers=headers, timeout=4).status_code
        return 0

    with replicas(stores, tmp_path, count=1) as (running,):
        assert operate("/admin/keys") == operate("/admin/usage") == 200
        assert paint(running)[0] == 200
        stores.postgres.stop()
        try:
            asking = [threading.Thread(target=operate, args=(path,)) for path in ("/admin/keys", "/admin/usage") * 12]
            for each in asking:
                each.start()
            time.sleep(0.5)
            took = [paint(running) for _ in range(20)]
            for each in asking:
                each.join()
        finally:
            stores.postgres.resume()
    assert {each[0] for each in took} == {200}
    longest = max(each[1] for each in took)
    print(f"with 24 operators waiting pictures took {longest * 1e3:.0f} ms at most")
    assert longest < 0.5


def paint(running: Running, whose: str = "wide") -> tuple[int, float]:
    began = time.monotonic()
    headers = {"authorization": f"Bearer {KEYS[whose]}"}
    answer = httpx2.post(f"{running.base}/v1/images/generations", json=PICTURE, headers=headers, timeout=30)
    return answer.status_code, time.monotonic() - began


@pytest.mark.slow
def test_nobody_notices_that_both_stores_hang(stores: Stores, tmp_path: Path) -> None:
    with replicas(stores, tmp_path) as running:
        load = asyncio.run(through(stores, running, *both("stopped", "stopped"), 7.0))
        checked(load, running, stores)
    print(f"both stopped: {load.words()}")


@pytest.mark.slow
@pytest.mark.parametrize("fault", REDIS)
def test_nobody_notices_that_redis_is(stores: Stores, tmp_path: Path, fault: str) -> None:
    with replicas(stores, tmp_path) as running:
        load = asyncio.run(through(stores, running, *REDIS[fault], 3.0))
        checked(load, running, stores)
    print(f"Redis {fault}: {load.words()}")


@pytest.mark.slow
@pytest.mark.parametrize("fault", POSTGRES)
def test_nobody_notices_that_postgresql_is(stores: Stores, tmp_path: Path, fault: str) -> None:
    with replicas(stores, tmp_path) as running:
        load = asyncio.run(through(stores, running, *POSTGRES[fault], 7.0))
        checked(load, running, stores, kept=fault != "restarted empty")
    print(f"PostgreSQL {fault}: {load.words()}")


@pytest.mark.slow
def test_a_postgresql_that_is_away_for_a_minute_loses_nothing(stores: Stores, tmp_path: Path) -> None:
    with replicas(stores, tmp_path) as running:
        load = asyncio.run(through(stores, running, *POSTGRES["killed"], 60.0))
        checked(load, running, stores)
    print(f"PostgreSQL killed for a minute: {load.words()}")


@pytest.mark.slow
def test_money_that_was_spent_stays_spent_when_everything_was_stopped_and_redis_is_empty(
    stores: Stores, tmp_path: Path
) -> None:
    def bought(running: list[Running], number: int) -> int:
        statuses = [paint(running[each % 2], "purse")[0] for each in range(number)]
        assert set(statuses) <= {200, 402}
        return statuses.count(200)

    with replicas(stores, tmp_path) as running:
        assert bought(running, 30) == 30
    anew(stores)
    with replicas(stores, tmp_path) as running:
        again = bought(running, 30)
    print(f"of {SOLD} pictures 30 were had before everything was stopped, {again} after it")
    assert again == SOLD - 30
