import contextlib
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from router.stores.sql import MIGRATIONS, Away, Database, Unfit, database
from tests.router.stores.postgres_server import PostgresServer, postgres, postgres_url

__all__ = ["postgres", "postgres_url"]

KEYS = ("digest", "name", "tenant", "hint", "settings", "created", "expires", "revoked")


def key(digest: str, **other: object) -> tuple[object, ...]:
    made = {"name": "n", "tenant": "t", "hint": "h", "settings": "{}", "created": 1.0, "expires": None, "revoked": None}
    return tuple({"digest": digest, **made, **other}.values())


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new' / 'router.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(url: str) -> Database:
    return database(url)


def test_what_is_there_already_is_not_inserted_again(store: Database) -> None:
    store.open()
    rows = [key(str(number), revoked=None) for number in range(400)]
    with store.transaction():
        assert store.load("virtual_keys", KEYS, ("digest",), rows[:300]) == 300
    with store.transaction():
        assert store.load("virtual_keys", KEYS, ("digest",), rows) == 100
    assert next(store.rows("SELECT COUNT(*), COUNT(expires) FROM virtual_keys")) == (400, 0)
    store.close()


def test_a_transaction_that_fails_leaves_nothing(store: Database) -> None:
    store.open()
    with contextlib.suppress(ValueError), store.transaction():
        store.run("INSERT INTO changes VALUES (?, ?)", ("keys", 1))
        raise ValueError
    assert list(store.rows("SELECT * FROM changes")) == []
    store.close()


def test_rows_that_do_not_fit_are_told_from_a_store_that_is_away(store: Database) -> None:
    store.open()
    with pytest.raises(Unfit), store.transaction():
        store.load("virtual_keys", KEYS, ("digest",), [key("1", name=None)])
    with pytest.raises(Unfit), store.transaction():
        store.load("changes", ("what", "number"), ("what",), [("keys", 1 << 70)])
    with pytest.raises(Away) as away:
        store.run("SELECT * FROM nothing")
    assert not isinstance(away.value, Unfit)
    assert list(store.rows("SELECT * FROM virtual_keys")) == []
    store.close()


def test_two_who_open_at_once_bring_the_schema_up_to_date_once(url: str) -> None:
    others = [database(url) for _ in range(4)]
    failed: list[Exception] = []

    def opens(each: Database) -> None:
        try:
            each.open()
        except Away as error:
            failed.append(error)

    threads = [threading.Thread(target=opens, args=(each,)) for each in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert list(others[0].rows("SELECT * FROM totals")) == []
    for each in others:
        each.close()


def test_a_database_of_the_first_release_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "router.db"
    with contextlib.closing(sqlite3.connect(path)) as old:
        for statement in MIGRATIONS[0]:
            old.execute(statement)
        old.execute("PRAGMA user_version = 1")
        old.commit()
    store = database(f"sqlite:///{path}")
    store.open()
    assert list(store.rows("SELECT * FROM totals")) == []
    assert next(store.rows("PRAGMA user_version")) == (len(MIGRATIONS),)
    store.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_put_in_the_place_of_another_is_what_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "router.db"
    store = database(f"sqlite:///{path}")
    store.open()
    for name in (path, path.with_name("router.db-wal"), path.with_name("router.db-shm")):
        name.rename(name.with_name(f"old-{name.name}"))
    with pytest.raises(Away), store.transaction():
        pass
    store.close()
    with store.transaction():
        store.run("INSERT INTO changes VALUES (?, ?)", ("keys", 1))
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as opened:
        assert opened.execute("SELECT number FROM changes").fetchone() == (1,)


@pytest.mark.slow
def test_a_killed_server_is_found_again_once_it_runs(postgres: PostgresServer) -> None:
    store = database(postgres.fresh())
    store.open()
    postgres.kill()
    with pytest.raises(Away):
        store.run("INSERT INTO changes VALUES (?, ?)", ("keys", 1))
    with pytest.raises(Away) as away:
        store.open()
    assert "host" not in away.value.reason
    postgres.start()
    assert store.run("INSERT INTO changes VALUES (?, ?)", ("keys", 1)) == 1
    store.close()


def test_sqlite_alone_imports_no_psycopg() -> None:
    code = "import sys, router.ledger; sys.exit('psycopg' in sys.modules or 'router.stores.postgres' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
