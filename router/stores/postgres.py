"""PostgreSQL behind the face of router/stores/sql.py. Only a postgresql:// URL imports this, and psycopg with it.

The server bounds what it does itself (`statement_timeout`); one that stands still says nothing at all, so no answer is
waited for longer than `PATIENCE` either. A connection that was lost since it was last used is made anew, once.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import psycopg

from router.stores.sql import MIGRATIONS, Away, Row, Unfit

CONNECT: Final = 3  # seconds
PATIENCE: Final = 35.0  # seconds for one answer: a little more than the server gives itself
LOCK: Final = 7_220_114  # of the advisory locks: who brings the schema up to date
_OPTIONS: Final = "-c statement_timeout=30000 -c lock_timeout=5000 -c client_min_messages=warning"

T = TypeVar("T")


class _Overdue(psycopg.OperationalError):
    """There was no answer."""


class _Connection(psycopg.Connection[Row]):
    """psycopg looks up now and then while it waits for an answer, which is when it can be told to wait no longer."""

    patience = PATIENCE
    over = False

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **named: Any) -> T:
        try:
            return super().wait(self._bounded(gen), *args, **named)
        except _Overdue:
            self.pgconn.finish()  # what comes later would be taken for the next answer
            raise

    def _bounded(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        until = time.monotonic() + self.patience
        try:
            wanted = next(gen)
            while True:
                got = yield wanted
                if not got and (self.over or time.monotonic() > until):
                    raise _Overdue("no answer")
                wanted = gen.send(got)
        except StopIteration as stop:
            answer: T = stop.value
            return answer


class Postgres:
    def __init__(self, url: str, patience: float = PATIENCE) -> None:
        self._url = url
        self._patience = patience
        self._connection: _Connection | None = None
        self._within = False  # a transaction
        self._over = False

    def open(self) -> None:
        with self._away():
            self._connected()

    def _connected(self) -> _Connection:
        if self._connection is None or self._connection.broken or self._connection.closed:
            self._connection = None
            opened = _Connection.connect(
                self._url, autocommit=True, connect_timeout=CONNECT, options=_OPTIONS, keepalives_idle=10,
                keepalives_interval=5, keepalives_count=2, tcp_user_timeout=10_000,
            )  # fmt: skip
            opened.patience, opened.over = self._patience, self._over
            self._connection = opened  # so that it can be interrupted
            try:
                _migrate(opened)
            except BaseException:
                self.close()
                raise
        return self._connection

    def _first(self, ask: "Callable[[_Connection], T]") -> T:
        """That a connection was lost is found out by using it. Within a transaction it cannot be replaced."""
        connection = self._connected()
        try:
            return ask(connection)
        except psycopg.OperationalError as error:
            if self._within or isinstance(error, _Overdue) or not connection.closed:
                raise
        return ask(self._connected())

    @contextlib.contextmanager
    def _away(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.DataError, psycopg.IntegrityError, UnicodeEncodeError) as error:
            raise Unfit(f"PostgreSQL: {type(error).__name__}") from None
        except (psycopg.Error, OSError) as error:
            # The text of a failure to connect may hold the address, with its password.
            raise Away(f"PostgreSQL: {type(error).__name__.strip('_')}") from None

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        with self._away():
            yield from self._first(lambda connection: connection.execute(_numbered(sql), values))

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
        with self._away(), contextlib.ExitStack() as stack:
            self._first(lambda connection: stack.enter_context(connection.transaction()))
            self._within = True
            try:
                yield
            finally:
                self._within = False

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def interrupt(self) -> None:
        self._over = True
        connection = self._connection
        if connection is not None:
            connection.over = True


def _numbered(sql: str) -> bytes:
    return sql.replace("%", "%%").replace("?", "%s").encode()


def _migrate(connection: "psycopg.Connection[Row]") -> None:
    if _done(connection) >= len(MIGRATIONS):  # nobody need wait for anybody, nor be able to write
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY)")
        for number, statements in enumerate(MIGRATIONS[(done := _done(connection)) :], done + 1):
            for statement in statements:
                connection.execute(statement.encode())
            connection.execute("INSERT INTO migrations VALUES (%s)", (number,))


def _done(connection: "psycopg.Connection[Row]") -> int:
    """How many of them are."""
    if connection.execute("SELECT to_regclass('migrations')").fetchone() == (None,):
        return 0
    found = connection.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchone()
    return int(found[0]) if found else 0
