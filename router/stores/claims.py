"""The claims of a host's workers, in one SQLite file of the directory that they share.

One statement claims, so that of two workers one has it; a thread of its own waits where another writes. A worker takes
the place of one that died: what that one was at is released, or unknown where it must not be made twice. The file goes
with the directory, as memory would: what must outlast the router is kept in a shared store.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from router.claims import BESIDE, Noted, Unavailable

POLL: Final = 0.02  # seconds between two looks at what another worker is at
BUSY: Final = 2.0  # seconds to wait for one that writes

_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS claims (
        name BLOB PRIMARY KEY, worker INTEGER NOT NULL, running INTEGER NOT NULL, paid INTEGER NOT NULL,
        ended DOUBLE PRECISION NOT NULL, size INTEGER NOT NULL, kept INTEGER NOT NULL, noted BLOB NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS ended ON claims (ended)",
    "CREATE INDEX IF NOT EXISTS kept ON claims (ended) WHERE running = 0 AND kept = 1",
    "CREATE INDEX IF NOT EXISTS running ON claims (worker) WHERE running = 1",
    "CREATE TABLE IF NOT EXISTS sizes (one INTEGER PRIMARY KEY, size INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO sizes VALUES (1, 0)",
)

Found = TypeVar("Found")
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Noted).decode


class HostClaims:
    """`worker`: the place of this one among the host's; whoever had it before is dead."""

    def __init__(
        self, path: Path, worker: int, max_bytes: int, ttl: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._worker = worker
        self._most = max_bytes
        self._ttl = ttl
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, "claims")

    async def open(self) -> None:
        """What a worker that died in this place left behind is not waited for any longer."""
        with contextlib.suppress(Unavailable):
            await self._do(lambda connection: None)

    async def claim(self, name: bytes, noted: Noted) -> Noted | None:
        made = self._submit(lambda connection: self._claim(connection, name, noted))
        try:
            return await asyncio.wrap_future(made)
        except asyncio.CancelledError:
            with contextlib.suppress(Unavailable):  # it may yet be claimed, and nobody would know
                self._submit(lambda connection: self._undo(connection, name, made))
            raise

    async def end(self, name: bytes, noted: Noted) -> None:
        await self._do(lambda connection: self._end(connection, name, noted))

    async def release(self, name: bytes) -> None:
        await self._do(lambda connection: connection.execute(_RELEASE, (name, self._worker)))

    async def changed(self, name: bytes, patience: float) -> None:
        until = asyncio.get_running_loop().time() + patience
        while (left := until - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(POLL, left))
            if not await self._do(lambda connection: connection.execute(_RUNS, (name,)).fetchone()):
                return

    async def close(self) -> None:
        """Waits for what is being written."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, connection.close)
        self._thread.shutdown(wait=False)

    async def _do(self, work: Callable[[sqlite3.Connection], Found]) -> Found:
        return await asyncio.wrap_future(self._submit(work))

    def _submit(self, work: Callable[[sqlite3.Connection], Found]) -> Future[Found]:
        def done() -> Found:
            try:
                return work(self._connected())
            except (sqlite3.Error, OSError, msgspec.MsgspecError) as error:
                raise Unavailable(str(error)) from None

        try:
            return self._thread.submit(done)
        except RuntimeError:
            raise Unavailable("closed") from None

    # In the thread

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            opened = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None, check_same_thread=False)
            try:
                self._path.chmod(0o600)
                opened.execute("PRAGMA journal_mode = WAL")
                opened.execute("PRAGMA synchronous = OFF")  # it need not outlast the machine
                opened.execute("PRAGMA journal_size_limit = 16777216")
                for statement in _SCHEMA:
                    opened.execute(statement)
                self._bury(opened)
            except BaseException:
                opened.close()
                raise
            self._connection = opened
        return self._connection

    def _bury(self, connection: sqlite3.Connection) -> None:
        """What the one before left behind."""
        connection.execute("DELETE FROM claims WHERE running = 1 AND worker = ? AND paid = 0", (self._worker,))
        left = connection.execute("SELECT name, noted FROM claims WHERE running = 1 AND worker = ?", (self._worker,))
        for name, noted in left.fetchall():
            self._end(connection, name, msgspec.structs.replace(_decode(noted), state="unknown"))

    def _claim(self, connection: sqlite3.Connection, name: bytes, noted: Noted) -> Noted | None:
        self._expire(connection)
        values = (name, self._worker, noted.paid, self._clock(), _encode(noted))
        while not connection.execute(_CLAIM, values).rowcount:
            found = connection.execute("SELECT noted FROM claims WHERE name = ?", (name,)).fetchone()
            if found is not None:
                return _decode(found[0])
        return None

    def _undo(self, connection: sqlite3.Connection, name: bytes, made: "Future[Noted | None]") -> None:
        if not made.cancelled() and made.exception() is None and made.result() is None:
            connection.execute(_RELEASE, (name, self._worker))

    def _end(self, connection: sqlite3.Connection, name: bytes, noted: Noted) -> None:
        self._expire(connection)
        size, kept = noted.size(), noted.answer is not None
        connection.execute("BEGIN IMMEDIATE")
        try:
            done = connection.execute(_END, (self._clock(), size, kept, _encode(noted), name, self._worker)).rowcount
            total = _add(connection, size if done else 0)
            while total > self._most:
                freed = self._shrink(connection)
                if not freed:
                    break
                total = _add(connection, -freed)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def _expire(self, connection: sqlite3.Connection) -> None:
        before = (self._clock() - self._ttl,)
        if connection.execute(_EXPIRED, before).fetchone() is None:
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            (size,) = connection.execute(_EXPIRED_SIZE, before).fetchone()
            connection.execute(_FORGET, before)
            _add(connection, -int(size or 0))
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def _shrink(self, connection: sqlite3.Connection) -> int:
        """Let go of the oldest answer, else of the oldest key; how many bytes that frees."""
        row: Any = connection.execute(_OLDEST_KEPT).fetchone()
        if row is None:
            row = connection.execute(_OLDEST).fetchone()
            if row is not None:
                connection.execute(_FORGET_ONE, row[:1])
            return int(row[1]) if row is not None else 0
        name, size, noted = row
        bare = msgspec.structs.replace(_decode(noted), state="not_kept", answer=None)
        connection.execute(_BARE, (BESIDE, _encode(bare), name))
        return int(size) - BESIDE


def _add(connection: sqlite3.Connection, size: int) -> int:
    """Bytes in all, from now on."""
    connection.execute("UPDATE sizes SET size = size + ?", (size,))
    return int(connection.execute("SELECT size FROM sizes").fetchone()[0])


_CLAIM: Final = "INSERT INTO claims VALUES (?, ?, 1, ?, ?, 0, 0, ?) ON CONFLICT DO NOTHING"
_RUNS: Final = "SELECT 1 FROM claims WHERE name = ? AND running = 1"
_RELEASE: Final = "DELETE FROM claims WHERE name = ? AND worker = ? AND running = 1"
_END: Final = "UPDATE claims SET running = 0, ended = ?, size = ?, kept = ?, noted = ? WHERE name = ? AND worker = ?"
_EXPIRED: Final = "SELECT 1 FROM claims WHERE ended <= ? LIMIT 1"
_EXPIRED_SIZE: Final = "SELECT SUM(size) FROM claims WHERE ended <= ?"
_FORGET: Final = "DELETE FROM claims WHERE ended <= ?"
_OLDEST_KEPT: Final = "SELECT name, size, noted FROM claims WHERE running = 0 AND kept = 1 ORDER BY ended LIMIT 1"
_OLDEST: Final = "SELECT name, size FROM claims WHERE running = 0 ORDER BY ended LIMIT 1"
_FORGET_ONE: Final = "DELETE FROM claims WHERE name = ?"
_BARE: Final = "UPDATE claims SET kept = 0, size = ?, noted = ? WHERE name = ?"
