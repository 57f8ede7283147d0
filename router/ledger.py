"""The ledger: every request that was sent is in the books once, whatever dies in between.

`intend` stands before a call and `settle` after it; both are a copy into the spool. A thread of this process writes
what is there into a database (router/stores/books.py), in batches. Where the database is away the spool grows and
serving goes on; where the spool is full `intend` raises Full, and nothing more may be promised. What a dead process
left is written by whoever finds it: its intents without an end as lost ones, which cost what they may have cost and
are charged with nothing. Rows that the database refuses for what is in them are set aside, so that they hold up
nobody else's.
"""

import asyncio
import collections
import contextlib
import logging
import os
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from router import orphans
from router.entry import Entry, Intent
from router.spool import SEGMENT, SLICE, Full, Spool
from router.stores.books import Books
from router.stores.sql import Away, Database, Unfit

EVERY: Final = 0.2  # seconds between two looks at the spool
BATCH: Final = 5000  # entries of one transaction
FIRST_WAIT: Final = 0.5  # seconds, after the store was found to be away; doubled up to
LONGEST_WAIT: Final = 5.0
ADOPT: Final = 5.0  # seconds between two looks for orphans
CLOSING: Final = 4.0  # seconds for the last of it
STUCK: Final = 5.0  # seconds without an answer, after which the store counts as away
HELD: Final = 50_000  # entries in memory, where the spool has no room for them
FORGOTTEN: Final = 1_000_000  # ids of those that memory had no room for either: their intents have nothing to wait for
REFUSED: Final = "refused.jsonl"

log = logging.getLogger(__name__)

__all__ = ["Full", "Ledger"]


