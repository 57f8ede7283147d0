"""A table of slots in a file that all workers of a host have in memory: what `host` counts in.

A slot is six words of eight bytes and one more for each worker: the name's digest (two words, of the first of which
the lowest two bits are the slot's kind; 0: nobody's), four that are its kind's own, and the workers' columns, in which
each writes what it alone holds. A worker that starts clears the column of the one whose place it takes. A name may lie
in any of a WINDOW of slots from where its digest points; where all are in use, one that is empty is given to it, and
where none is, it has no place.

Whoever writes has the lock, and may be killed between any two words: a slot is somebody's only once its first word is
written, which is last.
"""

import ctypes
import fcntl
import hashlib
import mmap
import os
import struct
import sys
from pathlib import Path
from typing import Final

from router.stores.lock import ROBUST, SIZE, FileLock, Lock, Mutex

SLOTS: Final = 65_536
WINDOW: Final = 16  # slots
HEAD: Final = 6  # words of a slot before the columns
OWN, END, TOTAL = 2, 4, 5  # words of a slot: a kind's own four begin; a budget's period ends; held by all workers
WORD: Final = 8  # bytes
FIRST: Final = 512  # bytes before the first slot: the lock, then what this file is
MAGIC: Final = 0x726F7574_65720001
RATE, BUDGET, CONCURRENCY = 1, 2, 3
KIND: Final = 3  # the bits that say which

_NAMED = struct.Struct("=qq")


def digest(name: str, kind: int) -> tuple[int, int]:
    """The two words that stand for a name."""
    first, second = _NAMED.unpack(hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=16).digest())
    return first & ~KIND | kind, second


class Table:
    """`words` are the file's; a slot's position is the number of its first word."""

    def __init__(self, path: Path, index: int, count: int, slots: int = SLOTS, robust: bool = ROBUST) -> None:
        self.column = HEAD + index
        self._width = HEAD + count
        self._slots = slots
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, SIZE)  # a byte that is not of the lock itself
        try:
            self.memory = mmap.mmap(self._descriptor, self._allocated())
            self.words = memoryview(self.memory).cast("q")
            made = self.words[SIZE // WORD] == MAGIC
            here = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
            self.lock: Lock = Mutex(here, not made) if robust else FileLock(self._descriptor)
            self.words[SIZE // WORD] = MAGIC
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, SIZE)
        self._clear_column()

    def _allocated(self) -> int:
        """Room that is really there: a page that cannot be had would kill the worker when it first writes to it."""
        size = FIRST + self._slots * self._width * WORD
        found = os.fstat(self._descriptor).st_size
        if found not in (0, size):
            raise ValueError("the file of limits was made for another number of workers")
        if sys.platform == "linux":
            os.posix_fallocate(self._descriptor, 0, size)
        else:
            os.ftruncate(self._descriptor, size)
        return size

    def _clear_column(self) -> None:
        """What the worker held whose place this one takes. Totals are reckoned anew: it may have died between two."""
        begin = FIRST // WORD
        for number, key in enumerate(self.words[begin :: self._width].tolist()):
            if key and key & KIND != RATE:
                with self.lock:  # for each by itself, so that the other workers go on meanwhile
                    self._clear_own(begin + number * self._width)

    def _clear_own(self, at: int) -> None:
        if self.words[at] & KIND != RATE:
            self.words[at + self.column] = 0
            self.words[at + TOTAL] = sum(self.words[at + HEAD : at + self._width])

    def find(self, name: tuple[int, int], now: int, wall: float) -> int | None:
        """Where a name's slot is, which it is given if it has none. With the lock."""
        words = self.words
        vacant: int | None = None
        first, second = name
        for step in range(min(WINDOW, self._slots)):
            at = FIRST // WORD + (second + step) % self._slots * self._width
            if words[at] == first and words[at + 1] == second:
                return at
            if vacant is None and (not words[at] or self._empty(at, now, wall)):
                vacant = at
        if vacant is not None:
            words[vacant] = 0
            for word in range(vacant + 2, vacant + self._width):
                words[word] = 0
            words[vacant + 1] = second
            words[vacant] = first
        return vacant

    def _empty(self, at: int, now: int, wall: float) -> bool:
        words = self.words
        kind = words[at] & KIND
        if kind == RATE:
            return words[at + OWN] <= now
        if kind == BUDGET and words[at + END] <= wall:
            return True
        return not (words[at + TOTAL] or (kind == BUDGET and words[at + OWN]))

    def clear_columns(self, at: int) -> None:
        for word in range(at + HEAD, at + self._width):
            self.words[word] = 0

    def close(self) -> None:
        self.words.release()
        self.memory.close()
        os.close(self._descriptor)
