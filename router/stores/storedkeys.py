"""The store's keys as this process knows them: looked at each second in a thread of its own, handed on whole.

Serving never waits for the database and does not need it: while it is away the last known keys are the keys, also at a
start, out of a file in the state directory (digests and settings; nothing secret). A number that does not grow is no
news: a database that lost its rows does not make every caller unknown.
"""

import contextlib
import os
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec

from router.plans import Snapshot, digest_of
from router.stores.keyrows import KeyRows
from router.stores.sql import Away, Database

EVERY: Final = 1.0  # seconds between two looks
TURN: Final = 1.0  # seconds that a change waits for the one before it
AT_ONCE: Final = 2  # changes; who comes with more is refused, so that they fill no pool of threads
_PATIENCE: Final = 1.0  # seconds for the thread to end


T = TypeVar("T")


class Adopts(Protocol):
    """A Keyring."""

    def adopt(self, snapshot: Snapshot) -> int: ...


class _Kept(msgspec.Struct, frozen=True):
    """In the file. `of`: which database it was read from."""

    of: str
    snapshot: Snapshot


class StoredKeys:
    """`connect` makes a connection for this alone, one for looking and one for changes; `url` names the database.
    `told` hears why it is away, and when it is back (an empty reason).
    """

    def __init__(
        self,
        connect: Callable[[], Database],
        url: str,
        file: Path | None,
        told: Callable[[str], None] = lambda _: None,
        every: float = EVERY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connect = connect
        self._of = _name_of(url)
        self._file = file
        self._told = told
        self._every = every
        self._clock = clock
        self._database: Database | None = None
        self._for_changes: Database | None = None
        self._snapshot: Snapshot | None = None
        self._keyrings: list[Adopts] = []
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._changing = threading.Lock()
        self._turns = threading.Semaphore(AT_ONCE)
        self._soon = threading.Event()
        self._closing = False
        self._away = ""
        self._thread: threading.Thread | None = None

    @property
    def known(self) -> bool:
        """Whether the keys are known at all."""
        return self._snapshot is not None

    @property
    def away(self) -> str:
        """Why the database cannot be used now; empty: it can."""
        return self._away

    def open(self) -> None:
        """Know the keys, if they can be known, and go on looking. Without the file this waits for the database, which
        takes seconds where it is away.
        """
        kept = self._read()
        if kept is not None:
            self._take(kept, write=False)
            self._soon.set()
        else:
            self.look()
        self._thread = threading.Thread(target=self._follow, name="stored-keys", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self._soon.set()
        for opened in (self._database, self._for_changes):
            if opened is not None:
                opened.interrupt()
        if self._thread is not None:
            self._thread.join(_PATIENCE)
        for lock, opened in ((self._looking, self._database), (self._changing, self._for_changes)):
            if lock.acquire(timeout=_PATIENCE / 2):  # else it hangs in a question, and ends with the process
                if opened is not None:
                    opened.close()
                lock.release()

    def attach(self, keyring: Adopts) -> None:
        """It knows what is known, from now on. For a thread: it waits for keys that are just being made known."""
        with self._lock:
            self._keyrings.append(keyring)
            if self._snapshot is not None:
                keyring.adopt(self._snapshot)

    def detach(self, keyring: Adopts) -> None:
        """Nobody asks it any more. One that is not attached is no fault. For a thread, too."""
        with self._lock:
            self._keyrings = [each for each in self._keyrings if each is not keyring]

    def change(self, work: Callable[[KeyRows], T]) -> T:
        """Work on the rows, which this process then knows at once. Blocks, and may raise Away: for a thread."""
        if not self._turns.acquire(blocking=False):
            raise Away("too many changes at once")
        try:
            done = self._changed(work)
        finally:
            self._turns.release()
        self._soon.set()
        return done

    def _changed(self, work: Callable[[KeyRows], T]) -> T:
        if not self._changing.acquire(timeout=TURN):
            raise Away("the change before this one has no answer yet")
        try:
            if self._for_changes is None:
                self._for_changes = self._connect()
            return work(KeyRows(self._for_changes, self._clock))
        finally:
            self._changing.release()

    def soon(self) -> None:
        """Look now: somebody has changed something. From any thread."""
        self._soon.set()

    def look(self) -> None:
        """One look at the database. Never raises because of it."""
        try:
            with self._looking:
                found = self._newer()
            if found is not None:
                self._take(found)
        except Exception as error:  # noqa: BLE001 - the thread's door: who no longer looks lets revoked keys in
            self._tell(error.reason if isinstance(error, Away) else type(error).__name__)
        else:
            self._tell("")

    def _follow(self) -> None:
        while not self._closing:
            self._soon.wait(self._every)
            self._soon.clear()
            if not self._closing:
                self.look()

    def _newer(self) -> Snapshot | None:
        if self._database is None:
            self._database = self._connect()
        rows = KeyRows(self._database)
        known = self._snapshot
        if known is None or rows.version() > known.generation:
            return rows.load()
        return None if known.sure else msgspec.structs.replace(known, sure=True)

    def _take(self, snapshot: Snapshot, write: bool = True) -> None:
        with self._lock:
            for each in self._keyrings:
                each.adopt(snapshot)
            self._snapshot = snapshot
        if write:
            self._write(snapshot)

    def _tell(self, reason: str) -> None:
        if bool(reason) != bool(self._away):
            self._told(reason)
        self._away = reason

    # The file

    def _read(self) -> Snapshot | None:
        if self._file is None:
            return None
        try:
            kept = msgspec.json.decode(self._file.read_bytes(), type=_Kept)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return msgspec.structs.replace(kept.snapshot, sure=False) if kept.of == self._of else None

    def _write(self, snapshot: Snapshot) -> None:
        """Whole or not at all. That the state directory cannot be written to matters to the next start alone."""
        if self._file is None:
            return
        beside = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside.unlink(missing_ok=True)
            opened = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(opened, "wb") as out:
                out.write(msgspec.json.encode(_Kept(self._of, snapshot)))
            beside.replace(self._file)


def _name_of(url: str) -> str:
    """A database's name that tells nothing: not its address, nor the password in it."""
    parts = urllib.parse.urlsplit(url)
    place = f"{parts.scheme}://{parts.hostname or ''}:{parts.port or ''}{parts.path}"
    return digest_of(place.encode()).hex()[:16]