class Ledger:
    """`written`, `reconciled`, `lost`, `refused` count entries since the start."""

    def __init__(self, database: Database, directory: Path, limit: int, segment: int = SEGMENT) -> None:
        self.written = 0
        self.reconciled = 0  # of those, written for others that are gone
        self.lost = 0  # which there was no room for anywhere, or no way to write
        self.refused = 0  # set aside
        self._database = database
        self._books = Books(database)
        self._root = directory
        self._spool = Spool(directory, limit, segment)
        self._held: collections.deque[Entry] = collections.deque()
        self._forgotten: collections.deque[str] = collections.deque()
        self._settled = 0
        self._done = 0
        self._batch: list[list[Entry]] = []  # of our own spool, read and not yet in the books; the last is next
        self._fresh = 0  # how many of it were handed on
        self._ended: list[str] = []  # and the ids of those that are not in the spool
        self._more = False  # than the batch
        self._reaches = 0.0  # with the batch, all that was settled before then is in the books; monotonic
        self._since = 0.0  # all that was settled before is in the books
        self._began = 0.0  # when the store was last asked, while it has not answered
        self._away = False
        self._adopt_at = 0.0
        self.adopted = False  # what others had left when this one began is in the books
        self._stop = threading.Event()
        self._writer: threading.Thread | None = None

    def open(self) -> None:
        """OSError where the spool cannot be written to. The store may be away."""
        self._spool.open()
        self._since = time.monotonic()
        self._writer = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._writer.start()

    async def close(self) -> None:
        """Write what can be written within a few seconds; the rest is there at the next start."""
        self._stop.set()
        if self._writer is not None:
            await asyncio.to_thread(self._writer.join, CLOSING)
            if not self._writer.is_alive():
                self._spool.close(unwritten=bool(self._batch or self._held))
            self._writer = None

    def intend(self, intent: Intent) -> None:
        """Raises Full where no call may be made now."""
        self._spool.intend(intent)

    def settle(self, entry: Entry) -> None:
        try:
            self._spool.settle(entry)
        except (UnicodeEncodeError, OverflowError):
            self.lost += 1
            return
        except Full:
            if len(self._held) >= HELD:
                self.lost += 1
                if len(self._forgotten) < FORGOTTEN:
                    self._forgotten.append(entry.id)
                return
            self._held.append(entry)
        self._settled += 1

    async def sync(self) -> None:
        """What was intended is on the disk, and not only out of this process."""
        await asyncio.to_thread(self._spool.sync)

    @property
    def has_room(self) -> bool:
        return self._spool.has_room

    @property
    def full(self) -> bool:
        return not self._spool.has_room

    @property
    def waiting(self) -> int:
        """Entries of this process that are not in the books."""
        return self._settled - self._done

    @property
    def lag(self) -> float:
        """Seconds for which the oldest of them has waited, at most."""
        return max(0.0, time.monotonic() - self._since) if self.waiting else 0.0

    @property
    def away(self) -> bool:
        began = self._began
        return self._away or (began > 0.0 and time.monotonic() - began > STUCK)

    @property
    def damaged(self) -> int:
        """Records of the spool that were not what was written: a machine's end, or a disk's."""
        return self._spool.damaged

    # In the thread.

    def _run(self) -> None:
        pause = FIRST_WAIT
        while True:
            stopping = self._stop.is_set()
            try:
                more = self._turn()
            except Exception as error:  # noqa: BLE001 - the thread's door: what is written late is not lost
                self._note_away(error.reason if isinstance(error, Away) else repr(error))
                if stopping:
                    break
                self._spool.prepare()
                self._stop.wait(pause)
                pause = min(pause * 2, LONGEST_WAIT)
                continue
            self._note_back()
            pause = FIRST_WAIT
            if stopping and not more:
                break
            if not more:
                self._stop.wait(EVERY)
        self._database.close()

    def _turn(self) -> bool:
        """One batch, and what is to be done besides; whether more is waiting."""
        self._drain()
        if not self._stop.is_set() and time.monotonic() >= self._adopt_at:
            self._adopt()
            self.adopted = True
            self._adopt_at = time.monotonic() + ADOPT
        return self._more

    def _drain(self) -> None:
        """One batch of our own."""
        if not self._batch:
            self._take()
        if self._batch:
            before = _size(self._batch)
            try:
                self._write(self._batch)
            finally:
                self._done += before - _size(self._batch)
        self._since = max(self._since, self._reaches)
        for name in self._ended:
            self._spool.end(name)
        self._ended = []
        self._spool.written(self._fresh)
        self._fresh = 0
        self._spool.prepare()

    def _take(self) -> None:
        looked = time.monotonic()
        fresh = self._spool.fresh(BATCH)
        payloads = self._spool.read(BATCH - len(fresh))
        read = self._decoded(payloads)
        held = [self._held.popleft() for _ in range(min(BATCH - len(fresh) - len(payloads), len(self._held)))]
        self._fresh = len(fresh)
        self._done += len(payloads) - len(read)
        self._more = len(fresh) + len(payloads) + len(held) >= BATCH
        if not self._more:
            self._reaches = looked
            held += self._given_up()
        elif len(fresh) == BATCH and not (self._held or self._spool.behind):
            self._reaches = looked - (time.time() - fresh[-1].time)
        elif read and not (fresh or held):
            self._reaches = looked - (time.time() - read[-1].time)
        entries = fresh + read + held
        self._batch = [entries] if entries else []
        self._ended = [each.id for each in held]

    def _given_up(self) -> list[Entry]:
        """Of forgotten ends, what their intents tell."""
        found: list[Entry] = []
        for _ in range(min(len(self._forgotten), BATCH)):
            payload = self._spool.intent(self._forgotten.popleft())
            if payload is not None:
                found.append(_lost(_intent(payload)))
        self._settled += len(found)
        return found

    def _decoded(self, payloads: list[bytes]) -> list[Entry]:
        found: list[Entry] = []
        for start in range(0, len(payloads), SLICE):
            for payload in payloads[start : start + SLICE]:
                try:
                    found.append(_entry(payload))
                except msgspec.DecodeError as error:
                    with contextlib.suppress(Away):
                        self._set_aside(payload.hex(), str(error))
            time.sleep(0)  # the loop's turn
        return found

    def _write(self, parts: list[list[Entry]]) -> int:
        """Until none is left; how many were new. A part that is unfit is halved until the one is found."""
        new = 0
        while parts:
            part = parts[-1]
            added = 0
            self._began = time.monotonic()
            try:
                added = self._books.add(part)
            except Unfit as unfit:
                half = len(part) // 2
                if not half:
                    self._set_aside(part[0], unfit.reason)
                parts[-1:] = [part[half:], part[:half]] if half else []
            else:
                parts.pop()
            finally:
                self._began = 0.0
            new += added
            self.written += added
        return new

    def _set_aside(self, what: Entry | str, reason: str) -> None:
        if not self.refused:
            log.warning("the ledger's store refuses an entry (%s); it is set aside in %s", reason, self._root / REFUSED)
        line = msgspec.json.encode({"time": time.time(), "reason": reason, "entry": what}) + b"\n"
        try:
            file = os.open(self._root / REFUSED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(file, line)
            finally:
                os.close(file)
        except OSError as error:
            raise Away(f"{REFUSED}: {error.strerror}") from None
        self.refused += 1

    def _adopt(self) -> None:
        """Write what others left that are gone, and remove it."""
        for orphan in orphans.find(self._root):
            with orphan:
                for payloads in orphan.entries(BATCH):
                    self._write([self._decoded(payloads)])
                    self._drain()  # the living do not wait for the dead
                    if self._stop.is_set():
                        return  # the next one begins anew
                lost = [_lost(each) for each in orphan.unended()]
                self.reconciled += self._write([lost[at : at + BATCH] for at in range(0, len(lost), BATCH)])
                self._spool.damaged += orphan.damaged
                orphan.remove()

    def _note_away(self, reason: str) -> None:
        if not self._away:
            log.warning("the ledger's store is away (%s); what happens is kept in %s", reason, self._root)
        self._away = True
        self._database.close()  # and connect anew

    def _note_back(self) -> None:
        if self._away:
            log.info("the ledger's store is back")
        self._away = False


def _size(parts: list[list[Entry]]) -> int:
    return sum(map(len, parts))


def _lost(intent: Intent) -> Entry:
    """What is known of a request whose process died: that it may have cost what it was allowed to."""
    return Entry(
        id=intent.id, time=intent.time, request=intent.request, tenant=intent.tenant, key=intent.key,
        model=intent.model, task=intent.task, dialect=intent.dialect, upstream=intent.upstream, provider_id="",
        provider_key="", billing="routed", billed_to="", status=0, outcome="lost", stream=False, cache="", seconds=0.0,
        estimated=True, cost=intent.most, charge=0, idempotency=intent.idempotency,
    )  # fmt: skip


_intent: Final = msgspec.msgpack.Decoder(Intent).decode
_entry: Final = msgspec.msgpack.Decoder(Entry).decode
