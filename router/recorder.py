"""The one sink of Records: figures at once, log lines in batches from a thread of their own.

Writing to a pipe can block for as long as its reader likes, so the loop never does it. When the thread cannot keep up,
lines are dropped and counted, and the next line that gets through says how many.
"""

import threading
from collections import deque
from typing import BinaryIO, Final

import msgspec

from router.metrics import Metrics
from router.record import Record

WAITING: Final = 10_000  # lines


class Recorder:
    """`record` is synchronous and never fails a request."""

    def __init__(self, metrics: Metrics, log: BinaryIO | None) -> None:
        self.metrics = metrics
        self._log = log
        self._encode = msgspec.json.Encoder().encode
        self._lines: deque[bytes] = deque()  # its ends are safe to use from two threads
        self._lost = 0
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        if self._log is not None:
            self._thread = threading.Thread(target=self._write, name="log", daemon=True)
            self._thread.start()

    def record(self, record: Record) -> None:
        self.metrics.count(record)
        if self._thread is None:
            return
        if len(self._lines) > WAITING:
            self._lost += 1
            return
        self._lines.append(self._encode(record))

    def _write(self) -> None:
        assert self._log is not None
        while True:
            closing = self._wake.wait(0.2) and self._closing
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if lost := self._lost:
                self._lost = 0
                lines.append(b'{"lost_log_lines":%d}' % lost)
            if lines:
                try:
                    self._log.write(b"\n".join([*lines, b""]))
                    self._log.flush()
                except (OSError, ValueError):  # nobody reads the log any more: serving goes on
                    return
            if closing:
                return

    def close(self) -> None:
        """Write what is left, then return."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)
            self._thread = None
