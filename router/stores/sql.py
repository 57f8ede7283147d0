"""SQLite or PostgreSQL behind one small face: the same SQL for both, blocking, for a thread of its own or a command.

SQLite is the standard library's, in WAL mode, so that readers never wait for the writer; PostgreSQL is psycopg's (the
extra `postgres`, router/stores/postgres.py, which is imported where a URL asks for it). Statements are written with
`?`. `open` brings the schema up to date, one process at a time.
"""

import contextlib
import importlib
import itertools
import os
import sqlite3
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, cast

BUSY: Final = 5.0  # seconds to wait for another process that writes
BOUND: Final = 1500  # values of one statement: fifty entries, for which the interpreter is left alone meanwhile

# Each is run once, in order; a new one goes to the end.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE entries (
            id TEXT PRIMARY KEY, time DOUBLE PRECISION NOT NULL, request TEXT NOT NULL, tenant TEXT NOT NULL,
            key TEXT NOT NULL, model TEXT NOT NULL, task TEXT NOT NULL, dialect TEXT NOT NULL, upstream TEXT NOT NULL,
            provider_id TEXT NOT NULL, provider_key TEXT NOT NULL, billing TEXT NOT NULL, billed_to TEXT NOT NULL,
            status INTEGER NOT NULL, outcome TEXT NOT NULL, stream INTEGER NOT NULL, cache TEXT NOT NULL,
            seconds DOUBLE PRECISION NOT NULL, input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL,
            cached_tokens BIGINT NOT NULL, reasoning_tokens BIGINT NOT NULL, images INTEGER NOT NULL,
            media_seconds DOUBLE PRECISION NOT NULL, characters BIGINT NOT NULL, estimated INTEGER NOT NULL,
            cost BIGINT, charge BIGINT, tries INTEGER NOT NULL, idempotency TEXT NOT NULL
        )""",
        "CREATE INDEX entries_by_time ON entries (time)",
        """CREATE TABLE attempts (
            entry TEXT NOT NULL, number INTEGER NOT NULL, upstream TEXT NOT NULL, deployment TEXT NOT NULL,
            status INTEGER NOT NULL, reason TEXT NOT NULL, seconds DOUBLE PRECISION NOT NULL, sent INTEGER NOT NULL,
            cost BIGINT, PRIMARY KEY (entry, number)
        )""",
        """CREATE TABLE virtual_keys (
            digest TEXT PRIMARY KEY, name TEXT NOT NULL, tenant TEXT NOT NULL, hint TEXT NOT NULL,
            settings TEXT NOT NULL, created DOUBLE PRECISION NOT NULL, expires DOUBLE PRECISION,
            revoked DOUBLE PRECISION
        )""",
        "CREATE TABLE changes (what TEXT PRIMARY KEY, number BIGINT NOT NULL)",
    ),
    (
        # What entries add up to by the day (of UTC, since 1970), so that what a budget has left is no sum over all.
        """CREATE TABLE totals (
            scope TEXT NOT NULL, name TEXT NOT NULL, day INTEGER NOT NULL, cost BIGINT NOT NULL, charge BIGINT NOT NULL,
            PRIMARY KEY (scope, name, day)
        )""",
    ),
)

Row = tuple[Any, ...]


class Away(Exception):
    """The store cannot be used now; `reason` says why, without a secret."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unfit(Away):
    """The store is there, and will not have these rows for what is in them."""


class Database(Protocol):
    """One connection. Everything may raise Away; the next call tries to connect anew."""

    def open(self) -> None:
        """Connect, and bring the schema up to date."""
        ...

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Row]: ...
    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """How many rows it touched."""
        ...

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """How many rows it touched."""
        ...

    def load(self, table: str, columns: Sequence[str], key: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
        """Insert those whose key is not there yet; how many. Many at once, within a transaction."""
        ...

    def transaction(self) -> contextlib.AbstractContextManager[None]: ...
    def close(self) -> None: ...
    def interrupt(self) -> None:
        """From another thread, at the end: whoever waits in it for an answer gets Away soon."""
        ...


def database(url: str) -> Database:
    """`sqlite:///relative.db`, `sqlite:////absolute.db`, or `postgresql://user:password@host/name`."""
    if url.startswith("sqlite:///"):
        return Sqlite(Path(urllib.parse.unquote(url.removeprefix("sqlite:///"))))
    try:
        module = importlib.import_module("router.stores.postgres")
    except ImportError:
        raise Away("PostgreSQL: psycopg is not installed; pip install 'inference-router[postgres]'") from None
    return cast(Database, module.Postgres(url))


class Sqlite:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def open(self) -> None:
        with self._away():
            self._connected()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            opened = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None, check_same_thread=False)
            try:
                self._path.chmod(0o600)
                _into_wal(opened)
                opened.execute("PRAGMA synchronous = FULL")  # what is committed outlasts the machine's own end
                _migrate_sqlite(opened)
            except BaseException:
                opened.close()
                raise
            self._connection, self._inode = opened, os.stat(self._path).st_ino
        return self._connection

    @contextlib.contextmanager
    def _away(self) -> Iterator[None]:
        try:
            yield
        except _UNFIT as error:
            raise Unfit(f"SQLite: {error}") from None
        except (sqlite3.Error, OSError) as error:
            raise Away(f"SQLite: {error}") from None

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        with self._away():
            yield from self._connected().execute(sql, values)

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        with self._away():
            return self._connected().execute(sql, values).rowcount

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        with self._away():
            return self._connected().executemany(sql, rows).rowcount

    def load(self, table: str, columns: Sequence[str], key: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
        each = max(1, BOUND // len(columns))
        whole, single = (_insert(table, columns, key, count) for count in (each, 1))
        done = 0
        left = iter(rows)
        with self._away():
            connection = self._connected()
            while taken := list(itertools.islice(left, each)):
                if len(taken) == each:
                    done += connection.execute(whole, list(itertools.chain.from_iterable(taken))).rowcount
                else:
                    done += connection.executemany(single, taken).rowcount
        return done

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self._away():
            if self._connection is not None and os.stat(self._path).st_ino != self._inode:
                self.close()  # another file stands in its place
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def interrupt(self) -> None:
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.interrupt()


def _into_wal(connection: sqlite3.Connection) -> None:
    """Where two open a new file at once SQLite may say that it is busy without waiting (sqlite.org/wal.html)."""
    until = time.monotonic() + BUSY
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.02)
        else:
            return


_UNFIT: Final = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    UnicodeEncodeError,
)


def _insert(table: str, columns: Sequence[str], key: Sequence[str], count: int) -> str:
    row = f"({', '.join('?' * len(columns))})"
    values = ", ".join([row] * count)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {values} ON CONFLICT ({', '.join(key)}) DO NOTHING"  # noqa: S608 - of constants


def _migrate_sqlite(connection: sqlite3.Connection) -> None:
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    if done >= len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        (done,) = connection.execute("PRAGMA user_version").fetchone()  # another process may have been first
        for number, statements in enumerate(MIGRATIONS[done:], done + 1):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
