"""One lock for the workers of a host, free of system calls while nobody else wants it.

On Linux a robust mutex of pthreads lies in the memory that they share: about 0.2 µs to take and to give back, where
`fcntl` takes 1.2 µs and lets go of the interpreter's lock each time. It outlives its holder: the kernel passes it on
when a process is killed. A holder that is stopped (SIGSTOP, a debugger) is waited for once, for a moment, and then no
more until it goes on: its owner counts without the lock, which can lose what others count in the same few
microseconds, and `missed` says how often. Elsewhere it is `fcntl` on the file, which waits as long as it takes; no
other descriptor of that file may be closed in this process, for that would let go of the lock.

It is between processes, for one thread in each.
"""

import ctypes
import errno
import fcntl
import sys
import time
from typing import Final, Protocol

SIZE: Final = 128  # bytes of shared memory; a mutex has 40 to 64
SPINS: Final = 40  # tries before sleeping: as long as a holder usually needs
PATIENCE: Final = 0.5  # seconds: far longer than any holder that is not stopped
ROBUST: Final = sys.platform == "linux"


class Lock(Protocol):
    """Held inside a `with`, or else counted as missed."""

    missed: int

    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


class Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Mutex:
    """`shared`: the address, in this process, of SIZE bytes that all map. The first worker makes it `fresh`."""

    def __init__(self, shared: int, fresh: bool) -> None:
        held = ctypes.PyDLL(None)  # calls that never wait keep the interpreter's lock, those that may let go of it
        waiting = ctypes.CDLL(None)
        self._mutex = ctypes.c_void_p(shared)
        self._try = held.pthread_mutex_trylock
        self._unlock = held.pthread_mutex_unlock
        self._mend = held.pthread_mutex_consistent
        self._wait = waiting.pthread_mutex_timedlock
        self._held = False
        self._patient = True
        self.missed = 0
        if fresh:
            self._make(held)

    def _make(self, library: ctypes.PyDLL) -> None:
        kind = ctypes.create_string_buffer(SIZE)
        library.pthread_mutexattr_init(kind)
        library.pthread_mutexattr_setpshared(kind, 1)  # PTHREAD_PROCESS_SHARED
        library.pthread_mutexattr_setrobust(kind, 1)  # PTHREAD_MUTEX_ROBUST
        if failed := library.pthread_mutex_init(self._mutex, kind):
            raise OSError(failed, "no mutex for the workers of this host")

    def __enter__(self) -> None:
        code = self._try(self._mutex)
        self._held = not code or self._taken(code)

    def __exit__(self, *_: object) -> None:
        if self._held:
            self._unlock(self._mutex)

    def _taken(self, code: int) -> bool:
        spins = SPINS
        while code == errno.EBUSY and spins:
            spins -= 1
            code = self._try(self._mutex)
        if code == errno.EBUSY and self._patient:
            until = time.time() + PATIENCE
            code = self._wait(self._mutex, ctypes.byref(Timespec(int(until), int(until % 1 * 1e9))))
        if code == errno.EOWNERDEAD:
            code = self._mend(self._mutex)
        self._patient = not code
        self.missed += not self._patient
        return self._patient


class FileLock:
    """`fcntl` on the first SIZE bytes of a file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.missed = 0

    def __enter__(self) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, SIZE)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, SIZE)
