"""Idempotency-Key: the same request sent again by its caller is neither made nor paid for again.

A tenant's key stands for one request for some time. Who comes with it again and asks the same joins the one that runs,
or gets its answer, byte for byte; who asks something else is refused. What failed is forgotten, so that it may be tried
again; but what may have been made and paid for without anybody having its answer (a picture, when its caller left) is
not made again: its outcome is unknown, and that is what is said. An answer too large to be kept is not made again
either.

What was asked is compared by the body's digest. An upload streams past and its boundary is new each time: there it is
the model and the length, which the header's own meaning (a key names one request) makes enough to catch an accident.
"""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

import msgspec

from providers.spec import Fault, Unreadable
from router import relay
from router.cache import LARGEST, Cache, Kept, digest
from router.call import Call
from router.caller import Caller
from router.claims import Claims, IdempotencySettings, Noted, State, Unavailable
from router.errors import Refused, bad_request
from router.keeping import Keeping
from router.record import Record
from router.story import Story

HEADER: Final = b"idempotency-key"
ANSWER: Final = 8 * 2**20  # bytes of the largest answer that is kept
REMOTE: Final = 2**20  # bytes of a body from which on its digest is made in a thread
_REPLAYED: Final = b"idempotent-replayed: true\r\n"
_READABLE: Final = re.compile(rb"[\x20-\x7e]{1,255}").fullmatch
_ONCE: Final = (  # what an answer says of one request alone
    b"x-request-id: ", b"server-timing: ", b"x-router-", b"x-ratelimit-", b"x-compute-type: ", b"inference-id: ",
    b"retry-after: ", b"idempotent-replayed: ",
)  # fmt: skip
_UNSENT: Final = frozenset(  # reasons of attempts that gave no answer because nobody was asked
    {"refused", "dns", "tls", "proxy", "connect_timeout", "queue_timeout", "no usable key", "keys_resting",
     "limit_reached", "unsupported"}
)  # fmt: skip
_BARE: Final[dict[State, State]] = {"kept": "not_kept"}  # what is left of it without its answer
_SAYING: Final[dict[State, tuple[str, str]]] = {
    "unknown": (
        "idempotency_unknown",
        "The first request with this Idempotency-Key ended before its outcome was known; it may have been made and "
        "billed. Send another key to have it made again.",
    ),
    "not_kept": (
        "idempotency_not_kept",
        "The first request with this Idempotency-Key was answered, and its answer was too large to be kept. Send "
        "another key to have it made again.",
    ),
    "running": (
        "idempotency_in_progress",
        "The first request with this Idempotency-Key is still running; ask again with the same key.",
    ),
}


