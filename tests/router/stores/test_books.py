import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router.entry import Attempt, Entry
from router.stores.books import DAY, Books
from router.stores.sql import Away, Database, Unfit, database
from tests.router.stores.postgres_server import postgres, postgres_url

__all__ = ["postgres", "postgres_url"]


def entry(name: str, **other: Any) -> Entry:
    made: dict[str, Any] = {
        "id": name, "time": 10.0 * DAY, "request": f"req-{name}", "tenant": "ann", "key": "ann-1", "model": "org/m",
        "task": "conversational", "dialect": "openai", "upstream": "here", "provider_id": "m", "provider_key": "pool-1",
        "billing": "routed", "billed_to": "", "status": 200, "outcome": "ok", "stream": True, "cache": "",
        "seconds": 0.5, "cost": 100, "charge": 120,
    }  # fmt: skip
    return Entry(**(made | other))


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    sqlite = request.param == "sqlite"
    found = database(f"sqlite:///{tmp_path / 'router.db'}" if sqlite else request.getfixturevalue("postgres_url"))
    found.open()
    yield found
    found.close()


def test_the_same_entry_twice_is_once_in_the_books_and_in_the_sums(store: Database) -> None:
    books = Books(store)
    first = [entry(str(number)) for number in range(300)]
    assert books.add(first) == 300
    assert books.add([*first, entry("new"), entry("new")]) == 1
    assert books.add(first) == 0
    assert next(store.rows("SELECT COUNT(*), SUM(charge) FROM entries")) == (301, 301 * 120)
    assert books.spent("tenant", "ann", 0.0) == 301 * 120


def test_what_is_spent_is_charged_to_tenants_and_costs_at_providers(store: Database) -> None:
    books = Books(store)
    books.add([
        entry("1"), entry("2", time=10.5 * DAY, tenant="bob"), entry("3", time=11.2 * DAY, key="ann-2"),
        entry("4", cost=None, charge=None), entry("5", time=12.0 * DAY, provider_key="", upstream="there", cost=7),
    ])  # fmt: skip
    assert books.spent("tenant", "ann", 0.0) == 360
    assert books.spent("tenant", "ann", 11.0 * DAY) == 240
    assert books.spent("tenant", "nobody", 0.0) == 0
    assert books.spent("key", "ann-1", 0.0) == 360
    assert books.spent("model", "org/m", 10.4 * DAY) == 360, "a day that has begun is counted by its entries"
    assert books.spent("upstream", "here", 0.0) == 300
    assert books.spent("provider_key", "pool-1", 10.6 * DAY) == 100
    assert books.spent("upstream", "there", 12.5 * DAY) == 0


def test_failed_tries_stand_beside_their_entry(store: Database) -> None:
    failed = (Attempt("here", "here/m", 0, "timeout", 0.1, True, 5), Attempt("there", "there/m", 503, "", 0.2, False))
    books = Books(store)
    books.add([entry("1", failed=failed, estimated=True), entry("2")])
    books.add([entry("1", failed=failed)])
    found = list(store.rows("SELECT entry, number, upstream, status, sent, cost FROM attempts ORDER BY number"))
    assert found == [("1", 0, "here", 0, 1, 5), ("1", 1, "there", 503, 0, None)]
    assert list(store.rows("SELECT stream, estimated FROM entries ORDER BY id")) == [(1, 1), (1, 0)]


def test_text_of_any_kind_comes_back_as_it_was(store: Database) -> None:
    odd = "tab\t new\n back\\ quote' \N{SNOWMAN} \\N"
    Books(store).add([entry("1", request=odd)])
    assert next(store.rows("SELECT request FROM entries")) == (odd,)


def test_entries_that_the_store_will_not_have_are_unfit_and_take_nothing_with_them(store: Database) -> None:
    books = Books(store)
    for unfit in (entry("3", input_tokens=1 << 63), entry("3", request=None)):
        with pytest.raises(Unfit):
            books.add([entry("1"), unfit])
    assert list(store.rows("SELECT id FROM entries")) == []
    assert books.spent("tenant", "ann", 0.0) == 0


def test_pruning_forgets_entries_with_their_tries_and_keeps_what_they_add_up_to(store: Database) -> None:
    books = Books(store)
    failed = (Attempt("here", "here/m", 0, "timeout", 0.1, True),)
    books.add([entry(f"old{number}", time=1.0, failed=failed) for number in range(2100)])
    books.add([entry("new", failed=failed)])
    pauses: list[float] = []
    assert books.prune(10.0 * DAY, pauses.append) == 2100
    assert len(pauses) == 2
    assert next(store.rows("SELECT COUNT(*) FROM entries")) == (1,)
    assert next(store.rows("SELECT COUNT(*) FROM attempts")) == (1,)
    assert books.spent("tenant", "ann", 0.0) == 2101 * 120
    assert books.prune(10.0 * DAY) == 0


def test_others_write_while_it_is_pruned(store: Database, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    sqlite = "sqlite" in request.node.name
    url = f"sqlite:///{tmp_path / 'router.db'}" if sqlite else request.getfixturevalue("postgres_url")
    books = Books(store)
    books.add([entry(f"old{number}", time=1.0) for number in range(5000)])
    other = Books(database(url))
    pruned: list[int] = []
    thread = threading.Thread(target=lambda: pruned.append(books.prune(10.0)))
    thread.start()
    slowest, written = 0.0, 0
    while thread.is_alive():
        began = time.monotonic()
        written += other.add([entry(f"new{written}-{number}") for number in range(20)])
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.005)
    thread.join()
    print(f"{written} written while 5000 were pruned, the slowest batch in {slowest * 1000:.0f} ms")
    assert pruned == [5000]
    assert next(store.rows("SELECT COUNT(*) FROM entries")) == (written,)
    assert slowest < 1.0
    other._database.close()


def test_a_database_that_may_only_be_read_is_away_and_still_answers(tmp_path: Path) -> None:
    path = tmp_path / "router.db"
    store = database(f"sqlite:///{path}")
    books = Books(store)
    books.add([entry("1", request="a")])
    store.run("PRAGMA query_only = 1")
    with pytest.raises(Away) as away:
        books.add([entry("2")])
    assert not isinstance(away.value, Unfit)
    assert books.spent("tenant", "ann", 0.0) == 120
    store.run("PRAGMA query_only = 0")
    assert books.add([entry("2")]) == 1
    store.close()


@pytest.mark.slow
def test_a_million_entries_are_summed_in_milliseconds(tmp_path: Path) -> None:
    path = tmp_path / "router.db"
    store = database(f"sqlite:///{path}")
    books = Books(store)
    count, began = 1_000_000, time.perf_counter()
    for start in range(0, count, 5000):
        books.add(
            [
                entry(f"{number:010x}", time=DAY * 10 + number / 10, tenant=f"t{number % 97}", request=f"r{number}")
                for number in range(start, start + 5000)
            ]
        )
    writing = time.perf_counter() - began

    def took(ask: Any) -> float:
        started = time.perf_counter()
        ask()
        return (time.perf_counter() - started) * 1000

    whole = took(lambda: books.spent("tenant", "t1", 10.0 * DAY))
    part = took(lambda: books.spent("tenant", "t1", 10.5 * DAY))
    print(
        f"10⁶ entries: {count / writing:.0f}/s written; spent {whole:.1f} ms, from the middle of a day {part:.1f} ms;"
        f" {path.stat().st_size / 1e6:.0f} MB"
    )
    assert whole < 50
    with contextlib.closing(sqlite3.connect(path)) as opened:
        assert opened.execute("SELECT COUNT(*) FROM entries").fetchone() == (count,)
    store.close()
