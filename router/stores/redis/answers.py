"""Answers that are kept for all replicas, in time or not at all.

Keeping is nobody's to wait for: too many at once, or one that is too large, is simply not kept. Each replica has its
own single flight; who makes an answer for all is asked only of requests with an Idempotency-Key (claims.py).
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from router.stores.redis.line import Away, Line
from router.stores.redis.places import PREFIX

SECONDS: Final = 0.05
LARGEST: Final = 2**20
AT_ONCE: Final = 16  # so that the limits have most of the connections


class Errands:
    """What is done without anybody waiting, so many at once and no more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, what: Coroutine[Any, Any, None]) -> bool:
        if len(self._tasks) >= self._most:
            what.close()
            return False
        task = asyncio.create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def close(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)


class SharedAnswers:
    def __init__(self, line: Line, largest: int = LARGEST) -> None:
        self._line = line
        self._errands = Errands(AT_ONCE)
        self._asking = 0
        self.largest = largest
        self.dropped = 0  # not kept, for want of room or of time

    async def get(self, key: bytes) -> bytes | None:
        if self._line.open or self._asking >= AT_ONCE:
            return None
        self._asking += 1
        try:
            found = await self._line.ask("GET", _name("a", key), seconds=SECONDS)
        except Away:
            return None
        finally:
            self._asking -= 1
        return found if isinstance(found, bytes) else None

    def put(self, key: bytes, value: bytes, ttl: float) -> None:
        fits = not self._line.open and len(value) <= self.largest and ttl >= 0.001
        if not (fits and self._errands.start(self._put(key, value, ttl))):
            self.dropped += 1

    async def _put(self, key: bytes, value: bytes, ttl: float) -> None:
        try:
            await self._line.ask("SET", _name("a", key), value, "PX", int(ttl * 1000), seconds=SECONDS)
        except Away:
            self.dropped += 1

    async def close(self) -> None:
        await self._errands.close()


def _name(kind: str, key: bytes) -> str:
    return f"{PREFIX}{kind}:{key.hex()}"
