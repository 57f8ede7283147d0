"""Answers that are kept, and asked for again: under which key, for how long, and which never. No sockets in here.

As on the Serverless API, requests in the Hub's shape are answered from what is kept unless they say not to; requests in
other shapes only where their route says so. Two requests share an answer only where everything is the same that could
tell in it: tenant, whose provider key, model, configuration, shape, task, and all that goes up. Numbers keep their
spelling in that (1 is not 1.0); where bytes could be read in two ways (a name that stands twice in an object below the
top), the bytes themselves are the key. Errors, answers that were cut short and calls of tools are never kept.

Identical requests at the same time are one: the first leads, the others wait for what it keeps. Where it fails or
leaves, the next leads; where its answer will not be kept, all the others go their own way.
"""

import asyncio
import hashlib
import re
import struct
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Final

import msgspec
from cachetools import TTLCache
from pydantic import Field

from providers import spec
from providers.spec import Fields, Task
from router.call import Call
from router.keys import Identity
from router.routing import Route
from router.settings import Duration, Settings, Size

FORM: Final = b"1"  # of keys and of what is kept under them
LARGEST: Final = 8  # of an answer: an eighth of the whole
BESIDE: Final = 512  # bytes that keeping an answer costs beside its own


class CacheSettings(Settings):
    """Answers that are kept, in memory: of requests in the Hub's shape, and of routes that say `cache: true`."""

    max_bytes: Size = 256 * 2**20  # of each worker; 0: nothing is kept
    ttl: Duration = 600.0
    tasks: list[str] = Field(default=[])  # in the Hub's shape; empty: every one


class Kept(msgspec.Struct, frozen=True, gc=False):
    """A whole answer. `lines`: its header lines, but those that are about one request; `seconds`: what it took."""

    status: int
    lines: bytes
    body: bytes
    stream: bool
    upstream: str
    provider_id: str
    seconds: float

    def head(self) -> bytes:
        """What it is answered with: as the Serverless API does, with the time that it took at first."""
        took = b"" if b"x-compute-time: " in self.lines else b"x-compute-time: %.3f\r\n" % self.seconds
        return b"%bx-compute-type: cache\r\n%b" % (self.lines, took)


class Cache:
    """Answers by key: the least used go when there are too many bytes, each when its time is up.

    `borrow` counts the bytes of answers that are still on their way and may be kept at their end.
    """

    def __init__(self, max_bytes: int, ttl: float, clock: Callable[[], float] = monotonic) -> None:
        self.largest = max_bytes // LARGEST
        self._free = max_bytes // 2
        self._kept: TTLCache[bytes, Kept] = TTLCache(max_bytes, ttl, clock, _size)

    @property
    def size(self) -> int:
        return int(self._kept.currsize)

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes) -> Kept | None:
        return self._kept.get(key)

    def put(self, key: bytes, kept: Kept) -> bool:
        """Whether it is kept: what is too large is not."""
        if len(kept.body) > self.largest or _size(kept) > self._kept.maxsize:
            return False
        self._kept[key] = kept
        return True

    def borrow(self, size: int) -> bool:
        if size > self._free:
            return False
        self._free -= size
        return True

    def give_back(self, size: int) -> None:
        self._free += size


def _size(kept: Kept) -> int:
    return len(kept.body) + len(kept.lines) + BESIDE


# Keys


def key_of(call: Call, route: Route, generation: int) -> bytes:
    """What two requests must agree in to share an answer, as a digest."""
    endpoint = call.endpoint
    pinned = [each.name for each in route.deployments] if route.pinned else []
    told = (
        FORM,
        b"%d" % generation,
        *_scope(call.identity),
        endpoint.dialect.name.encode(),
        endpoint.task.encode(),
        b"stream" if call.stream else b"whole",
        route.model.encode(),
        (call.model if route.echo_model else "").encode(),
        msgspec.json.encode(pinned),
        call.accept.encode(),
        call.agent.encode(),
        call.mime.encode(),
    )
    drops = _OURS if endpoint.dialect.name in _HF_SHAPES else _MODEL
    body = (b"raw", call.body) if call.raw else (b"fields", *canonical(call.fields, drops))
    return digest(*told, *body)


_MODEL: Final = frozenset({"model"})  # it is in the key as what it was resolved to
_OURS: Final = frozenset({"model", "options"})  # read by the router, and no part of what goes up
_HF_SHAPES: Final = frozenset({"huggingface", "tgi"})


def _scope(identity: Identity) -> tuple[bytes, bytes]:
    """Whose answers: a tenant's, and those of a caller's own provider key are that key's."""
    key = identity.user_key
    return identity.tenant.encode(), hashlib.sha256(key.reveal().encode()).digest() if key is not None else b""


