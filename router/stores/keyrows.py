"""Virtual keys in the database: made, listed, rotated and revoked; each change counted, so that a look is one number.

Of a key only its SHA-256 and its last four characters are written. What it may do is written as it was given, so that a
later version reads it by its own rules. A tenant's own provider keys are refused: no secret is at rest here. Blocking,
one connection: for a thread or a command.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

import msgspec

from router.plans import KeyRow, Snapshot, VirtualKey, digest_of, mint
from router.stores.sql import Database

GRACE: Final = 86400.0  # seconds that a rotated key still opens
SECRET: Final = ("key", "key_sha256", "user_keys")  # settings of the file that a store does not take
_KEYS: Final = "keys"  # in the table of changes
_COLUMNS: Final = "digest, name, tenant, hint, settings, created, expires, revoked"
_TICK: Final = 0.001  # two rows of one name have an order


class NoSuchKey(Exception):
    """No live key of the store has that name."""


class NameTaken(Exception):
    """A live key has it, here or in the file."""


class KeyRows:
    """Everything may raise Away."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def create(
        self, name: str, settings: Mapping[str, Any], style: str = "hf", taken: Collection[str] = ()
    ) -> tuple[str, KeyRow]:
        """A new key, which nobody will see again, and its row. `settings`: of a VirtualKey, but for what is secret.

        Raises ValueError (pydantic's, with the place) and NameTaken. `taken`: names in the file.
        """
        secret = mint(style)
        row = _row(name, settings, secret, self._clock())
        with self._database.transaction():
            self._count()  # first: who changes keys at the same time waits here
            if name in taken or self._live(name):
                raise NameTaken(name)
            self._insert([row])
        return secret, row

    def rotate(self, name: str, grace: float = GRACE, style: str = "hf") -> tuple[str, KeyRow]:
        """A new key for what the old one opens; that one still opens it for `grace` seconds. Raises NoSuchKey."""
        now = self._clock()
        with self._database.transaction():
            self._count()
            live = self._live(name)
            if not live:
                raise NoSuchKey(name)
            newest = live[-1]
            secret = mint(style)
            row = msgspec.structs.replace(
                newest,
                digest=digest_of(secret.encode()).hex(),
                hint=secret[-4:],
                created=max(now, newest.created + _TICK),
            )
            if grace > 0:
                sql = "UPDATE virtual_keys SET expires = ? WHERE name = ? AND revoked IS NULL"
                until = now + grace
                self._database.run(sql + " AND (expires IS NULL OR expires > ?)", (until, name, until))
            else:
                self._revoke(name, now)
            self._insert([row])
        return secret, row

    def revoke(self, name: str) -> int:
        """Every key of that name, at once; how many those were. Raises NoSuchKey."""
        with self._database.transaction():
            self._count()
            touched = self._revoke(name, self._clock())
            if not touched:
                raise NoSuchKey(name)
        return touched

    def _revoke(self, name: str, now: float) -> int:
        sql = "UPDATE virtual_keys SET revoked = ? WHERE name = ? AND revoked IS NULL"
        return self._database.run(sql, (now, name))

    def rows(self) -> list[KeyRow]:
        """All there ever were, the oldest first."""
        found = self._database.rows(f"SELECT {_COLUMNS} FROM virtual_keys ORDER BY created, digest")  # noqa: S608
        return [KeyRow(*each) for each in found]

    def version(self) -> int:
        """Grows with every change; cheap, for looking each second. 0: there was none yet."""
        found = list(self._database.rows("SELECT number FROM changes WHERE what = ?", (_KEYS,)))
        return int(found[0][0]) if found else 0

    def load(self) -> Snapshot:
        """Its number is read first: what changes in between is seen at the next look."""
        return Snapshot(self.version(), tuple(self.rows()))

    def _live(self, name: str) -> list[KeyRow]:
        sql = f"SELECT {_COLUMNS} FROM virtual_keys WHERE name = ? AND revoked IS NULL"  # noqa: S608
        sql += " AND (expires IS NULL OR expires > ?) ORDER BY created"
        return [KeyRow(*each) for each in self._database.rows(sql, (name, self._clock()))]

    def _insert(self, rows: Iterable[KeyRow]) -> None:
        sql = f"INSERT INTO virtual_keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
        self._database.many(sql, [msgspec.structs.astuple(each) for each in rows])

    def _count(self) -> None:
        """The number is the time in milliseconds, or one more where that has not grown: after a database was lost or
        put back, its next change still has a larger number than any before.
        """
        self._database.run(
            "INSERT INTO changes (what, number) VALUES (?, ?) ON CONFLICT (what) DO UPDATE SET number ="
            " CASE WHEN changes.number < excluded.number THEN excluded.number ELSE changes.number + 1 END",
            (_KEYS, int(self._clock() * 1000)),
        )


def _row(name: str, settings: Mapping[str, Any], secret: str, now: float) -> KeyRow:
    for each in SECRET:
        if each in settings:
            raise ValueError(f"{each}: is not kept in a store; it belongs into the file")
    digest = digest_of(secret.encode()).hex()
    key = VirtualKey.model_validate({**settings, "name": name, "key_sha256": digest})
    kept = {what: each for what, each in settings.items() if what not in ("name", "tenant", "expires")}
    return KeyRow(digest, name, key.owner, secret[-4:], msgspec.json.encode(kept).decode(), now, key.expires)
