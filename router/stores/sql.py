"""SQLite or PostgreSQL behind one small face: the same SQL for both, blocking, for a thread of its own or a command.

SQLite is the standard library's, in WAL mode, so that readers never wait for the writer; PostgreSQL is psycopg's (the
extra `postgres`). Statements are written with `?`. `open` brings the schema up to date, one process at a time.
"""

import contextlib
import sqlite3
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

try:
    import psycopg
except ImportError:  # the extra is not installed
    psycopg = None  # type: ignore[assignment]

BUSY: Final = 5.0  # seconds to wait for another process that writes
CONNECT: Final = 3  # seconds
LOCK: Final = 7_220_114  # of PostgreSQL's advisory locks: who brings the schema up to date

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
)

Row = tuple[Any, ...]


class Away(Exception):
    """The store cannot be used now; `reason` says why, without a secret."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


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

    def transaction(self) -> contextlib.AbstractContextManager[None]: ...
    def close(self) -> None: ...


def database(url: str) -> Database:
    """`sqlite:///relative.db`, `sqlite:////absolute.db`, or `postgresql://user:password@host/name`."""
    if url.startswith("sqlite:///"):
        return Sqlite(Path(urllib.parse.unquote(url.removeprefix("sqlite:///"))))
    return Postgres(url)


class Sqlite:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        with self._away():
            self._connected()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            opened = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None, check_same_thread=False)
            try:
                self._path.chmod(0o600)
                opened.execute("PRAGMA journal_mode = WAL")
                opened.execute("PRAGMA synchronous = NORMAL")
                _migrate_sqlite(opened)
            except BaseException:
                opened.close()
                raise
            self._connection = opened
        return self._connection

    @contextlib.contextmanager
    def _away(self) -> Iterator[None]:
        try:
            yield
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

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self._away():
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


class Postgres:
    def __init__(self, url: str) -> None:
        if psycopg is None:
            raise Away("PostgreSQL: psycopg is not installed; pip install 'inference-router[postgres]'")
        self._url = url
        self._connection: psycopg.Connection[Row] | None = None

    def open(self) -> None:
        with self._away():
            self._connected()

    def _connected(self) -> "psycopg.Connection[Row]":
        if self._connection is None or self._connection.broken or self._connection.closed:
            self._connection = None
            options = "-c statement_timeout=30000 -c lock_timeout=5000"
            opened = psycopg.connect(
                self._url, autocommit=True, connect_timeout=CONNECT, options=options, keepalives_idle=10,
                keepalives_interval=5, keepalives_count=2, tcp_user_timeout=10_000,
            )  # fmt: skip
            try:
                _migrate_postgres(opened)
            except BaseException:
                opened.close()
                raise
            self._connection = opened
        return self._connection

    @contextlib.contextmanager
    def _away(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.Error, OSError) as error:
            # The text of a failure to connect may hold the address, with its password.
            raise Away(f"PostgreSQL: {type(error).__name__}") from None

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        with self._away():
            yield from self._connected().execute(_numbered(sql), values)

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        with self._away():
            return self._connected().execute(_numbered(sql), values).rowcount

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        with self._away(), self._connected().cursor() as cursor:
            cursor.executemany(_numbered(sql), rows)
            return cursor.rowcount

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self._away(), self._connected().transaction():
            yield

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None


def _numbered(sql: str) -> bytes:
    return sql.replace("%", "%%").replace("?", "%s").encode()


def _migrate_postgres(connection: "psycopg.Connection[Row]") -> None:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY)")
        found = connection.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchone()
        done = found[0] if found else 0
        for number, statements in enumerate(MIGRATIONS[done:], done + 1):
            for statement in statements:
                connection.execute(statement.encode())
            connection.execute("INSERT INTO migrations VALUES (%s)", (number,))
