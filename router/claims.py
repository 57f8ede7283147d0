"""Who works on an idempotency key, and what came of it: the words, and a process's own memory of them.

A key is claimed by one request at a time. The claim ends in an answer that is kept, in one that was not kept, or in an
outcome that nobody knows, or it is released and the next may have it. Nothing here knows what a request is.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Final, Literal, Protocol

import msgspec
from pydantic import Field

from router.cache import Kept
from router.settings import Duration, Settings, Size

State = Literal["running", "kept", "not_kept", "unknown"]

BESIDE: Final = 512  # bytes that a key costs beside its answer


class IdempotencySettings(Settings):
    """Requests with an Idempotency-Key."""

    ttl: Duration = Field(default=86_400.0, gt=0)  # how long a key stands for its request
    max_bytes: Size = 256 * 2**20  # of kept answers: of each host, or in memory where it has one worker; 0: off


class Noted(msgspec.Struct, frozen=True, array_like=True):
    """What stands under a key. `asked`: a digest of the request that came with it; `paid`: it must not be made twice,
    so that where who works on it dies, its outcome is unknown.
    """

    asked: bytes
    paid: bool
    state: State = "running"
    answer: Kept | None = None

    def size(self) -> int:
        return BESIDE + (len(self.answer.body) + len(self.answer.lines) if self.answer is not None else 0)


class Unavailable(Exception):
    """The claims cannot be looked at now."""


class Claims(Protocol):
    """By name. All but `open` and `close` may raise Unavailable."""

    async def open(self) -> None: ...

    async def claim(self, name: bytes, noted: Noted) -> Noted | None:
        """What stands there already; None: it is the caller's own now, who must `end` or `release` it."""
        ...

    async def end(self, name: bytes, noted: Noted) -> None: ...
    async def release(self, name: bytes) -> None: ...

    async def changed(self, name: bytes, patience: float) -> None:
        """Come back when what runs there may have ended, or after so many seconds."""
        ...

    async def close(self) -> None: ...


class Memory:
    """Of one process, which takes all claims with it when it dies.

    Where there are too many bytes, the oldest answers are let go of but not their keys; after all answers, the oldest
    keys. A key that is worked on is never let go of.
    """

    def __init__(self, max_bytes: int, ttl: float, clock: Callable[[], float] = monotonic) -> None:
        self._most = max_bytes
        self._ttl = ttl
        self._clock = clock
        self._running: dict[bytes, tuple[Noted, asyncio.Event]] = {}
        self._ended: OrderedDict[bytes, tuple[Noted, float]] = OrderedDict()  # in the order of their ends
        self._kept: OrderedDict[bytes, None] = OrderedDict()  # of those, the ones with an answer
        self.size = 0

    async def open(self) -> None:
        return

    async def claim(self, name: bytes, noted: Noted) -> Noted | None:
        running = self._running.get(name)
        if running is not None:
            return running[0]
        self._expire()
        ended = self._ended.get(name)
        if ended is not None:
            return ended[0]
        self._running[name] = noted, asyncio.Event()
        return None

    async def end(self, name: bytes, noted: Noted) -> None:
        self._expire()
        self._ended[name] = noted, self._clock() + self._ttl
        self.size += noted.size()
        if noted.answer is not None:
            self._kept[name] = None
        while self.size > self._most and self._ended:
            self._shrink()
        await self.release(name)

    async def release(self, name: bytes) -> None:
        running = self._running.pop(name, None)
        if running is not None:
            running[1].set()

    async def changed(self, name: bytes, patience: float) -> None:
        running = self._running.get(name)
        if running is not None:
            try:
                async with asyncio.timeout(patience):
                    await running[1].wait()
            except TimeoutError:
                return

    async def close(self) -> None:
        return

    def _expire(self) -> None:
        now = self._clock()
        while self._ended and next(iter(self._ended.values()))[1] <= now:
            self._forget()

    def _shrink(self) -> None:
        if not self._kept:
            return self._forget()
        name, _ = self._kept.popitem(last=False)
        noted, until = self._ended[name]
        self._ended[name] = msgspec.structs.replace(noted, state="not_kept", answer=None), until
        self.size -= noted.size() - BESIDE
        return None

    def _forget(self) -> None:
        name, (noted, _) = self._ended.popitem(last=False)
        self._kept.pop(name, None)
        self.size -= noted.size()
