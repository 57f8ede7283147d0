"""Takings on their way to Redis: those of one turn of the loop go as one call, each all or nothing by itself.

Each is answered in `TIMEOUT` or is `LOST`: then Redis may have counted it, and whoever asked must have it undone. One
that comes to Redis too late to be of use counts for nothing there; a Redis that stood still would else count it later.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec

from router.stores.redis.line import TIMEOUT, Away, Line, Script
from router.stores.redis.pending import asking
from router.stores.redis.places import BORN, Place, mark_of
from router.stores.redis.scripts import TAKE
from router.stores.redis.seen import Seen

LANES: Final = 8  # calls at a time
MOST: Final = 64  # takings of one call

LOST: Final = "lost"
UNSENT: Final = "unsent"

Verdict = tuple[int, list[Any]] | str  # when by Redis' clock, and TAKE's word


class Taking(msgspec.Struct, eq=False):
    hold: str
    places: list[tuple[Place, int]]
    until: float
    deadline: int
    answer: "asyncio.Future[Verdict]"


class Takes:
    """`strange`: called where Redis is another than the one named by `born`."""

    def __init__(self, line: Line, seen: Seen, ttl_ms: int, strange: Callable[[], None]) -> None:
        self._line = line
        self._strange = strange
        self.born = ""
        self._seen = seen
        self._ttl = ttl_ms
        self._script = Script(TAKE)
        self._waiting: list[Taking] = []
        self._calls: set[asyncio.Task[None]] = set()

    def ask(self, hold: str, places: list[tuple[Place, int]]) -> "asyncio.Future[Verdict]":
        loop = asyncio.get_running_loop()
        deadline = self._line.clock.now() + int(TIMEOUT * 1e6)
        taking = Taking(hold, places, loop.time() + TIMEOUT, deadline, loop.create_future())
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append(taking)
        return taking.answer

    def _flush(self) -> None:
        while self._waiting and len(self._calls) < LANES:
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            task = asyncio.create_task(self._call(batch))
            self._calls.add(task)
            task.add_done_callback(self._called)

    def _called(self, task: "asyncio.Task[None]") -> None:
        self._calls.discard(task)
        self._flush()

    async def _call(self, batch: list[Taking]) -> None:
        loop = asyncio.get_running_loop()
        now, fate = 0, UNSENT
        verdicts: Any = None
        try:
            if not self._line.open and batch[0].until > loop.time():
                fate = LOST
                keys, message = self._written(batch)
                now, verdicts = await self._line.run(self._script, keys, message, batch[0].until)
                if not verdicts:
                    fate = UNSENT
                    self._strange()
        except Away as away:
            fate = LOST if away.sent else UNSENT
        finally:
            for number, each in enumerate(batch):
                if not each.answer.done():
                    each.answer.set_result((now, verdicts[number]) if verdicts else fate)

    def _written(self, batch: list[Taking]) -> tuple[list[str], list[Any]]:
        keys = [BORN]
        takings = []
        for each in batch:
            keys.append(mark_of(each.hold))
            mark, bounds = len(keys), []
            for place, n in each.places:
                keys.append(place.key)
                bounds.append(asking(place, n, len(keys), self._seen))
                if place.queue:
                    keys.append(place.queue)
            takings.append((each.hold, mark, each.deadline, bounds))
        return keys, [self.born, self._ttl, takings]

    async def close(self) -> None:
        if self._calls:
            await asyncio.wait(self._calls, timeout=2 * TIMEOUT)
