import asyncio
import collections
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from router import ledger as ledgers
from router.ledger import Full, Ledger
from router.stores.sql import Database, Sqlite, database
from tests.router.ledger_records import entry, intent
from tests.router.stores.postgres_server import PostgresServer, postgres, postgres_url

__all__ = ["postgres", "postgres_url"]

ROOT = Path(__file__).parents[2]
SEGMENT = 64 << 10


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'router.db'}"


@contextlib.contextmanager
def kept(store: str | Database, spool: Path, limit: int = 64 << 20) -> Iterator[Ledger]:
    ledger = Ledger(database(store) if isinstance(store, str) else store, spool, limit, SEGMENT)
    ledger.open()
    try:
        yield ledger
    finally:
        asyncio.run(ledger.close())


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def outcomes(url: str) -> collections.Counter[str]:
    store = database(url)
    found: collections.Counter[str] = collections.Counter(dict(store.rows(_OUTCOMES)))
    ids = next(store.rows("SELECT COUNT(DISTINCT id), COALESCE(SUM(charge), 0) FROM entries"))
    total = next(store.rows("SELECT COALESCE(SUM(charge), 0) FROM totals WHERE scope = 'tenant'"))
    store.close()
    assert ids == (sum(found.values()), *total), "as many ids as rows, and the sums are theirs"
    return found


_OUTCOMES = "SELECT outcome, COUNT(*) FROM entries GROUP BY outcome"


def book(ledger: Ledger, names: range) -> None:
    for name in names:
        ledger.intend(intent(str(name)))
        ledger.settle(entry(str(name)))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_happened_is_in_the_books_once_it_is_closed(
    kind: str, spool: Path, sqlite_url: str, request: pytest.FixtureRequest
) -> None:
    url = sqlite_url if kind == "sqlite" else request.getfixturevalue("postgres_url")
    with kept(url, spool) as ledger:
        assert ledger.lag == 0.0
        book(ledger, range(12_000))
        assert ledger.waiting > 0
        until(lambda: ledger.waiting == 0)
        assert ledger.lag == 0.0
        ledger.settle(entry("hit", cache="hit", upstream=""))  # no call, no intent
    assert ledger.written == 12_001 and not ledger.away
    assert outcomes(url) == {"ok": 12_001}
    assert list(spool.iterdir()) == []


def test_an_intent_without_an_end_is_lost_at_the_next_start_and_charged_with_nothing(
    spool: Path, sqlite_url: str
) -> None:
    with kept(sqlite_url, spool) as ledger:
        ledger.intend(intent("a", most=700, idempotency="idem"))
        ledger.intend(intent("b", most=None))
        ledger.intend(intent("c"))
        ledger.settle(entry("c"))
    assert len(list(spool.iterdir())) == 1
    with kept(sqlite_url, spool) as after:
        until(lambda: after.reconciled == 2)
    columns = "id, status, estimated, cost, charge, request, tenant, idempotency"
    store = database(sqlite_url)
    found = list(store.rows(f"SELECT {columns} FROM entries WHERE outcome = 'lost' ORDER BY id"))
    store.close()
    assert found == [("a", 0, 1, 700, 0, "req-a", "ann", "idem"), ("b", 0, 1, None, 0, "req-b", "ann", "")]
    assert list(spool.iterdir()) == []
    with kept(sqlite_url, spool) as again:
        pass
    assert again.reconciled == 0


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_twenty_processes_killed_at_random_lose_nothing_and_double_nothing(
    kind: str, spool: Path, sqlite_url: str, request: pytest.FixtureRequest
) -> None:
    url = sqlite_url if kind == "sqlite" else request.getfixturevalue("postgres_url")
    began = time.monotonic()
    intended, ended = killed(url, spool, rounds=4, together=5)
    with kept(url, spool) as ledger:
        until(lambda: not [each for each in spool.iterdir() if each != ledger._spool.directory])
        until(lambda: ledger.waiting == 0)
    found = outcomes(url)
    store = database(url)
    booked = {row[0]: row[1] for row in store.rows("SELECT id, outcome FROM entries")}
    store.close()
    missing = [each for each in intended if each not in booked] + [each for each in ended if booked[each] != "ok"]
    print(
        f"{kind}: 20 × SIGKILL in {time.monotonic() - began:.1f} s, {len(intended)} intents and {len(ended)} entries"
        f" said, {found['ok']} ok and {found['lost']} lost in the books, {len(missing)} missing, 0 doubled"
    )
    assert missing == []
    assert len(booked) - len(intended) <= 20, "at most what each did and had not said yet"
    assert found["lost"] >= 20, "one in nine was left open"


