"""Who rests, told to whoever else serves with the same keys: the workers of this host, and other replicas.

`Resting` (router/health.py) stays the truth of this process; nothing here is asked before it. What begins here goes out
once, at most `SOON` later, several rests in one message; what is told by others is believed and never told on, so no
message runs in a ring. A rest of under a second is over before it would be known. A message that is lost costs one
refusal, which then rests the key here too, so nobody waits for an answer and nothing is sent twice.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any, Final, Protocol

import msgspec

from router.health import Resting
from router.siblings import LONGEST_NAME, Siblings

SOON: Final = 0.03  # seconds for which rests are gathered
LEAST: Final = 1.0  # seconds: a shorter rest is nobody else's business
MOST: Final = 3600.0  # what others say is believed for that long
KEPT: Final = 4096  # reasons; of more the oldest go
MESSAGE: Final = 1024  # rests that one message may bring
WORD: Final = "rest"

Told = tuple[str, float, str]  # a name, seconds, why


class Transport(Protocol):
    """A way to others. What goes wrong on it is its own to bear: `tell` raises nothing."""

    async def tell(self, rests: Sequence[Told]) -> None: ...


class Rests:
    """`publish` what rests here, `merge` what rests elsewhere."""

    def __init__(self, resting: Resting, clock: Callable[[], float] = monotonic) -> None:
        self.resting = resting
        self._clock = clock
        self._ways: tuple[Transport, ...] = ()
        self._whys: dict[str, str] = {}
        self._pending: dict[str, tuple[float, str]] = {}
        self._telling: set[asyncio.Task[None]] = set()

    def open(self, *ways: Transport) -> None:
        """From now on these are told."""
        self._ways = ways

    async def close(self) -> None:
        self._ways = ()
        await asyncio.gather(*self._telling, return_exceptions=True)

    def publish(self, name: str, until: float, why: str) -> None:
        """It rests until then, here and, where that is long enough to matter, everywhere."""
        before = self.resting.until(name)
        if until < before:
            return
        self._note(name, until, why)
        if self._ways and until - max(before, self._clock()) >= LEAST:
            self._pending[name] = until, why
            if len(self._pending) == 1:
                self._in_background(self._told())

    def merge(self, rests: Iterable[Told]) -> None:
        """What others told; what makes no sense in it is left out."""
        now = self._clock()
        for name, seconds, why in rests:
            if math.isfinite(seconds) and seconds > 0.0 and len(name) <= LONGEST_NAME:
                until = now + min(seconds, MOST)
                if until > self.resting.until(name):
                    self._note(name, until, why[:32])

    def why(self, name: str) -> str:
        """What it rested for when it last did; empty where nobody said."""
        return self._whys.get(name, "")

    def _note(self, name: str, until: float, why: str) -> None:
        self.resting.rest(name, until)
        self._whys.pop(name, None)
        if len(self._whys) >= KEPT:
            del self._whys[next(iter(self._whys))]
        self._whys[name] = why

    async def _told(self) -> None:
        await asyncio.sleep(SOON)
        pending, self._pending = self._pending, {}
        now = self._clock()
        rests = [(name, until - now, why) for name, (until, why) in pending.items() if until > now]
        await asyncio.gather(*(way.tell(rests) for way in self._ways))

    def _in_background(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work, name="rests")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)


class ToSiblings:
    """The workers of this host, by their unix sockets."""

    def __init__(self, siblings: Siblings) -> None:
        self._siblings = siblings

    async def tell(self, rests: Sequence[Told]) -> None:
        for message in messages(rests):
            await self._siblings.ask_all(f"{WORD} {message}")


class Shared(Protocol):
    """What replicas share (router/stores/redis): names at rest until a moment of Unix time."""

    heard: Callable[[str, float], None] | None

    def publish(self, name: str, until_unix: float) -> None: ...


class ToReplicas:
    """The other replicas, by a store that keeps a name and its moment: the reason goes before the name."""

    def __init__(self, shared: Shared, rests: Rests) -> None:
        self._shared = shared
        self._rests = rests
        shared.heard = self._heard

    async def tell(self, rests: Sequence[Told]) -> None:
        now = time.time()
        for name, seconds, why in rests:
            self._shared.publish(f"{why} {name}", now + seconds)

    def _heard(self, said: str, seconds: float) -> None:
        why, _, name = said.partition(" ")
        self._rests.merge([(name, seconds, why)])


def messages(rests: Sequence[Told]) -> list[str]:
    """As JSON, each short enough to be a name that siblings ask for; one that cannot be is left out."""
    made: list[str] = []
    parts: list[str] = []
    size = len(WORD) + 3
    for each in rests:
        part = msgspec.json.encode((each[0], round(each[1], 3), each[2])).decode()
        length = len(part.encode()) + 1
        if size + length > LONGEST_NAME and parts:
            made.append(f"[{','.join(parts)}]")
            parts, size = [], len(WORD) + 3
        if size + length <= LONGEST_NAME:
            parts.append(part)
            size += length
    return [*made, f"[{','.join(parts)}]"] if parts else made


def read(message: str | bytes) -> list[Told]:
    """What a message tells; nothing where it cannot be read."""
    try:
        return msgspec.json.decode(message, type=list[Told])[:MESSAGE]
    except (msgspec.DecodeError, UnicodeError):
        return []
