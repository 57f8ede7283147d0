"""The claims of all replicas, in Redis: one script claims, and whose replica falls silent has it no longer.

A claim lives by a lease that its replica renews; where that ends, what was paid for has an unknown outcome and all else
is free again. Answers go up and down in pieces, each within the time that Redis is given. While Redis is away, text is
claimed here alone and what must not be made twice is refused; what ended meanwhile is told when it is back.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Coroutine
from typing import Any, Final

import msgspec

from router.cache import Kept
from router.claims import BESIDE, Claims, Noted, State, Unavailable
from router.stores.redis.line import Away, Line, Script
from router.stores.redis.places import PREFIX

LEASE: Final = 10.0  # seconds after which a silent replica has nothing any more
RENEW: Final = 2.5
POLL: Final = 0.05  # seconds between two looks at what another is at
SECONDS: Final = 0.05  # for one question
PIECE: Final = 256 * 1024  # bytes of an answer sent at once
LATE: Final = 1_000  # ends that wait for Redis to come back

_INDEXES: Final = (PREFIX + "idem:kept", PREFIX + "idem:bare", PREFIX + "idem:size")

# Redis' reader of messages knows no bytes, so that they go as text.
_CLAIM: Final = Script("""
local a = cmsgpack.unpack(ARGV[1])
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'running' and redis.call('EXISTS', KEYS[2]) == 0 then
  if redis.call('HGET', KEYS[1], 'paid') == '1' then
    state = 'unknown'
    redis.call('HSET', KEYS[1], 'state', state)
    redis.call('PEXPIRE', KEYS[1], a.ttl)
  else
    state = false
    redis.call('DEL', KEYS[1])
  end
end
if state then return redis.call('HMGET', KEYS[1], 'state', 'asked', 'paid', 'head', 'owner') end
redis.call('HSET', KEYS[1], 'state', 'running', 'asked', a.asked, 'paid', a.paid, 'owner', a.owner)
redis.call('PEXPIRE', KEYS[1], a.ttl)
redis.call('SET', KEYS[2], a.owner, 'PX', a.lease)
return false
""")

# Whoever was believed dead and was not has the last word, unless another has begun anew.
_END: Final = Script("""
local a = cmsgpack.unpack(ARGV[1])
local name, total = KEYS[1], KEYS[6]
if redis.call('HGET', name, 'owner') ~= a.owner then
  redis.call('DEL', KEYS[3])
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', name, 'state', a.state, 'head', a.head, 'paid', a.paid)
redis.call('PEXPIRE', name, a.ttl)
redis.call('DEL', KEYS[2])
local index = a.state == 'kept' and KEYS[4] or KEYS[5]
redis.call('ZADD', index, now + a.ttl, name .. ' ' .. KEYS[3] .. ' ' .. a.size)
redis.call('INCRBY', total, a.size)
for _, each in ipairs({KEYS[4], KEYS[5]}) do
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', each, '-inf', now, 'LIMIT', 0, 100)) do
    redis.call('ZREM', each, member)
    redis.call('DECRBY', total, string.match(member, '%d+$'))
  end
end
while tonumber(redis.call('GET', total)) > a.most do
  local oldest = redis.call('ZPOPMIN', KEYS[4])
  local kept = oldest[1] ~= nil
  if not kept then oldest = redis.call('ZPOPMIN', KEYS[5]) end
  if oldest[1] == nil then redis.call('SET', total, 0) break end
  local note, body, size = string.match(oldest[1], '^(%S+) (%S+) (%d+)$')
  redis.call('DECRBY', total, size)
  redis.call('DEL', body)
  if kept and redis.call('HGET', note, 'state') == 'kept' then
    redis.call('HSET', note, 'state', 'not_kept', 'head', '')
    redis.call('ZADD', KEYS[5], oldest[2], note .. ' ' .. body .. ' ' .. a.beside)
    redis.call('INCRBY', total, a.beside)
  else
    redis.call('DEL', note)
  end
end
return 1
""")

_RELEASE: Final = Script("""
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] and redis.call('HGET', KEYS[1], 'state') == 'running' then
  redis.call('DEL', KEYS[1], KEYS[2])
end
""")

_RENEW: Final = Script("""
local a = cmsgpack.unpack(ARGV[1])
for place, owner in ipairs(a.owners) do
  local note = KEYS[2 * place - 1]
  if redis.call('HGET', note, 'owner') == owner and redis.call('HGET', note, 'state') == 'running' then
    redis.call('SET', KEYS[2 * place], owner, 'PX', a.lease)
  end