def killed(url: str, spool: Path, rounds: int, together: int) -> tuple[set[str], set[str]]:
    """What processes said that they had put there before they were killed."""
    program = [sys.executable, str(ROOT / "tests" / "router" / "keeping_books.py"), url, str(spool)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run([*program, str(rounds), str(together)], stdout=subprocess.PIPE, env=environment, check=True)
    said = ran.stdout.decode().splitlines()
    return {each[2:] for each in said if each[0] == "i"}, {each[2:] for each in said if each[0] == "e"}


@pytest.mark.plain
def test_a_database_that_another_holds_is_waited_for(
    spool: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.stores.sql.BUSY", 0.1)
    monkeypatch.setattr(ledgers, "FIRST_WAIT", 0.05)
    store = database(sqlite_url)
    store.open()
    store.close()
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with kept(sqlite_url, spool) as ledger:
        book(ledger, range(2000))
        until(lambda: ledger.away)
        book(ledger, range(2000, 4000))
        until(lambda: ledger.lag > 0.3)
        assert ledger.written == 0 and ledger.waiting == 4000 and ledger.has_room
        other.execute("COMMIT")
        until(lambda: ledger.waiting == 0)
        assert not ledger.away and ledger.written == 4000
    other.close()
    assert outcomes(sqlite_url) == {"ok": 4000}


class Small(Sqlite):
    """As large as it may get: a full disk, until it is relieved."""

    pages = 80

    def _connected(self) -> sqlite3.Connection:
        found = super()._connected()
        found.execute(f"PRAGMA max_page_count = {self.pages}")
        return found


@pytest.mark.plain
def test_a_full_database_is_waited_for(spool: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "FIRST_WAIT", 0.05)
    small = Small(Path(sqlite_url.removeprefix("sqlite:///")))
    with kept(small, spool) as ledger:
        book(ledger, range(3000))
        until(lambda: ledger.away)
        small.pages = 1 << 30
        until(lambda: ledger.waiting == 0)
    assert outcomes(sqlite_url) == {"ok": 3000}


@pytest.mark.plain
def test_a_database_that_may_only_be_read_is_waited_for(
    spool: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "FIRST_WAIT", 0.05)

    class ReadOnly(Sqlite):
        only = 1

        def _connected(self) -> sqlite3.Connection:
            found = super()._connected()
            found.execute(f"PRAGMA query_only = {self.only}")
            return found

    store = ReadOnly(Path(sqlite_url.removeprefix("sqlite:///")))
    with kept(store, spool) as ledger:
        book(ledger, range(10))
        until(lambda: ledger.away)
        store.only = 0
        until(lambda: ledger.waiting == 0)
    assert outcomes(sqlite_url) == {"ok": 10}


def test_the_store_may_be_away_at_the_start_and_at_the_end(spool: Path, tmp_path: Path) -> None:
    path = tmp_path / "place" / "router.db"
    path.parent.touch()  # a file where the directory should be
    with kept(f"sqlite:///{path}", spool) as ledger:
        book(ledger, range(10))
        until(lambda: ledger.away)
    assert ledger.written == 0
    path.parent.unlink()
    with kept(f"sqlite:///{path}", spool) as after:
        until(lambda: after.written == 10)
    assert after.reconciled == 0
    assert outcomes(f"sqlite:///{path}") == {"ok": 10}


@pytest.mark.plain
def test_a_full_spool_refuses_intents_keeps_ends_in_memory_and_counts_what_it_loses(
    spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "HELD", 100)
    monkeypatch.setattr(ledgers, "FIRST_WAIT", 0.05)
    path = tmp_path / "place" / "router.db"
    path.parent.touch()
    with kept(f"sqlite:///{path}", spool, limit=4 * SEGMENT) as ledger:
        taken = 0
        with contextlib.suppress(Full):
            for taken in range(1 << 20):
                ledger.intend(intent(str(taken)))
        assert ledger.full and not ledger.has_room and taken > 1000
        ended = 0
        while not ledger.lost:
            ledger.settle(entry(str(ended)))
            ended += 1
        assert ledger.waiting == ended - 1
        path.parent.unlink()
        until(lambda: ledger.waiting == 0)
        until(lambda: ledger.written == ended)  # the one that there was no room for, as lost
        for number in range(ended, taken):
            ledger.settle(entry(str(number)))
        until(lambda: ledger.has_room and ledger.waiting == 0)
        ledger.intend(intent("again"))
        ledger.settle(entry("again"))
    assert outcomes(f"sqlite:///{path}") == {"ok": taken + 1 - ledger.lost, "lost": ledger.lost}
    assert list(spool.iterdir()) == []


def test_entries_that_the_store_refuses_are_set_aside_and_hold_up_no_other(
    spool: Path, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with kept(sqlite_url, spool) as ledger:
        book(ledger, range(500))
        for number in range(3):
            ledger.settle(entry(f"odd{number}", input_tokens=1 << 63))
        ledger.settle(entry("lone", request="\ud800"))
        book(ledger, range(500, 1000))
        until(lambda: ledger.waiting == 0)
        assert (ledger.refused, ledger.written, ledger.lost, ledger.away) == (3, 1000, 1, False)
    lines = [json.loads(line) for line in (spool / "refused.jsonl").read_text().splitlines()]
    assert {each["entry"][0] for each in lines} == {"odd0", "odd1", "odd2"}
    assert (spool / "refused.jsonl").stat().st_mode & 0o777 == 0o600
    assert len([each for each in caplog.records if "set aside" in each.message]) == 1


def test_two_processes_share_one_database(spool: Path, sqlite_url: str) -> None:
    with kept(sqlite_url, spool) as one, kept(sqlite_url, spool) as two:
        book(one, range(3000))
        book(two, range(3000, 6000))
        until(lambda: one.waiting == two.waiting == 0)
    assert outcomes(sqlite_url) == {"ok": 6000}


def test_what_was_intended_is_on_the_disk_after_sync(spool: Path, sqlite_url: str) -> None:
    with kept(sqlite_url, spool) as ledger:
        ledger.intend(intent("a"))
        asyncio.run(ledger.sync())
        ledger.settle(entry("a"))


@pytest.mark.plain
def test_a_stopped_postgresql_is_waited_for(
    spool: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "STUCK", 0.3)
    url = postgres.fresh()
    with kept(url, spool) as ledger:
        book(ledger, range(1000))
        until(lambda: ledger.waiting == 0)
        postgres.stop()
        book(ledger, range(1000, 3000))
        until(lambda: ledger.away)
        book(ledger, range(3000, 4000))
        postgres.resume()
        until(lambda: ledger.waiting == 0)
        assert not ledger.away
    assert outcomes(url) == {"ok": 4000}


@pytest.mark.plain
@pytest.mark.slow
def test_a_killed_postgresql_is_waited_for(
    spool: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(ledgers, "LONGEST_WAIT", 0.1)
    url = postgres.fresh()
    with kept(url, spool) as ledger:
        book(ledger, range(3000))
        postgres.kill()
        book(ledger, range(3000, 6000))
        until(lambda: ledger.away)
        postgres.start()
        until(lambda: ledger.waiting == 0)
    assert outcomes(url) == {"ok": 6000}


@pytest.mark.slow
def test_at_25000_entries_a_second_the_books_are_less_than_a_second_behind(spool: Path, sqlite_url: str) -> None:
    lags: list[float] = []
    with kept(sqlite_url, spool, limit=1 << 30) as ledger:
        began, done = time.monotonic(), 0
        while (passed := time.monotonic() - began) < 6.0:
            due = int(passed * 25_000)
            book(ledger, range(done, due))
            done = due
            lags.append(ledger.lag)
            time.sleep(0.002)
    lags.sort()
    print(f"{done / 6:.0f} entries/s; lag p50 {lags[len(lags) // 2]:.2f} s, p99 {lags[len(lags) * 99 // 100]:.2f} s")
    assert lags[len(lags) * 99 // 100] <= 1.0
    assert outcomes(sqlite_url) == {"ok": done}


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_hundred_processes_killed_at_random_lose_nothing(
    kind: str, spool: Path, sqlite_url: str, request: pytest.FixtureRequest
) -> None:
    url = sqlite_url if kind == "sqlite" else request.getfixturevalue("postgres_url")
    intended, ended = killed(url, spool, rounds=25, together=4)
    with kept(url, spool) as ledger:
        until(lambda: not [each for each in spool.iterdir() if each != ledger._spool.directory], 60)
    found = outcomes(url)
    assert found["ok"] >= len(ended)
    assert 0 <= found.total() - len(intended) <= 100
