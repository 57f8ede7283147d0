"""A database that gives no answer: nobody waits for it for ever, and it is found again when it is back."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from router.plans import Snapshot
from router.stores.keyrows import KeyRows
from router.stores.postgres import Postgres
from router.stores.sql import Away, Database, database
from router.stores.storedkeys import StoredKeys
from tests.router.stores.postgres_server import PostgresServer, postgres, postgres_url

__all__ = ["postgres", "postgres_url"]


def refused(what: Callable[[], object]) -> float:
    """How long it took."""
    began = time.monotonic()
    with pytest.raises(Away):
        what()
    return time.monotonic() - began


def end_all(url: str) -> None:
    """Every connection but this one."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        )


def test_a_question_without_an_answer_ends(postgres: PostgresServer, postgres_url: str) -> None:
    store = Postgres(postgres_url, patience=0.4)
    store.open()
    postgres.stop()
    try:
        assert refused(lambda: list(store.rows("SELECT * FROM totals"))) < 1.5
    finally:
        postgres.resume()
    assert list(store.rows("SELECT * FROM totals")) == []
    with store.transaction():
        assert store.run("INSERT INTO changes VALUES (?, ?)", ("keys", 1)) == 1
    store.close()


def test_who_hangs_in_a_question_can_be_called_off(postgres: PostgresServer, postgres_url: str) -> None:
    store = database(postgres_url)
    store.open()
    postgres.stop()
    timer = threading.Timer(0.2, store.interrupt)
    timer.start()
    try:
        assert refused(lambda: list(store.rows("SELECT * FROM totals"))) < 1.0
    finally:
        postgres.resume()
        timer.join()
    store.close()


def test_a_connection_that_was_lost_meanwhile_is_no_reason_to_refuse(postgres_url: str) -> None:
    store = database(postgres_url)
    store.open()
    end_all(postgres_url)
    assert list(store.rows("SELECT * FROM totals")) == []
    end_all(postgres_url)
    with store.transaction():
        store.run("INSERT INTO changes VALUES (?, ?)", ("keys", 1))
    assert list(store.rows("SELECT number FROM changes")) == [(1,)]
    refused(lambda: halved(store, postgres_url))
    assert list(store.rows("SELECT number FROM changes")) == [(1,)]
    store.close()


def halved(store: Database, url: str) -> None:
    with store.transaction():
        store.run("UPDATE changes SET number = 2")
        end_all(url)
        store.run("UPDATE changes SET number = 3")  # the first half is gone: it is not begun again in the middle


def test_keys_are_read_from_a_database_that_may_not_be_written_to(postgres_url: str) -> None:
    first = database(postgres_url)
    KeyRows(first).create("laptop", {})
    first.close()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
    store = database(postgres_url)
    store.open()
    assert [each.name for each in KeyRows(store).rows()] == ["laptop"]
    with pytest.raises(Away):
        KeyRows(store).revoke("laptop")
    store.close()


def test_changes_to_keys_do_not_pile_up_before_a_database_that_hangs(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    opened: list[Database] = []

    def connect() -> Database:
        opened.append(database(postgres_url))
        return opened[-1]

    stored = StoredKeys(connect, postgres_url, tmp_path / "keys.json")
    stored.open()
    stored.change(lambda rows: rows.create("laptop", {}))
    postgres.stop()
    hanging = threading.Thread(target=lambda: refused(lambda: stored.change(lambda rows: rows.revoke("laptop"))))
    hanging.start()
    time.sleep(0.1)
    try:
        assert refused(lambda: stored.change(lambda rows: rows.rows())) < 2.0
        began = time.monotonic()
        stored.close()
        hanging.join()
        assert time.monotonic() - began < 1.5
    finally:
        postgres.resume()


def test_keys_are_looked_at_on_after_one_that_nothing_can_be_made_of(tmp_path: Path) -> None:
    """Else a revoked key would go on opening, and nobody would know."""
    url = f"sqlite:///{tmp_path / 'router.db'}"
    told: list[str] = []
    seen: list[int] = []

    class Keyring:
        def adopt(self, snapshot: Snapshot) -> int:
            seen.append(len(snapshot.rows))
            if len(seen) == 2:
                raise KeyError("a bug")
            return 0

    keyring = Keyring()
    stored = StoredKeys(lambda: database(url), url, None, told.append, every=0.02)
    stored.open()
    stored.attach(keyring)
    try:
        for number in range(2):
            stored.change(lambda rows, number=number: rows.create(f"key{number}", {}))  # type: ignore[misc]
            until = time.monotonic() + 2
            while number + 1 not in seen:
                assert time.monotonic() < until, (seen, told)
                time.sleep(0.01)
    finally:
        stored.close()
    assert told[0] == "KeyError" and told[-1] == ""
