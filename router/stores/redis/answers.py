"""Answers that are kept for all replicas, and claims to be the one that makes them; in time or not at all.

Keeping is nobody's to wait for: too many at once, or one that is too large, is simply not kept. A claim that Redis does
not answer is granted, for a request must not fail for want of it; each replica still has its own single flight.
"""

import asyncio
import secrets
from collections.abc import Coroutine
from typing import Any, Final

from router.stores.redis.line import Away, Line, Script
from router.stores.redis.places import PREFIX
from router.stores.redis.scripts import RELEASE

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
        self._release = Script(RELEASE)
        self._claims: dict[bytes, bytes] = {}
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

    async def claim(self, key: bytes, ttl: float) -> bool:
        """Whether this replica is the one. For so long, or until it releases it."""
        if self._line.open:
            return True
        token = secrets.token_bytes(12)
        try:
            said = await self._line.ask(
                "SET", _name("k", key), token, "NX", "PX", max(1, int(ttl * 1000)), seconds=SECONDS
            )
        except Away as away:
            if away.sent:
                self._claims[key] = token
            return True
        if said is None:
            return False
        self._claims[key] = token
        return True

    def release(self, key: bytes) -> None:
        token = self._claims.pop(key, None)
        if token is not None and not self._line.open:
            self._errands.start(self._give_up(key, token))

    async def _give_up(self, key: bytes, token: bytes) -> None:
        try:
            until = asyncio.get_running_loop().time() + SECONDS
            await self._line.call(self._release, [_name("k", key)], token, until)
        except Away:
            pass  # it ends by itself

    async def close(self) -> None:
        await self._errands.close()


def _name(kind: str, key: bytes) -> str:
    return f"{PREFIX}{kind}:{key.hex()}"