end
""")


class ReplicaClaims:
    """`local`: where text is claimed while Redis is away."""

    def __init__(self, line: Line, local: Claims, max_bytes: int, ttl: float) -> None:
        self._line = line
        self._local = local
        self._most = max_bytes
        self._ttl = int(ttl * 1000)
        self._held: dict[bytes, str] = {}  # name → the token that it was claimed with
        self._here: set[bytes] = set()  # names that are claimed locally
        self._late: dict[tuple[bytes, str], Noted | None] = {}  # ends and releases that Redis has not heard of
        self._pulse: asyncio.Task[None] | None = None
        self._closing = False  # a client may lose a cancellation

    async def open(self) -> None:
        await self._local.open()

    async def claim(self, name: bytes, noted: Noted) -> Noted | None:
        owner = secrets.token_hex(8)
        told = {"owner": owner, "asked": noted.asked.hex(), "paid": int(noted.paid), "ttl": self._ttl}
        try:
            found = await self._call(_CLAIM, [_note(name), _lease(name)], {**told, "lease": int(LEASE * 1000)})
        except asyncio.CancelledError:
            self._tell_later(name, owner, None)
            raise
        except Away as away:
            if away.sent:  # it may have been claimed all the same
                self._tell_later(name, owner, None)
            return await self._claim_here(name, noted)
        if found is not None:
            return await self._read(name, *found)
        self._held[name] = owner
        self._beat()
        return None

    async def end(self, name: bytes, noted: Noted) -> None:
        if name in self._here:
            self._here.discard(name)
            return await self._local.end(name, noted)
        owner = self._held.pop(name, "")
        try:
            await self._end(name, owner, noted)
        except Away:
            self._tell_later(name, owner, noted)
        return None

    async def release(self, name: bytes) -> None:
        if name in self._here:
            self._here.discard(name)
            return await self._local.release(name)
        owner = self._held.pop(name, "")
        try:
            await self._release(name, owner)
        except Away:
            self._tell_later(name, owner, None)
        return None

    async def changed(self, name: bytes, patience: float) -> None:
        if name in self._here:
            return await self._local.changed(name, patience)
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        while (left := until - loop.time()) > 0:
            await asyncio.sleep(min(POLL, left))
            try:
                state = await self._ask("HGET", _note(name), "state")
                if state != b"running" or not await self._ask("EXISTS", _lease(name)):
                    return None
            except Away:
                raise Unavailable("Redis is away") from None
        return None

    async def close(self) -> None:
        self._closing = True
        if self._pulse is not None:
            self._pulse.cancel()
            await asyncio.wait([self._pulse], timeout=1.0)
        with contextlib.suppress(Away):
            await self._tell()
        await self._local.close()

    # Redis

    async def _ask(self, *command: Any) -> Any:
        if self._line.open:
            raise Away("open", False)
        return await self._line.ask(*command, seconds=SECONDS)

    async def _call(self, script: Script, keys: list[str], message: Any) -> Any:
        if self._line.open:
            raise Away("open", False)
        packed = message if isinstance(message, bytes) else msgspec.msgpack.encode(message)
        return await self._line.call(script, keys, packed, asyncio.get_running_loop().time() + SECONDS)

    async def _read(self, name: bytes, state: bytes, asked: bytes, paid: bytes, head: bytes, owner: bytes) -> Noted:
        there: State = msgspec.convert(state.decode(), State)
        noted = Noted(bytes.fromhex(asked.decode()), paid == b"1", there)
        if there != "kept":
            return noted
        size, kept = msgspec.json.decode(head, type=tuple[int, Kept])
        body, starts = _body(name, owner.decode()), range(0, size, PIECE)
        try:
            parts = [await self._ask("GETRANGE", body, start, start + PIECE - 1) for start in starts]
        except Away:
            raise Unavailable("Redis is away") from None
        whole = b"".join(parts)
        if len(whole) != size:  # it was let go of in between
            return msgspec.structs.replace(noted, state="not_kept")
        return msgspec.structs.replace(noted, answer=msgspec.structs.replace(kept, body=whole))

    async def _end(self, name: bytes, owner: str, noted: Noted) -> None:
        body, head = _body(name, owner), b""
        if noted.answer is not None:
            content = noted.answer.body
            await self._ask("SET", body, content[:PIECE], "PX", self._ttl)
            for start in range(PIECE, len(content), PIECE):
                await self._ask("APPEND", body, content[start : start + PIECE])
            head = msgspec.json.encode((len(content), msgspec.structs.replace(noted.answer, body=b"")))
        told = {
            "owner": owner,
            "state": noted.state,
            "paid": int(noted.paid),
            "head": head.decode(),
            "size": noted.size(),
        }
        told |= {"ttl": self._ttl, "most": self._most, "beside": BESIDE}
        await self._call(_END, [_note(name), _lease(name), body, *_INDEXES], told)

    async def _release(self, name: bytes, owner: str) -> None:
        await self._call(_RELEASE, [_note(name), _lease(name)], owner.encode())

    # Without Redis

    async def _claim_here(self, name: bytes, noted: Noted) -> Noted | None:
        if noted.paid:
            raise Unavailable("Redis is away")
        found = await self._local.claim(name, noted)
        if found is None:
            self._here.add(name)
        return found

    def _tell_later(self, name: bytes, owner: str, noted: Noted | None) -> None:
        """Without its answer, which would be held for as long as Redis is away."""
        if noted is not None and noted.answer is not None:
            noted = msgspec.structs.replace(noted, state="not_kept", answer=None)
        if len(self._late) < LATE:
            self._late[name, owner] = noted
        self._beat()

    def _beat(self) -> None:
        if self._pulse is None or self._pulse.done():
            self._pulse = asyncio.create_task(self._run())

    async def _run(self) -> None:
        """As long as anything is held or to be told."""
        while (self._held or self._late) and not self._closing:
            with contextlib.suppress(Away):
                await self._tell()
                await self._renew()
            await asyncio.sleep(RENEW)

    async def _renew(self) -> None:
        held = list(self._held.items())
        if held:
            keys = [key for name, _ in held for key in (_note(name), _lease(name))]
            await self._call(_RENEW, keys, {"owners": [owner for _, owner in held], "lease": int(LEASE * 1000)})

    async def _tell(self) -> None:
        for (name, owner), noted in list(self._late.items()):
            told: Coroutine[Any, Any, None]
            told = self._release(name, owner) if noted is None else self._end(name, owner, noted)
            await told
            self._late.pop((name, owner), None)


def _note(name: bytes) -> str:
    return f"{PREFIX}idem:{name.hex()}"


def _lease(name: bytes) -> str:
    return f"{PREFIX}idem:{name.hex()}:lease"


def _body(name: bytes, owner: str) -> str:
    return f"{PREFIX}idem:{name.hex()}:{owner}"
