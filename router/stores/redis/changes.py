"""Telling the other replicas that something has changed (a key was revoked), so that they look at once.

It carries no more than a word: what has changed is read where it is kept. Messages get lost while Redis is away, so
each new connection says "" (anything may have changed), and whoever must know asks now and then as well.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import redis.exceptions

from router.stores.redis.answers import Errands
from router.stores.redis.line import TIMEOUT, Away, Line
from router.stores.redis.places import PREFIX

CHANNEL: Final = PREFIX + "changes"
AGAIN: Final = 1.0  # seconds between two attempts to listen
WAIT: Final = 5.0  # seconds after which to look whether the connection stands


class Changes:
    def __init__(self, line: Line) -> None:
        self._line = line
        self._errands = Errands(64)

    def notify(self, what: str) -> None:
        if not self._line.open:
            self._errands.start(self._notify(what))

    async def _notify(self, what: str) -> None:
        with contextlib.suppress(Away):  # they ask now and then
            await self._line.ask("PUBLISH", CHANNEL, what)

    async def listen(self, callback: Callable[[str], None]) -> None:
        """Until it is cancelled. `callback` hears what was notified anywhere, here included."""
        while True:
            if not self._line.open:
                with contextlib.suppress(redis.exceptions.RedisError, OSError, TimeoutError):  # the beat says why
                    await self._hear(callback)
            await asyncio.sleep(AGAIN)

    async def _hear(self, callback: Callable[[str], None]) -> None:
        async with self._line.client.pubsub() as channel:
            async with asyncio.timeout(TIMEOUT):
                await channel.subscribe(CHANNEL)
            while not self._line.open:
                said = await channel.get_message(timeout=WAIT)
                if said is None:
                    continue
                if said["type"] == "subscribe":
                    callback("")
                elif said["type"] == "message":
                    callback(said["data"].decode(errors="replace"))

    async def close(self) -> None:
        await self._errands.close()