class Idempotency:
    """`claims` outlive a configuration; answers on their way are noted in bounded memory."""

    def __init__(self, settings: IdempotencySettings, claims: Claims) -> None:
        self._claims = claims
        self._on = settings.max_bytes > 0
        largest = min(ANSWER, settings.max_bytes // 4)
        self._room = Cache(LARGEST * largest, 0.0)  # nothing is put there: it counts what is on its way

    def key(self, caller: Caller, call: Call) -> bytes | None:
        """What a request is known by; None where it brings no key. Raises Refused."""
        given = caller.fields.get(HEADER)
        if given is None or not self._on:
            return None
        if not _READABLE(given):
            raise bad_request("Idempotency-Key: expected 1 to 255 printable characters.", "Idempotency-Key")
        if sum(name == HEADER for name, _ in caller.headers) > 1:
            raise bad_request("The request has two Idempotency-Key headers.", "Idempotency-Key", "duplicate_header")
        if call.upload is not None and call.upload.length is None:
            said = "Idempotency-Key: an upload with this header needs a Content-Length."
            raise bad_request(said, "Idempotency-Key")
        own = call.identity.user_key
        whose = hashlib.sha256(own.reveal().encode()).digest() if own is not None else b""
        return digest(call.identity.tenant.encode(), whose, given)

    async def serve(
        self, key: bytes, caller: Caller, call: Call, story: Story, answer: Callable[[Caller], Awaitable[None]]
    ) -> None:
        """Raises what `answer` raises, and Refused."""
        asked = await _asked(caller, call)
        found = await self._claimed(key, Noted(asked, not call.replay), call, story)
        if found is not None:
            return await _again(found, asked, caller, story)
        keeping = Keeping(caller, self._room)
        began = monotonic()
        ended: Noted | None = Noted(asked, True, "unknown") if not call.replay else None
        try:
            await answer(keeping)
            ended = _ended(keeping, call, story, ended, asked, monotonic() - began)
        except (Refused, Unreadable):
            if not _perhaps_made(story.record):
                ended = None
            raise
        finally:
            keeping.close()
            await self._over(key, ended)

    async def _claimed(self, key: bytes, noted: Noted, call: Call, story: Story) -> Noted | None:
        """None: it is this request's to make. Else what stands there, once it has ended or patience has."""
        began = monotonic()
        try:
            while True:
                found = await self._claims.claim(key, noted)
                if found is None or found.state != "running" or found.asked != noted.asked:
                    return found
                left = call.deadline - monotonic()
                if left <= 0:
                    return found
                await self._claims.changed(key, left)
        except Unavailable:
            said = "Keys of idempotency cannot be looked up at the moment; without the header the request is served."
            raise Refused(Fault(503, "idempotency_unavailable", said, "Idempotency-Key", retry_after=1.0)) from None
        finally:
            story.waited += monotonic() - began

    async def _over(self, key: bytes, ended: Noted | None) -> None:
        """Where it cannot be written, the claim stays; that is safer than another bill."""
        with contextlib.suppress(Unavailable):
            if ended is None:
                await self._claims.release(key)
                return
            try:
                await self._claims.end(key, ended)
            except Unavailable:
                state = _BARE.get(ended.state, ended.state)
                await self._claims.end(key, msgspec.structs.replace(ended, state=state, answer=None))


async def _asked(caller: Caller, call: Call) -> bytes:
    """What was asked, as a digest: the path's meaning, the model as it was written, who is billed, and the body."""
    endpoint = call.endpoint
    told = (
        endpoint.dialect.name.encode(),
        endpoint.task.encode(),
        b"stream" if call.stream else b"whole",
        call.model.encode(),
        call.mime.encode(),
        call.accept.encode(),
        caller.fields.get(b"x-hf-bill-to", b""),
    )
    if call.upload is not None:
        return digest(*told, b"upload", b"%d" % (call.upload.length or 0))
    if len(call.body) < REMOTE:
        return digest(*told, call.body)
    return await asyncio.to_thread(digest, *told, call.body)


async def _again(found: Noted, asked: bytes, caller: Caller, story: Story) -> None:
    """The answer of a request that came before; or why there is none."""
    if found.asked != asked:
        said = "This Idempotency-Key was sent before with another request; a key stands for one."
        raise Refused(Fault(422, "idempotency_key_reused", said, "Idempotency-Key"))
    if found.answer is None:
        code, said = _SAYING[found.state]
        after = 1.0 if found.state == "running" else None
        raise Refused(Fault(409, code, said, "Idempotency-Key", retry_after=after))
    kept, record = found.answer, story.record
    now = story.first = monotonic()
    record.status, record.upstream, record.provider_id = kept.status, kept.upstream, kept.provider_id
    record.cache, record.cost, record.charge = "hit", 0, 0
    await caller.answer(kept.status, kept.head() + _REPLAYED + relay.told(story, now), kept.body)


def _ended(
    keeping: Keeping, call: Call, story: Story, failed: Noted | None, asked: bytes, seconds: float
) -> Noted | None:
    """How it ended, where nothing was raised. `failed`: as what it counts where the caller did not get it all."""
    record = story.record
    if record.outcome != "ok":
        return failed
    body = keeping.passed()
    if body is None:
        return Noted(asked, not call.replay, "not_kept")
    lines = b"".join(line for line in keeping.lines.splitlines(True) if not line.startswith(_ONCE))
    kept = Kept(200, lines, body, call.stream, record.upstream, record.provider_id, seconds)
    return Noted(asked, not call.replay, "kept", kept)


def _perhaps_made(record: Record) -> bool:
    """Whether an attempt may have been worked on although no answer came of it."""
    return any((each.status == 0 and each.reason not in _UNSENT) or each.status == 504 for each in record.tries)
