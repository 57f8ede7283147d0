"""What several replicas know together, in one Redis: limits, rests, answers, changes. One client, breaker and task.

The task is the replica's heart: each second it says that the replica is there, and hears how many there are, whether
Redis is still the one that it was, and who rests. While Redis is away the same beat is the breaker's one probe. Between
beats it tells what has happened. It fails at nothing: without Redis the replica works alone.
"""

import asyncio
import logging
import secrets
from typing import Final

from router.bounds import Store
from router.claims import Claims
from router.stores.redis.answers import SharedAnswers
from router.stores.redis.changes import Changes
from router.stores.redis.claims import ReplicaClaims
from router.stores.redis.clock import MICRO, Clock
from router.stores.redis.limits import TTL, RedisStore
from router.stores.redis.line import TIMEOUT, Away, Line, Script
from router.stores.redis.places import BORN, PREFIX
from router.stores.redis.rests import SharedRests
from router.stores.redis.scripts import BEAT

PULSE: Final = 1.0  # seconds between two beats
GATHER: Final = 0.005  # seconds in which what is told together comes together
GONE: Final = 3.0  # seconds after which a silent replica is no more
FEWER: Final = 5  # beats until it is believed that there are fewer; after an outage all seem silent
FORGET: Final = 60  # beats

LOG: Final = logging.getLogger("router.stores.redis")


class Shared:
    """`replica`: who counts as one when limits are divided; the workers of a host that share `local` give one name."""

    def __init__(
        self,
        url: str,
        local: Store,
        *,
        replica: str = "",
        ttl: float = TTL,
        replicas: int = 1,
        clock: Clock | None = None,
    ) -> None:
        own = secrets.token_hex(8)
        self._replica = replica or own
        self._line = Line(url, clock)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._beat = Script(BEAT)
        self._beats = self._fewer = 0
        self._said = ""
        self._closing = False
        self.limits = RedisStore(self._line, local, self._wake.set, own, ttl, replicas)
        self.rests = SharedRests(self._wake.set)
        self.answers = SharedAnswers(self._line)
        self.changes = Changes(self._line)

    def claims(self, local: Claims, max_bytes: int, ttl: float) -> ReplicaClaims:
        """Idempotency keys of all replicas; `local`: where they are claimed while Redis is away."""
        return ReplicaClaims(self._line, local, max_bytes, ttl)

    @property
    def degraded(self) -> bool:
        return self.limits.degraded

    @property
    def reason(self) -> str:
        """Why Redis is away, in a word."""
        return self._line.reason

    @property
    def replicas(self) -> int:
        return self.limits.shares.replicas

    async def open(self) -> None:
        await self._pulse()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """What can still be told is told."""
        if self._task is not None:
            self._closing = True
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        for part in (self.limits, self.answers, self.changes):
            await part.close()
        await self.limits.tell()
        await self._line.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + PULSE
        while not self._closing:
            await self._rest(due)
            now = loop.time()
            if now >= due or self._urgent:
                due = now + PULSE
                await self._pulse()
            await self.limits.tell()

    @property
    def _urgent(self) -> bool:
        """The next beat should not wait for its time."""
        return (self.limits.strange or self.rests.waiting) and not self._line.open

    async def _rest(self, due: float) -> None:
        """Until the next beat, or until there is something to tell."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(due):
                while True:
                    await self._wake.wait()
                    await asyncio.sleep(GATHER)
                    self._wake.clear()
                    if self.limits.waiting or self._urgent:
                        return
                    if self._line.open:
                        await asyncio.sleep(due - loop.time())
        except TimeoutError:
            pass

    async def _pulse(self) -> None:
        told = self.rests.untold()
        message = [self._replica, int(GONE * MICRO), secrets.token_hex(8), self.rests.left(told)]
        keys = [PREFIX + "replicas", PREFIX + "rests", BORN]
        until = asyncio.get_running_loop().time() + TIMEOUT
        try:
            _, (count, born, rested) = await self._line.run(self._beat, keys, message, until)
            await self.limits.meet(born)
        except Away as away:
            self._say(away.reason)
            return
        self._count(count)
        self.rests.told(told, rested)
        if self._line.open:
            self._line.breaker.close()
            self._line.reason = self._said = ""
            LOG.info("Redis answers")
        self._beats += 1
        if self._beats % FORGET == 0:
            self.limits.forget()

    def _count(self, count: int) -> None:
        shares = self.limits.shares
        self._fewer = self._fewer + 1 if count < shares.replicas else 0
        if count > shares.replicas or self._fewer >= FEWER:
            shares.replicas, self._fewer = max(1, count), 0

    def _say(self, reason: str) -> None:
        """Once for each outage."""
        if self._line.open and self._said != reason:
            self._said = reason
            LOG.warning("Redis is away (%s): limits are counted by this replica alone", reason)
