"""Limits that all replicas hold together, counted in Redis; while it is away, each replica's share, counted here.

A taking is one call (router/stores/redis/takes.py) that answers in time or is undone and counted here instead. All
else is told later, by whoever calls `tell`: nothing that a request does waits for it, and nothing of it is lost or told
twice. A Redis that lost its data is told first what this replica saw last, and only when the others have had the time
to do the same, what has happened since: it then stands where the old one stood.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec

from router.bounds import Asked, Bound, Held, Level, Reached, Store
from router.stores.buckets import Calendar
from router.stores.redis.clock import MICRO
from router.stores.redis.line import TIMEOUT, Away, Line, Script
from router.stores.redis.pending import LARGEST, Batch, Pending
from router.stores.redis.places import PREFIX, Place, Places
from router.stores.redis.scripts import TELL
from router.stores.redis.seen import Seen
from router.stores.redis.shares import Shares
from router.stores.redis.takes import LOST, Takes

TTL: Final = 660.0  # seconds that a reservation stands for: the total deadline and a minute
OTHERS: Final = 2.5  # seconds in which every replica has seen that a Redis knows nothing
TRIES: Final = 5  # of a batch that Redis says is wrong


class Kept(msgspec.Struct, gc=False):
    """What a hold has. `share`: the bound that it was counted against here."""

    place: Place
    n: int
    expires: int
    share: Bound | None


class RedisStore:
    """`fallbacks`: takings decided here; `replayed`: those that Redis has heard of since; `dropped`: batches."""

    remote = True

    def __init__(
        self, line: Line, local: Store, wake: Callable[[], None], replica: str, ttl: float = TTL, replicas: int = 1
    ) -> None:
        self._line = line
        self._local = local
        self._wake = wake
        self._replica = replica
        self._ttl = int(ttl * MICRO)
        self._script = Script(TELL)
        self._places = Places(Calendar(line.clock.seconds))
        self._seen = Seen(line.clock)
        self._takes = Takes(line, self._seen, self._ttl // 1000, self._estranged)
        self._pending = Pending()
        self._batch: Batch | None = None
        self._late: Batch | None = None  # sums of a batch that the Redis before may have heard
        self._number = 1
        self._tries = 0
        self._kept: dict[tuple[str, str], Kept] = {}
        self._marked: dict[str, int] = {}
        self._alone: dict[str, int] = {}  # holds that have waited for Redis in vain: once is enough
        self.strange = False  # Redis is not the one that it was: to be met
        self._silent_until = 0.0
        self.shares = Shares(local, self._seen, self._unsent, replicas)
        self.fallbacks = self.replayed = self.dropped = 0

    @property
    def degraded(self) -> bool:
        return self._line.open or self.silent

    @property
    def failures(self) -> dict[str, int]:
        return self._line.failures

    # Taking

    async def take(self, asked: Asked, hold: str) -> Reached | None:
        places = [(self._places.of(bound), n) for bound, n in asked]
        if not places:
            return None
        if self._line.open or self.silent or hold in self._alone:
            return self._here(places, hold)
        try:
            verdict = await self._takes.ask(hold, places)
        except asyncio.CancelledError:
            self._void(places, hold)
            raise
        if isinstance(verdict, str):
            if verdict == LOST:
                self._void(places, hold)
                self._alone[hold] = self._line.clock.now() + self._ttl
            return self._here(places, hold)
        return self._answered(places, hold, *verdict)

    def _answered(self, places: list[tuple[Place, int]], hold: str, now: int, said: list[Any]) -> Reached | None:
        which = said[0]
        if which < 0:
            return self._here(places, hold)
        if which:
            place, n = places[which - 1]
            self._seen.hear(place, said[1], said[2], now)
            return self._seen.reached(place, n, said[1], said[2], now)
        expires = now + self._ttl
        self._marked[hold] = expires
        for (place, n), (first, second) in zip(places, said[1], strict=True):
            self._seen.hear(place, first, second, now)
            if not place.rate:
                self._kept[place.bound.name, hold] = Kept(place, n, expires, None)
        return None

    def _here(self, places: list[tuple[Place, int]], hold: str) -> Reached | None:
        """By this replica's share. What it lets through Redis will hear of."""
        self.fallbacks += 1
        for place, n in places:
            if place.rate and (full := self._seen.full(place, n, self._unrated(place.key))) is not None:
                return full
        shares = [(self.shares.of(place, n), n) for place, n in places]
        reached = self._local.take(shares, hold)
        if isinstance(reached, Reached):
            bound = next(p.bound for p, _ in places if p.bound.name == reached.bound.name)
            return Reached(bound, self._of_all(bound, reached.used), reached.resets)
        expires = self._line.clock.now() + self._ttl
        for (place, n), (share, _) in zip(places, shares, strict=True):
            self._kept[place.bound.name, hold] = Kept(place, n, expires, share)
            if place.rate:
                self._pending.rate(place, n)
            else:
                self._pending.puts[place.key, hold] = (place, n, expires)
        self._pending.here += 1
        self._wake()
        return None

    def _of_all(self, bound: Bound, used: int) -> int:
        return used if bound.kind == "budget" else min(bound.amount, used * self.shares.replicas)

    def _void(self, places: list[tuple[Place, int]], hold: str) -> None:
        self._pending.voids.append((hold, places))
        self._wake()

    # What is told later

    def settle(self, held: Held, hold: str) -> None:
        here = []
        pending = self._pending
        for bound, taken, used in held:
            place = self._places.of(bound)
            kept = self._kept.pop((bound.name, hold), None)
            if place.rate:
                if used != taken:
                    pending.rate(place, used - taken)
            else:
                pending.free(place if kept is None else kept.place, hold)
                if used and bound.kind == "budget":
                    pending.spend(place, used)
            if kept is not None and kept.share is not None:
                here.append((kept.share, taken, used))
        if here:
            self._local.settle(here, hold)
        self._alone.pop(hold, None)
        if self._marked.pop(hold, 0):
            pending.marks[hold] = None
        self._wake()

    def add(self, bound: Bound, amount: int) -> None:
        place = self._places.of(bound)
        if place.rate:
            self._pending.rate(place, amount)
        elif bound.kind == "budget":
            self._pending.spend(place, amount)
        if place.rate and self.degraded:
            self._local.add(self.shares.of(place), amount)
        self._wake()

    def seed(self, bound: Bound, used: int) -> None:
        if bound.kind == "budget":
            place = self._places.of(bound)
            self._seen.at_least(place, used)
            self._pending.floors[place.key] = (place, self._seen.of(place)[0])
            self._wake()

    def level(self, bound: Bound) -> Level:
        place = self._places.of(bound)
        if not self.degraded:
            return self._seen.level(place)
        level = self._local.level(self.shares.of(place))
        return Level(self._of_all(bound, level.used), level.resets)

    def _unsent(self, key: str) -> int:
        waiting = self._pending.spends.get(key)
        told = [batch.spent.get(key, 0) for batch in (self._batch, self._late) if batch]
        return sum(told) + (waiting[1] if waiting else 0)

    def _unrated(self, key: str) -> int:
        """What a rate will have moved by, once Redis has heard of all."""
        waiting = self._pending.rates.get(key)
        told = [batch.rated.get(key, 0) for batch in (self._batch, self._late) if batch]
        return sum(told) + (waiting[1] if waiting else 0)

    # Telling

    @property
    def silent(self) -> bool:
        """The other replicas must first say what they saw, or what we add would count as part of that."""
        return bool(self._silent_until) and self._silent_until > asyncio.get_running_loop().time()

    @property
    def waiting(self) -> bool:
        """Something could be told now."""
        if self._line.open:
            return False
        sums = not self.silent
        return self._batch is not None or (sums and self._late is not None) or self._pending.any(sums)

    async def tell(self) -> None:
        """All that there is to tell."""
        while self.waiting and not self.strange:
            batch = self._batch = self._batch or self._next()
            try:
                now, states = await self._run(batch)
            except Away as away:
                return self._refused(away)
            if states is False:
                return self._estranged()
            self._batch, self._tries = None, 0
            self._number += 1
            self.replayed += batch.here
            for index, first, second in states:
                self._seen.hear(batch.places[index], first, second, now)
        return None

    def _estranged(self) -> None:
        self.strange = True
        self._wake()

    def _next(self) -> Batch:
        if self.silent or self._late is None:
            return self._pending.cut(self._number, self._replica, self._seen, sums=not self.silent)
        batch, self._late = self._late, None
        batch.number = self._number
        return batch

    async def _run(self, batch: Batch) -> tuple[int, Any]:
        until = asyncio.get_running_loop().time() + TIMEOUT
        message = [self._takes.born, *batch.message(self._ttl // 1000)]
        return await self._line.run(self._script, batch.keys, message, until)

    def _refused(self, away: Away) -> None:
        """Kept until it is heard; but what Redis finds wrong each time must not stop all that comes after it."""
        self._tries += away.reason == "error"
        if self._tries >= TRIES:
            self._batch, self._tries = None, 0
            self._number += 1
            self.dropped += 1

    async def meet(self, born: str) -> None:
        """Which Redis this is. A new one is told what we saw last and what is held, or it raises Away."""
        self.strange = False
        if born == self._takes.born:
            return
        if self._takes.born:
            for batch in self._all():
                batch.keys[0] = f"{PREFIX}s:"  # it has no number
                await self._run(batch)
            if self._batch is not None and self._batch.sums():
                self._late = self._batch
            self._batch = None
            self._silent_until = asyncio.get_running_loop().time() + OTHERS
        self._takes.born = born

    def _all(self) -> list[Batch]:
        """All that is known of now, in calls that may be repeated."""
        batches = [Batch(0, self._replica)]
        entries: list[Any] = [*self._seen.floors()]
        entries += [(hold, kept) for (_, hold), kept in self._kept.items() if not kept.place.rate]
        for entry in entries:
            if len(batches[-1]) >= LARGEST:
                batches.append(Batch(0, self._replica))
            if isinstance(entry[0], Place):
                batches[-1].floor(*entry)
            elif (entry[1].place.key, entry[0]) not in self._pending.puts:
                batches[-1].put(entry[1].place, entry[0], entry[1].n, entry[1].expires)
        return batches

    def forget(self) -> None:
        """Holds that were never settled have expired in Redis, and here too."""
        now = self._line.clock.now()
        for name in [name for name, kept in self._kept.items() if kept.expires < now]:
            del self._kept[name]
        for part in (self._marked, self._alone):
            for hold in [hold for hold, expires in part.items() if expires < now]:
                del part[hold]

    async def close(self) -> None:
        await self._takes.close()
