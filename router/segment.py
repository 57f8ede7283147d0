"""One file of the spool: a preallocated piece of memory that the kernel keeps, whatever becomes of this process.

A record is an eight-byte word (a checksum, a kind, a length) and what it is of. The payload is written first and the
word after it in one store, so that one which was not finished is never read: zeros stand where its word would be. Disk
space is had before it is written to, so a full disk refuses a new segment and never kills (SIGBUS). Nothing here knows
what the payloads mean.
"""

import mmap
import os
from pathlib import Path
from typing import Final
from zlib import crc32

WORD: Final = 8  # bytes
LONGEST: Final = (1 << 24) - 1  # bytes of a payload
_ZEROS: Final = bytes(1 << 16)

Piece = tuple[int, bytes]  # kind and payload


class Segment:
    """`put` for the one that writes; `read` for the one that reads, who may be another thread."""

    __slots__ = (
        "_at", "_data", "_read", "_words", "damaged", "entries", "mirrored", "number", "open", "path", "sealed",
        "until", "written",
    )  # fmt: skip

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.open: dict[str, bytes] = {}  # what needs to be kept here until its end is: id → payload
        self.mirrored = False  # its entries are handed on in memory: none is read here, but it is known
        self.entries = 0  # how many there are, and
        self.written = 0  # how many of those are in the books
        self.sealed = False  # nothing more will be put
        self.number = 0  # in the order of use
        self.until: tuple[Segment, int] | None = None  # where the ends of all that was open stand, at the latest
        self.damaged = 0  # records whose checksum was wrong
        self._data = data
        self._words = memoryview(data).cast("Q")
        self._at = 0  # the word that the next record begins with
        self._read = 0

    @classmethod
    def create(cls, path: Path, size: int) -> "Segment":
        """OSError where there is no room for all of it; then nothing is left behind."""
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _allocate(file, size)
            return cls(path, mmap.mmap(file, size))
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)

    @classmethod
    def load(cls, path: Path) -> "Segment":
        """One that another process left, to be read."""
        file = os.open(path, os.O_RDONLY)
        try:
            found = cls(path, mmap.mmap(file, os.fstat(file).st_size // WORD * WORD, access=mmap.ACCESS_READ))
        finally:
            os.close(file)
        found.sealed = True
        return found

    def put(self, kind: int, payload: bytes) -> bool:
        """False where there is no room for it."""
        at = self._at
        length = len(payload)
        end = at + 1 + (length + 7 >> 3)
        if end >= len(self._words):  # the last word stays zero, which ends what is read
            return False
        start = at + 1 << 3
        self._data[start : start + length] = payload
        self._words[at] = crc32(payload) << 32 | kind << 24 | length
        self._at = end
        return True

    def read(self, most: int) -> list[Piece]:
        """What has not been read yet."""
        found: list[Piece] = []
        words, data, at = self._words, self._data, self._read
        last = len(words)
        while len(found) < most and at < last and (word := words[at]):
            length = word & LONGEST
            start = at + 1 << 3
            at += 1 + (length + 7 >> 3)
            if at > last:  # not a word of ours
                self.damaged += 1
                at = last
                break
            payload = data[start : start + length]
            if crc32(payload) == word >> 32:
                found.append((word >> 24 & 0xFF, payload))
            else:
                self.damaged += 1
        self._read = at
        return found

    @property
    def used(self) -> int:
        return self._at * WORD

    @property
    def mark(self) -> int:
        """How far it has come."""
        return self.entries if self.mirrored else self._at

    @property
    def had(self) -> int:
        """How far it has been had, on the same scale."""
        return self.written if self.mirrored else self._read

    @property
    def behind(self) -> bool:
        return self.had < self.mark

    @property
    def exhausted(self) -> bool:
        """All has been had that will ever be here."""
        return self.sealed and not self.behind

    def close(self) -> None:
        self._words.release()
        self._data.close()

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self.close()


def _allocate(file: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    while size > 0:
        size -= os.write(file, _ZEROS[:size])
