"""A request between the caller and the engine: answered from what is kept, or served and kept.

In goes what the pipeline would do with a caller (`answer`); it is given one that notes what passes, in bounded memory,
and is none the wiser. What is kept is what the caller got, whole, once it has ended well.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, Protocol

import msgspec

from router import relay
from router.cache import Cache, CacheSettings, Flight, Flights, Kept, key_of, may_keep, wanted
from router.call import Call
from router.caller import Caller, Headers
from router.record import Cached
from router.routing import Route
from router.story import Story

STREAMS: Final = 10.0  # seconds to wait for another's stream, which comes whole at its end
OTHERS: Final = 60.0  # seconds to wait for another's answer that somebody need not pay for by the piece
_ONCE: Final = (
    b"x-request-id: ", b"server-timing: ", b"x-router-", b"x-ratelimit-", b"x-compute-type: ", b"inference-id: ",
)  # fmt: skip


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Kept).decode


class Shelf(Protocol):
    """Where several replicas keep their answers (router/stores/redis)."""

    async def get(self, key: bytes) -> bytes | None: ...
    def put(self, key: bytes, value: bytes, ttl: float) -> None: ...


class Keeper:
    """The kept answers of one configuration; `generation` tells it from others, wherever they are kept."""

    def __init__(
        self,
        settings: CacheSettings,
        generation: int = 0,
        clock: Callable[[], float] = monotonic,
        shared: Shelf | None = None,
    ) -> None:
        self._shared = shared
        self._ttl = settings.ttl
        self._cache = Cache(settings.max_bytes, settings.ttl, clock)
        self._flights = Flights()
        self._tasks = frozenset(settings.tasks)
        self._on = bool(settings.max_bytes and settings.ttl)
        self._generation = generation

    def key(self, call: Call, route: Route) -> bytes | None:
        """Under which the answer is kept; None where it is not to be."""
        return key_of(call, route, self._generation) if self._on and wanted(call, route, self._tasks) else None

    async def serve(
        self, key: bytes, caller: Caller, call: Call, story: Story, answer: Callable[[Caller], Awaitable[None]]
    ) -> None:
        """Raises what `answer` raises."""
        kept = self._cache.get(key)
        if kept is not None:
            return await _replay(kept, caller, story, "hit")
        began = monotonic()
        seat = await self._flights.board(key, _patience(call, began))
        if isinstance(seat, Kept):
            story.waited += monotonic() - began
            return await _replay(seat, caller, story, "joined")
        began, waited = monotonic(), monotonic() - began
        story.waited += waited
        if self._shared is not None and (kept := await self._found(self._shared, key, seat)) is not None:
            return await _replay(kept, caller, story, "hit")
        story.record.cache = "miss"
        keeping = Keeping(caller, self._cache, seat)
        try:
            await answer(keeping)
            kept = _kept(keeping, call, story, monotonic() - began)
            if kept is not None and self._shared is not None:
                self._shared.put(key, _encode(kept), self._ttl)
            if kept is not None and self._cache.put(key, kept) and seat is not None:
                seat.land(kept)
            elif seat is not None:
                seat.free()
        finally:
            keeping.close()
            if seat is not None:
                seat.leave()

    async def _found(self, shared: Shelf, key: bytes, seat: Flight | None) -> Kept | None:
        """What another replica has kept."""
        try:
            value = await shared.get(key)
        except asyncio.CancelledError:
            if seat is not None:
                seat.leave()
            raise
        try:
            kept = _decode(value) if value is not None else None
        except msgspec.MsgspecError:  # of another version
            return None
        if kept is not None:
            self._cache.put(key, kept)
            if seat is not None:
                seat.land(kept)
        return kept


def _patience(call: Call, now: float) -> float:
    """Seconds to wait for another's answer: so that there is time left to ask for one's own."""
    half = (call.deadline - now) / 2
    if call.stream:
        return min(STREAMS, half)
    return min(OTHERS, half) if call.replay else half


def _kept(keeping: "Keeping", call: Call, story: Story, seconds: float) -> Kept | None:
    """What passed, where it ended well and is no one request's alone."""
    record = story.record
    body = keeping.passed()
    if body is None or record.outcome != "ok" or not story.proven or record.splices or record.dropped_events:
        return None
    if not may_keep(call.endpoint.dialect.name, call.endpoint.task, body):
        return None
    lines = b"".join(line for line in keeping.lines.splitlines(True) if not line.startswith(_ONCE))
    return Kept(200, lines, body, call.stream, record.upstream, record.provider_id, seconds)


async def _replay(kept: Kept, caller: Caller, story: Story, how: Cached) -> None:
    """The kept answer, whole. Nobody is asked, so that it costs nothing."""
    now = story.first = monotonic()
    record = story.record
    record.status, record.upstream, record.provider_id = kept.status, kept.upstream, kept.provider_id
    record.cache = how
    await caller.answer(kept.status, kept.head() + relay.told(story, now), kept.body)


class Keeping:
    """A Caller that passes everything on and notes the answer, as long as it may yet be kept."""

    __slots__ = ("_borrowed", "_cache", "_caller", "_flight", "_parts", "_whole", "fields", "headers", "lines")

    def __init__(self, caller: Caller, cache: Cache, flight: Flight | None = None) -> None:
        self.headers: Headers = caller.headers
        self.fields = caller.fields
        self.lines = b""
        self._caller = caller
        self._cache = cache
        self._flight = flight
        self._parts: list[bytes] | None = []
        self._borrowed = 0
        self._whole = False

    @property
    def on_gone(self) -> Callable[[], None] | None:
        return self._caller.on_gone

    @on_gone.setter
    def on_gone(self, told: Callable[[], None] | None) -> None:
        self._caller.on_gone = told

    # The request

    async def body(self, limit: int) -> bytes:
        return await self._caller.body(limit)

    async def piece(self) -> bytes | None:
        return await self._caller.piece()

    def whole(self) -> bool:
        return self._caller.whole()

    # The answer

    async def answer(self, status: int, lines: bytes, body: bytes) -> None:
        self._begin(status, lines, len(body))
        self._note(body)
        await self._caller.answer(status, lines, body)
        self._whole = True

    def begin(self, status: int, lines: bytes, length: int | None = None) -> None:
        self._begin(status, lines, length or 0)
        self._caller.begin(status, lines, length)

    def write(self, data: bytes) -> bool:
        self._note(data)
        return self._caller.write(data)

    async def drained(self) -> None:
        await self._caller.drained()

    async def finish(self, data: bytes) -> None:
        self._note(data)
        await self._caller.finish(data)
        self._whole = True

    def cut(self) -> None:
        self._lose()
        self._caller.cut()

    # What is noted of it

    def passed(self) -> bytes | None:
        """The answer's body, where it came to its end and was not too large."""
        return b"".join(self._parts) if self._whole and self._parts is not None else None

    def close(self) -> None:
        self._parts = None
        self._cache.give_back(self._borrowed)
        self._borrowed = 0

    def _begin(self, status: int, lines: bytes, length: int) -> None:
        self.lines = lines
        if status != 200 or length > self._cache.largest:
            self._lose()

    def _note(self, data: bytes) -> None:
        if self._parts is None or not data:
            return
        if self._borrowed + len(data) > self._cache.largest or not self._cache.borrow(len(data)):
            self._lose()
            return
        self._borrowed += len(data)
        self._parts.append(data)

    def _lose(self) -> None:
        """It will not be kept: the memory is let go, and so are those who wait for it."""
        self.close()
        if self._flight is not None:
            self._flight.free()
