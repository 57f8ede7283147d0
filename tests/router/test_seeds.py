"""Budgets that go on where the ledger says, and requests that do not wait for one that is away."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from router.bounds import Bound
from router.entry import Entry
from router.seeds import Seeds
from router.stores.books import Books
from router.stores.memory import MemoryStore
from router.stores.sql import Away, Database, database
from tests.router.stores.postgres_server import PostgresServer, postgres, postgres_url

__all__ = ["postgres", "postgres_url"]


def budget(tenant: str) -> Bound:
    return Bound(f"tenant/{tenant}/budget", "tenant", tenant, "budget", 1000, 0.0, "month")


def spent(store: Database, tenant: str, charge: int) -> None:
    entry = Entry(
        "e-" + tenant, time.time(), "r", tenant, "k", "m", "conversational", "openai", "u", "p", "", "routed", "", 200,
        "ok", False, "", 0.1, cost=charge, charge=charge,
    )  # fmt: skip
    Books(store).add([entry])


def sown(store: MemoryStore, connect: Callable[[], Database], what: Callable[[Seeds], Awaitable[None]]) -> None:
    async def run() -> None:
        seeds = Seeds(store, connect, lambda: True, again=0.05)
        try:
            await what(seeds)
        finally:
            began = time.monotonic()
            await seeds.close()
            assert time.monotonic() - began < 0.5

    asyncio.run(run())


async def waits(seeds: Seeds, tenant: str) -> float:
    began = time.monotonic()
    await seeds.sow(seeds.missing([budget(tenant)]))
    return time.monotonic() - began


def test_a_budget_goes_on_where_the_ledger_says(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'router.db'}"
    books = database(url)
    spent(books, "acme", 600)
    books.close()
    store = MemoryStore()

    async def what(seeds: Seeds) -> None:
        await waits(seeds, "acme")
        assert store.level(budget("acme")).used == 600
        assert seeds.missing([budget("acme")]) == []

    sown(store, lambda: database(url), what)


def test_nobody_waits_for_a_ledger_that_refuses() -> None:
    async def what(seeds: Seeds) -> None:
        for tenant in ("one", "two", "three"):
            assert await waits(seeds, tenant) < 0.2

    sown(MemoryStore(), lambda: database("sqlite:////dev/null/router.db"), what)


def test_who_waits_for_a_ledger_that_hangs_is_the_last_to_do_so(postgres: PostgresServer, postgres_url: str) -> None:
    books = database(postgres_url)
    spent(books, "acme", 600)
    store = MemoryStore()

    async def what(seeds: Seeds) -> None:
        await waits(seeds, "other")
        postgres.stop()
        took = [await waits(seeds, tenant) for tenant in ("one", "acme", "three")]
        print("waited for", [f"{each:.2f} s" for each in took])
        assert took[0] < 1.5 and max(took[1:]) < 0.05
        await asyncio.to_thread(postgres.resume)
        for _ in range(100):
            if store.level(budget("acme")).used:
                break
            await asyncio.sleep(0.05)
        assert store.level(budget("acme")).used == 600
        spent(books, "four", 7)
        await waits(seeds, "four")
        assert store.level(budget("four")).used == 7

    sown(store, lambda: database(postgres_url), what)
    books.close()


def test_a_ledger_that_is_back_is_asked_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'router.db'}"
    books = database(url)
    spent(books, "acme", 600)
    books.close()
    away = [True]
    store = MemoryStore()

    def connect() -> Database:
        if away.pop():
            away.append(False)
            raise Away("not yet")
        away.append(False)
        return database(url)

    async def what(seeds: Seeds) -> None:
        await waits(seeds, "acme")
        assert store.level(budget("acme")).used == 0
        for _ in range(100):
            if store.level(budget("acme")).used:
                return
            await asyncio.sleep(0.02)
        raise AssertionError

    sown(store, connect, what)
