"""What happened and is not in the books yet, in files that outlive this process: intents before calls, entries after.

A directory for each process, with a lock that it holds for its life: whoever can take the lock knows it to be an
orphan's and may write it into the books (router/orphans.py). Appending is a copy into mapped memory and no system call,
except where a segment is full. What is bounded stays so: past the limit, or on a full disk, `Full` is raised. A segment
is deleted once all in it is in the books and no intent in it is open; intents that stay open for long are moved on when
room gets scarce.

One thread appends; one other takes what is to be written, prepares and deletes. As long as that one keeps up it is
handed the entries themselves: the files are written for those who come after a crash. Once it does not (its database is
away) the next segments are for it to read.
"""

import collections
import contextlib
import fcntl
import itertools
import mmap
import os
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from router.entry import Entry, Intent
from router.segment import LONGEST, Segment

SEGMENT: Final = 8 << 20  # bytes
INTENT: Final = 1
ENTRY: Final = 2
SLICE: Final = 128  # records between two chances for other threads
MIRRORED: Final = 20_000  # entries in memory, beyond which the next segment is not mirrored
LOCK: Final = "lock"


class Full(Exception):
    """No room is left for what happens next."""


_encode: Final = msgspec.msgpack.Encoder().encode


class Spool:
    """`has_room` tells whether an intent would be taken; the last segment that fits is left to entries."""

    def __init__(self, directory: Path, limit: int, segment: int = SEGMENT) -> None:
        self.has_room = True
        self.damaged = 0
        self._root = directory
        self._size = max(min(segment, limit // 4) // mmap.PAGESIZE, 1) * mmap.PAGESIZE
        self._most = max(limit // self._size, 2)  # segments
        self._numbers = itertools.count()
        self._denied = False  # the disk refused a segment
        self._segments: list[Segment] = []  # in the order of writing
        self._current: Segment | None = None
        self._spare: Segment | None = None
        self._carried: Segment | None = None  # where open intents of older segments are moved to
        self._where: dict[str, Segment] = {}  # an open intent's id → where it stands
        self._entries: collections.deque[Entry] = collections.deque()  # of mirrored segments, in their order
        self._moving = threading.Lock()  # open intents, from one segment to another
        self._lock = -1
        self.directory = directory

    def open(self) -> None:
        """OSError where the directory cannot be made or written to; a full disk is none."""
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{os.getpid()}-{os.urandom(4).hex()}"
        made = self._root / f".{name}"  # not looked at by others before it is locked
        made.mkdir(mode=0o700)
        self._lock = os.open(made / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.directory = made.rename(self._root / name)
        with contextlib.suppress(Full):
            self._turn(ENTRY)

    def intend(self, intent: Intent) -> None:
        """Raises Full."""
        payload = _encode(intent)
        segment = self._current
        if segment is None or not self.has_room or not segment.put(INTENT, payload):
            segment = self._turned(INTENT, payload)
        segment.open[intent.id] = payload
        self._where[intent.id] = segment

    def settle(self, entry: Entry) -> None:
        """Raises Full, and UnicodeEncodeError or OverflowError for what cannot be written at all."""
        payload = _encode(entry)
        segment = self._current
        if segment is None or not segment.put(ENTRY, payload):
            segment = self._turned(ENTRY, payload)
        if segment.mirrored:
            segment.entries += 1
            self._entries.append(entry)
        self._end(entry.id)  # the last: a mark that is made now is behind its entry

    def _end(self, name: str) -> None:
        segment = self._where.pop(name, None)
        if segment is not None:
            segment.open.pop(name, None)
            if segment.sealed and not segment.open:
                self._closed(segment)

    def _closed(self, segment: Segment) -> None:
        """Nothing in it is open, nor will be: the ends of what was stand no further than here."""
        current = self._current
        if current is not None:
            segment.until = current, current.mark

    def _turned(self, kind: int, payload: bytes) -> Segment:
        """The next segment, with this in it."""
        if len(payload) > min(LONGEST, self._size // 2):
            raise Full
        if kind == INTENT and not self.has_room:
            self._carry()
            raise Full
        following = self._turn(kind)
        following.put(kind, payload)
        return following

    def _turn(self, kind: int) -> Segment:
        """The next segment to append to."""
        if self._scarce:
            self._carry()
        after = len(self._segments) + 1
        if kind == INTENT and after >= self._most:
            self.has_room = False
        if after > self._most or (kind == INTENT and not self.has_room):
            raise Full
        following, self._spare = self._spare, None
        if following is None:
            if self._denied:
                raise Full
            following = self._create("s")
        following.mirrored = len(self._entries) < MIRRORED
        following.number = next(self._numbers)
        self._segments.append(following)
        if self._current is not None:
            self._seal(self._current)
        self._current = following
        return following

    def _seal(self, segment: Segment) -> None:
        segment.sealed = True
        if not segment.open:
            self._closed(segment)

    def _create(self, letter: str) -> Segment:
        try:
            return Segment.create(self.directory / f"{letter}{next(self._numbers):08}", self._size)
        except OSError:
            self._denied, self.has_room = True, False
            raise Full from None

    @property
    def _scarce(self) -> bool:
        return self._denied or len(self._segments) * 2 > self._most

    def _carry(self) -> None:
        """Move open intents on, where they keep a segment and that frees more than it takes."""
        with self._moving:
            for segment in list(self._segments):
                held = sum(map(len, segment.open.values()))
                if held and held * 4 <= self._size and segment.exhausted and not self._carried_on(segment):
                    return

    def _carried_on(self, segment: Segment) -> bool:
        """Whether there was room for all of them."""
        for name, payload in list(segment.open.items()):
            if self._carried is None or not self._carried.put(INTENT, payload):
                if len(self._segments) >= self._most:
                    return False
                try:
                    carried = self._create("c")
                except Full:
                    return False
                if self._carried is not None:
                    self._seal(self._carried)
                self._carried = carried
                carried.mirrored = True
                carried.number = next(self._numbers)
                self._segments.append(carried)
                carried.put(INTENT, payload)
            self._carried.open[name] = segment.open.pop(name)
            self._where[name] = self._carried
        self._closed(segment)
        return True

    # For the other thread.

    def fresh(self, most: int) -> list[Entry]:
        """Entries of mirrored segments, in the order of writing, each once."""
        entries = self._entries
        return [entries.popleft() for _ in range(min(most, len(entries)))]

    def read(self, most: int) -> list[bytes]:
        """Those of the other segments, as they are there."""
        found: list[bytes] = []
        for segment in [each for each in list(self._segments) if not each.mirrored]:
            while len(found) < most and (pieces := segment.read(min(SLICE, most - len(found)))):
                found += [payload for kind, payload in pieces if kind == ENTRY]
                time.sleep(0)
        return found

    @property
    def behind(self) -> bool:
        """There is something to be read."""
        return any(each.behind for each in list(self._segments) if not each.mirrored)

    def intent(self, name: str) -> bytes | None:
        """One that is open."""
        with self._moving:
            segment = self._where.get(name)
            return None if segment is None else segment.open.get(name)

    def end(self, name: str) -> None:
        """Its entry is in the books, and was never here."""
        with self._moving:
            self._end(name)

    def written(self, fresh: int) -> None:
        """All that was read is in the books, and so many of the fresh ones."""
        for segment in [each for each in list(self._segments) if each.mirrored]:
            if not fresh:
                break
            some = min(fresh, segment.entries - segment.written)
            segment.written += some
            fresh -= some
        for segment in list(self._segments):
            if segment.exhausted and not segment.open and self._ended(segment):
                self.damaged += segment.damaged
                self._segments.remove(segment)
                segment.drop()

    def _ended(self, segment: Segment) -> bool:
        """Whether the ends of all that was open in it are in the books."""
        if segment.until is None:
            return False
        last, mark = segment.until
        if last.had < mark:
            return False
        return not any(each.behind for each in list(self._segments) if segment.number < each.number < last.number)

    def prepare(self) -> None:
        """The next segment at hand before it is needed; and whether there is room again."""
        room = len(self._segments) + 1 < self._most
        if room and self._spare is None and (self._denied or not self.has_room or self._nearly()):
            try:
                self._spare = self._create("s")
            except Full:
                return
        if room:
            self._denied, self.has_room = False, True

    def _nearly(self) -> bool:
        return self._current is None or self._current.used * 2 > self._size

    def sync(self) -> None:
        """What was appended before is on the disk when this returns."""
        for path in [*(each.path for each in list(self._segments)), self.directory]:
            with contextlib.suppress(FileNotFoundError):  # all of it is in the books
                _to_disk(path)

    def close(self, unwritten: bool = False) -> None:
        """What is not in the books stays, for whoever finds it. `unwritten`: not all that was read is."""
        empty = not (unwritten or self._where or any(each.behind for each in self._segments))
        for segment in [*self._segments, *([self._spare] if self._spare else [])]:
            segment.close()
        if empty and self._lock >= 0:
            remove(self.directory)
        if self._lock >= 0:
            os.close(self._lock)
        self._segments, self._spare, self._current, self._carried, self._lock = [], None, None, None, -1
        self.has_room, self._denied = False, True


def take(directory: Path) -> int | None:
    """The lock of a process that is gone, as an open file; None while it lives."""
    try:
        lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_nlink:
            return lock
    os.close(lock)
    return None


def remove(directory: Path) -> None:
    """The lock last, so that what is left of it halfway is still found."""
    with contextlib.suppress(OSError):  # another began to look at it, or it is gone
        for path in sorted(directory.iterdir(), key=lambda each: each.name == LOCK):
            path.unlink(missing_ok=True)
        directory.rmdir()


def _to_disk(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
