"""What processes left in the spool that are gone: their entries, and the intents that never came to an end.

Whoever holds an orphan's lock reads it, writes it into the books and removes it. Killed in between, the next one does
the same again: the ids are the same, and the books take each once.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from router.entry import Intent, id_of
from router.segment import Segment
from router.spool import ENTRY, SLICE, remove, take

NEW: Final = 60.0  # seconds after which a directory that was never finished is nobody's


class Orphan:
    """Locked from `find` on, until it is left as a context."""

    def __init__(self, directory: Path, lock: int) -> None:
        self.directory = directory
        self.damaged = 0
        self.intents: dict[str, bytes] = {}  # without an entry, once all entries are read
        self._lock = lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._lock)

    def entries(self, most: int) -> Iterator[list[bytes]]:
        batch: list[bytes] = []
        ended: set[str] = set()
        for kind, payload in self._pieces():
            name = id_of(payload)
            if name is None:
                self.damaged += 1
            elif kind != ENTRY:
                if name not in ended:
                    self.intents[name] = payload
            else:
                batch.append(payload)
                if self.intents.pop(name, None) is None:
                    ended.add(name)
            if len(batch) >= most:
                yield batch
                batch = []
        if batch:
            yield batch

    def _pieces(self) -> Iterator[tuple[int, bytes]]:
        """Intents that were moved on first: their entries come after them."""
        for path in sorted(each for each in self.directory.iterdir() if each.name[:1] in ("c", "s")):
            with contextlib.suppress(FileNotFoundError, ValueError):  # ValueError: it has no bytes at all
                segment = Segment.load(path)
                try:
                    while pieces := segment.read(SLICE):
                        yield from pieces
                        time.sleep(0)
                    self.damaged += segment.damaged
                finally:
                    segment.close()

    def unended(self) -> Iterator[Intent]:
        """After all entries: what has none."""
        for payload in self.intents.values():
            try:
                yield _intent(payload)
            except msgspec.DecodeError:
                self.damaged += 1

    def remove(self) -> None:
        remove(self.directory)


_intent: Final = msgspec.msgpack.Decoder(Intent).decode


def find(root: Path) -> Iterator[Orphan]:
    """Those that can be had now, one after the other."""
    for directory in sorted(each for each in root.iterdir() if each.is_dir()):
        with contextlib.suppress(FileNotFoundError):
            if directory.name.startswith(".") and time.time() - directory.stat().st_mtime < NEW:
                continue
            lock = take(directory)
            if lock is not None:
                yield Orphan(directory, lock)
