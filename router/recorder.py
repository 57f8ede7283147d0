"""The one sink of Records: figures at once, log lines in batches from a thread of their own.

Writing to a pipe can block for as long as its reader likes, so the loop never does it. When the thread cannot keep up,
lines are dropped and counted, and the next line that gets through says how many.
"""

import threading
from collections import deque
from typing import Any, BinaryIO, Final

import msgspec

from router.metrics import Metrics
from router.record import Record
from router.routing import Plan

WAITING: Final = 10_000  # lines
RECENT: Final = 256  # requests that went well at once, and can be looked up
APART: Final = 0.01  # seconds between two of them: memory that is held is not in the processor's cache for the next
REMARKABLE: Final = 1_000  # of the others


class Recorder:
    """`record` is synchronous and never fails a request. `recent` and `remarkable`: the last requests, and
    what was planned for them.
    """

    def __init__(self, metrics: Metrics, log: BinaryIO | None) -> None:
        self.metrics = metrics
        self._log = log
        self._encode = msgspec.json.Encoder().encode
        self.recent: deque[tuple[Record, Plan | None]] = deque(maxlen=RECENT)
        self.remarkable: deque[tuple[Record, Plan | None]] = deque(maxlen=REMARKABLE)
        self._lines: deque[bytes] = deque()  # its ends are safe to use from two threads
        self._lost = 0
        self._next = 0.0
        self._wake = threading.Event()
        self._closing = False
        self._writer: threading.Thread | None = None

    def open(self) -> None:
        if self._log is not None:
            self._writer = threading.Thread(target=self._write, name="log", daemon=True)
            self._writer.start()

    def record(self, record: Record, plan: Plan | None = None) -> None:
        self.metrics.count(record)
        if record.outcome != "ok" or len(record.tries) > 1:
            self.remarkable.append((record, plan))
        elif record.time > self._next:
            self._next = record.time + APART
            self.recent.append((record, plan))
        if self._writer is None:
            return
        if len(self._lines) > WAITING:
            self._lost += 1
            return
        self._lines.append(self._encode(record))

    def last(self, count: int) -> list[Record]:
        """The newest first."""
        newest = sorted((*self.recent, *self.remarkable), key=lambda each: -each[0].time)
        return [record for record, _ in newest[:count]]

    def find(self, request_id: str) -> dict[str, Any] | None:
        """One of the last requests: its record, the candidates in the order of its plan, and those left out."""
        last = (*reversed(self.recent), *reversed(self.remarkable))
        found = next((each for each in last if each[0].id == request_id), None)
        if found is None:
            return None
        record, plan = found
        told: dict[str, Any] = msgspec.to_builtins(record)
        if plan is not None:
            told["candidates"] = [each.deployment.name for each in plan.attempts]
            told["dropped"] = [{"deployment": each.name, "reason": each.reason} for each in plan.dropped]
        return told

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
        if self._writer is not None:
            self._writer.join(timeout=2.0)
            self._writer = None
