"""PostgreSQL behind the face of router/stores/sql.py. Only a postgresql:// URL imports this, and psycopg with it."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from router.stores.sql import MIGRATIONS, Away, Row, Unfit

try:
    import psycopg
except ImportError:  # the extra is not installed
    psycopg = None  # type: ignore[assignment]

CONNECT: Final = 3  # seconds
LOCK: Final = 7_220_114  # of the advisory locks: who brings the schema up to date


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
            options = "-c statement_timeout=30000 -c lock_timeout=5000 -c client_min_messages=warning"
            opened = psycopg.connect(
                self._url, autocommit=True, connect_timeout=CONNECT, options=options, keepalives_idle=10,
                keepalives_interval=5, keepalives_count=2, tcp_user_timeout=10_000,
            )  # fmt: skip
            try:
                _migrate(opened)
            except BaseException:
                opened.close()
                raise
            self._connection = opened
        return self._connection

    @contextlib.contextmanager
    def _away(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.DataError, psycopg.IntegrityError, UnicodeEncodeError) as error:
            raise Unfit(f"PostgreSQL: {type(error).__name__}") from None
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

    def load(self, table: str, columns: Sequence[str], key: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
        """COPY knows no conflicts, so by way of a table of this session's own."""
        named = ", ".join(columns)
        passing = f"incoming_{table}"
        with self._away(), self._connected().cursor() as cursor:
            cursor.execute(f"CREATE TEMP TABLE IF NOT EXISTS {passing} (LIKE {table}) ON COMMIT DELETE ROWS".encode())
            with cursor.copy(f"COPY {passing} ({named}) FROM STDIN".encode()) as copy:
                for row in rows:
                    copy.write_row([int(each) if each is True or each is False else each for each in row])
            cursor.execute(
                f"INSERT INTO {table} ({named}) SELECT {named} FROM {passing}"  # noqa: S608 - of constants
                f" ON CONFLICT ({', '.join(key)}) DO NOTHING".encode()
            )
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


def _migrate(connection: "psycopg.Connection[Row]") -> None:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY)")
        found = connection.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchone()
        done = found[0] if found else 0
        for number, statements in enumerate(MIGRATIONS[done:], done + 1):
            for statement in statements:
                connection.execute(statement.encode())
            connection.execute("INSERT INTO migrations VALUES (%s)", (number,))
