"""Redis and PostgreSQL go away in every way that they can, while two replicas serve: no caller is told.

Limits hold within twice what they are during that and exactly after it, and what was answered is in the ledger once.
The whole servers are asked from outside; what each store by itself has to bear is in tests/router/stores.
"""

import asyncio
import contextlib
import threading
import time
from pathlib import Path
from typing import Final

import httpx2
import psycopg
import pytest

from tests.flows.faults import POSTGRES, REDIS, anew, both
from tests.flows.replicas import (
    ADMIN,
    KEYS,
    SOLD,
    Stores,
    checked,
    create,
    opens,
    paint,
    recovered,
    replicas,
    stores,
    through,
    written,
)
from tests.router.stores.postgres_server import postgres, postgres_url
from tests.running import Running

__all__ = ["postgres", "postgres_url", "stores"]


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
            assert opens(running, UNKNOWN)[:2] == (401, "invalid_api_key")
    finally:
        stores.postgres.start()
    assert unknown[:2] == (503, "keys_unavailable")  # it may have been made since
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


@pytest.mark.slow
def test_nobody_notices_that_both_stores_hang(stores: Stores, tmp_path: Path) -> None:
    with replicas(stores, tmp_path) as running:
        load = asyncio.run(through(stores, running, *both("stopped", "stopped"), 7.0))
        checked(load, running, stores)
    print(f"both stopped: {load.words()}")


@pytest.mark.long
@pytest.mark.parametrize("fault", REDIS)
def test_nobody_notices_that_redis_is(stores: Stores, tmp_path: Path, fault: str) -> None:
    with replicas(stores, tmp_path) as running:
        load = asyncio.run(through(stores, running, *REDIS[fault], 3.0))
        checked(load, running, stores)
    print(f"Redis {fault}: {load.words()}")


@pytest.mark.long
@pytest.mark.parametrize("fault", POSTGRES)
def test_nobody_notices_that_postgresql_is(stores: Stores, tmp_path: Path, fault: str) -> None:
    with replicas(stores, tmp_path) as running:
        load = asyncio.run(through(stores, running, *POSTGRES[fault], 7.0))
        checked(load, running, stores, kept=fault != "restarted empty")
    print(f"PostgreSQL {fault}: {load.words()}")


@pytest.mark.long
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


@pytest.mark.slow
def test_it_stops_in_its_time_while_somebody_asks_a_database_that_hangs(stores: Stores, tmp_path: Path) -> None:
    def ask(running: Running) -> None:
        with contextlib.suppress(httpx2.TransportError):
            headers = {"authorization": f"Bearer {ADMIN}"}
            httpx2.get(f"{running.base}/admin/usage", headers=headers, timeout=4)

    with replicas(stores, tmp_path, count=1, drain="1s") as (running,):
        ask(running)
        held = psycopg.connect(stores.url)
        held.execute("LOCK TABLE entries IN ACCESS EXCLUSIVE MODE")
        asking = threading.Thread(target=ask, args=(running,))
        asking.start()
        time.sleep(0.4)
        stores.postgres.stop()
        began = time.monotonic()
    took = time.monotonic() - began
    stores.postgres.resume()
    held.close()
    asking.join()
    print(f"stopped in {took:.1f} s")
    assert took < 5