def digest(*parts: bytes) -> bytes:
    """SHA-256 of the parts, each behind its length, so that no two lists of parts run together."""
    made = hashlib.sha256()
    for part in parts:
        made.update(struct.pack(">Q", len(part)))
        made.update(part)
    return made.digest()


def canonical(fields: Fields, drops: frozenset[str] = frozenset()) -> Iterator[bytes]:
    """Names in order, and each one's value in one form: neither spaces nor the order of names tells in it."""
    for name in sorted(fields):
        if name not in drops:
            yield name.encode()
            yield _canonical(bytes(fields[name]))


def _canonical(value: bytes) -> bytes:
    if value[:1] not in b'[{"' or (value[:1] == b'"' and b"\\" not in value):
        return value  # one form has it, as long as it may be
    try:
        made = msgspec.json.encode(_decode(value), order="sorted")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return value
    return made if _names(made) == _names(value) else value


def _spelled(number: str) -> msgspec.Raw:
    return msgspec.Raw(number.encode())


_decode: Final[Callable[[bytes], Any]] = msgspec.json.Decoder(float_hook=_spelled).decode
_escape: Final = re.compile(rb"\\.", re.DOTALL)
_string: Final = re.compile(rb'"[^"]*"')


def _names(value: bytes) -> int:
    """How many names stand in a JSON value: fewer in the decoded one where one stood twice."""
    bare = _escape.sub(b"", value) if b"\\" in value else value
    return _string.sub(b"", bare).count(b":")


# What may be kept


def wanted(call: Call, route: Route, tasks: frozenset[Task]) -> bool:
    """Whether this request is one to be answered from what is kept. No `tasks`: every task of the Hub's shape."""
    if call.upload is not None or not call.use_cache:
        return False
    if route.cache is not None:
        return route.cache
    endpoint = call.endpoint
    return endpoint.dialect.name == "huggingface" and (not tasks or endpoint.task in tasks)


def may_keep(dialect: str, task: Task, body: bytes) -> bool:
    """Whether a whole, good answer says nothing that only one request should have: a call of a tool, a text that was
    cut short. In the Hub's own shapes a length that was reached is how most texts end, and was asked for.
    """
    if task not in _TEXT:
        return True
    if _CALLS.search(body) is not None:
        return False
    return dialect != "openai" or _CUT.search(body) is None


_TEXT: Final = frozenset({spec.CONVERSATIONAL, spec.TEXT_GENERATION, spec.RESPONSES})
# Quotes inside a JSON string are escaped, so that these find names and values, never what a text quotes.
_CALLS: Final = re.compile(
    rb'"tool_calls"\s*:\s*\[\s*\{|"function_call"\s*:\s*\{|"type"\s*:\s*"\w*_call"|"finish_reason"\s*:\s*"\w*_calls?"'
)
_CUT: Final = re.compile(
    rb'"finish_reason"\s*:\s*"(?:length|content_filter|error)"|"status"\s*:\s*"(?:incomplete|failed|cancelled)"'
)


# Requests that are the same at the same time

_Waiter = asyncio.Future["Kept | Flight | None"]


class Flight:
    """Who leads, and who waits for it. It ends once: by `land`, by `free`, or by `leave` when nobody waits."""

    def __init__(self, flights: dict[bytes, "Flight"], key: bytes) -> None:
        self._flights = flights
        self._key = key
        self._waiters: deque[_Waiter] = deque()
        self._over = False

    def land(self, kept: Kept) -> None:
        """It was kept: here it is, for all."""
        self._end(kept)

    def free(self) -> None:
        """It will not be kept: nobody need wait."""
        self._end(None)

    def leave(self) -> None:
        """Who leads does no more: the next does. Nothing where it is over."""
        while not self._over:
            if not self._waiters:
                return self._end(None)
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter.set_result(self)
        return None

    def _end(self, result: Kept | None) -> None:
        if self._over:
            return
        self._over = True
        del self._flights[self._key]
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(result)
        self._waiters.clear()

    async def wait(self, patience: float) -> "Kept | Flight | None":
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(patience):
                return await waiter
        except TimeoutError:
            self._decline(waiter)
            return None
        except asyncio.CancelledError:
            self._decline(waiter)
            raise

    def _decline(self, waiter: _Waiter) -> None:
        """It waits no more; where it was just told to lead, the next one does."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        elif waiter.done() and not waiter.cancelled() and waiter.result() is self:
            self.leave()


class Flights:
    """Requests under way, by key."""

    def __init__(self) -> None:
        self._flights: dict[bytes, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def board(self, key: bytes, patience: float) -> Kept | Flight | None:
        """A Flight: you lead it, and must `leave` it in the end. Kept: the answer. None: go alone, without waiting."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = Flight(self._flights, key)
            return flight
        return await flight.wait(patience)
