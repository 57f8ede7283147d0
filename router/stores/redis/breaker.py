"""Whether Redis is asked at all: after five failures in a row, or one refusal to connect, it is left alone.

Who opened it decides nothing more: each second one probe (the replica's own heartbeat, never a request) shows whether
it is back. It refuses to know what failed; the line says so.
"""

from typing import Final

FAILURES: Final = 5


class Breaker:
    __slots__ = ("_failures", "open")

    def __init__(self) -> None:
        self._failures = 0
        self.open = True  # nobody has seen it as yet

    @property
    def doubted(self) -> bool:
        """Its last word was a failure."""
        return self._failures > 0

    def fail(self, refused: bool = False) -> None:
        self._failures += 1
        if refused or self._failures >= FAILURES:
            self.open = True

    def succeed(self) -> None:
        """Any answer ends a row of failures; only a probe's closes it."""
        self._failures = 0

    def close(self) -> None:
        self._failures = 0
        self.open = False
