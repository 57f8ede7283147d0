"""What passes through, counted like everything else: a request as a Call, and a look at its answer as it goes by.

The body is between the caller and the provider, so what is read of it here goes by the names that are in use, and by
where it is sent. Nothing is changed: of a stream the same bytes go out, and only where a limit of tokens or money could
end it does an event wait for its own end. What an answer does not say is estimated; what nobody can know stays unknown.
Of a job in a queue the request that makes it is what counts: that it fails later is not seen here.
"""

import contextlib
import re
from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from providers import multipart, spec, sse
from providers.dialects import DIALECTS
from providers.media import sniff
from providers.spec import ANY_TASK, Adapter, Blob, Fields, Task
from router import envelope, estimates, units, usage
from router.bounds import Bound
from router.call import Call, Endpoint
from router.identity import Identity
from router.naming import Known
from router.permit import FUSED, NEAR
from router.routing import Candidate, Place, Plan, Route
from router.story import Story
from router.uploads import boundary_of
from router.upstream.answer import Answer

LARGE: Final = 64 * 1024  # bytes of an event that are kept for estimates
HELD: Final = 16 * 1024 * 1024  # of a JSON answer that goes by, to be read at its end

_ENDS: Final[tuple[tuple[str, Task], ...]] = (  # how a path ends → what it is for
    ("/chat/completions", spec.CONVERSATIONAL),
    ("/completions", spec.TEXT_GENERATION),
    ("/responses", spec.RESPONSES),
    ("/messages", spec.CONVERSATIONAL),
    ("/v2/chat", spec.CONVERSATIONAL),  # Cohere
    ("/v1/chat", spec.CONVERSATIONAL),
    ("/generate", spec.TEXT_GENERATION),
    ("/generate_stream", spec.TEXT_GENERATION),
    ("/embeddings", spec.FEATURE_EXTRACTION),
    ("/embed", spec.FEATURE_EXTRACTION),
    ("/rerank", spec.TEXT_RANKING),
    ("/moderations", spec.MODERATION),
    ("/images/generations", spec.TEXT_TO_IMAGE),
    ("/images/edits", spec.IMAGE_TO_IMAGE),
    ("/audio/speech", spec.TEXT_TO_SPEECH),
    ("/audio/transcriptions", spec.SPEECH_RECOGNITION),
    ("/audio/translations", spec.SPEECH_TRANSLATION),
    ("/videos", spec.TEXT_TO_VIDEO),
)
_PIPELINE: Final = re.compile(r"/pipeline/([a-z0-9-]{1,64})(?:/|$)").search
_BEFORE: Final = ("", "/v1", "/v1/models", "/api/v3", "/v3/hf", "/v3/async", "/models")  # an id that is in the path
_READ: Final = frozenset({"messages", "prompt", "inputs", "input", "query", "documents", "texts", "text"})
_NOWHERE: Final = Adapter()


def billable(method: bytes, path: str, body: bytes) -> bool:
    """Whether somebody may have to pay for it: not for a look at a job, nor for its end."""
    return method == b"POST" and not (path.endswith("/cancel") and len(body.strip()) <= len(b"{}"))


def is_models(path: str, known: Known) -> bool:
    """Whether it is asked where models are, as opposed to the rest of what a provider's API has."""
    path = path.rstrip("/")
    return _ending(path) is not None or (bool(known.names) and _its_own(path, known.deployment.provider_id))


def _ending(path: str) -> Task | None:
    named = _PIPELINE(path)
    return next((task for end, task in _ENDS if path.endswith(end)), named[1] if named is not None else None)


def _its_own(path: str, provider_id: str) -> bool:
    """Whether it is nothing but the model's id, where its provider has it."""
    own = path.removesuffix("/predictions").casefold()
    return any(own == f"{each}/{provider_id}".casefold() for each in _BEFORE)


def asked(story: Story, identity: Identity, path: str, body: bytes, mime: str, known: Known, deadline: float) -> Call:
    """A passage as the Call that it comes to."""
    fields, file = _read(body, mime)
    task = _ending(path.rstrip("/")) or known.task
    if task == ANY_TASK:
        task = spec.CONVERSATIONAL if "messages" in fields else spec.TEXT_GENERATION
    hubs = "inputs" in fields or "parameters" in fields
    endpoint = Endpoint(DIALECTS["huggingface" if hubs else "openai"], task)
    stream = bytes(fields.get("stream", b"")) == b"true" or path.endswith("/generate_stream")
    if file is None and _READ.isdisjoint(fields):
        fields = {**fields, "inputs": msgspec.Raw(body)}  # in words of its own: all of it is what is read
    data, raw = (body, False) if file is None else (file, True)
    name = known.deployment.model or known.deployment.provider_id
    call = Call(story.record.id, endpoint, name, stream, fields, data, identity, deadline)
    call.raw, call.mime = raw, mime
    return call


def planned(call: Call, places: Iterable[tuple[Place, Known]]) -> Plan:
    """The one place that it goes to, under each name that its model may go by, the likeliest first."""
    task, dialect = call.endpoint.task, call.endpoint.dialect.name
    candidates = tuple(
        Candidate(known.deployment, place.provider, _NOWHERE, dialect, task, local=place.local)
        for place, known in places
    )
    route = Route(call.model, tuple(each.deployment for each in candidates), pinned=True)
    return Plan(route, candidates, ())


def bounds_of(identity: Identity, models: Iterable[Known]) -> tuple[Bound, ...]:
    """What limits the models, of all callers and of this one."""
    found: dict[Bound, None] = {}
    for known in models:
        found |= dict.fromkeys(known.bounds)
        for name in (*known.names, known.deployment.provider_id) if identity.per_model else ():
            found |= dict.fromkeys(identity.bounds_for(name))
    return tuple(found)


def _read(body: bytes, mime: str) -> tuple[Fields, bytes | None]:
    """The fields of a body that has any, and the file that it is or brings."""
    begins = body.lstrip()[:1]
    if begins == b"{":
        fields = envelope.read(body)
        if bytes(fields.get("input", b"")).lstrip()[:1] == b"{":  # Replicate's, and not read again as strictly
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return {**msgspec.json.decode(fields.pop("input"), type=Fields), **fields}, None
        return fields, None
    if begins == b"[":
        return {"inputs": msgspec.Raw(body)}, None
    if mime[:10].lower() == "multipart/":
        parts = multipart.parse(body, boundary_of(mime.encode("latin-1")))
        texts = {name: spec.raw(value) for name, value in parts if isinstance(value, str)}
        file = next((value.data for _, value in parts if isinstance(value, Blob)), None)
        return texts, file
    return {}, body if body and sniff(body) else None


class Meter:
    """One passage's: told of its answer, in one way or another, it says in the story what was used."""

    __slots__ = ("_call", "_candidate", "_closed", "_story")

    def __init__(self, call: Call, candidate: Candidate, story: Story) -> None:
        self._call = call
        self._candidate = candidate
        self._story = story
        self._closed = False

    def failed(self) -> None:
        """It was refused: nothing was used."""
        self._closed = True

    def whole(self, body: bytes, answer: Answer) -> None:
        """An answer, or all of it that is JSON."""
        self._closed = True
        call, candidate, used = self._call, self._candidate, None
        with contextlib.suppress(ValueError):  # whatever it is, it is the caller's
            reply = usage.of_reply(body) if body else None
            used = reply.usage if reply is not None else None
        used = estimates.completed(call, candidate, used, answer.fields, body)
        if candidate.task in units.TASKS:
            used = usage.both(used, self._pieces(body))
        if used is not None:
            self._story.use(used)

    def stream(self) -> "Events":
        self._closed = True
        return Events(self._story, self._call)

    def left(self) -> None:
        """The caller did not wait for it. The provider has the request all the same."""
        if self._closed or not self._story.intended:
            return
        self._closed = True
        read = estimates.estimate_input(self._call)
        wanted = units.asked(self._call) if self._candidate.task in units.TASKS else None
        self._story.use(msgspec.structs.replace(wanted or usage.Usage(), input=read or None, estimated=True))

    def _pieces(self, body: bytes) -> usage.Usage | None:
        """A queue's ticket has no pictures yet: as many count as were asked for."""
        if self._candidate.task in units.PAINTED:
            return units.asked(self._call)
        return units.units_of(self._call, self._candidate, body)


class Kept:
    """A JSON answer that goes by, kept to be read at its end; of one beyond all size nothing is."""

    __slots__ = ("_answer", "_meter", "_parts", "_room")

    burnt = dry = False

    def __init__(self, meter: Meter, answer: Answer) -> None:
        self._meter = meter
        self._answer = answer
        self._parts: list[bytes] = []
        readable = b"json" in answer.fields.get(b"content-type", b"") and b"content-encoding" not in answer.fields
        self._room = HELD if readable else 0

    def feed(self, data: bytes) -> bytes:
        self._room -= len(data)
        if self._room >= 0:
            self._parts.append(data)
        elif self._parts:
            self._parts = []
        return data

    async def more(self) -> None:
        """It asks for nothing."""

    def close(self, whole: bool) -> bytes:
        self._meter.whole(b"".join(self._parts) if whole else b"", self._answer)
        return b""


class Events:
    """A stream that goes by. `feed` says what of it the caller gets now: all, but behind a fuse that has `burnt`.
    `dry`: it needs more than was reserved for it, which is to be asked for by `more`.
    """

    __slots__ = ("_call", "_done", "_fuse", "_last", "_splitter", "_story", "burnt", "dry")

    def __init__(self, story: Story, call: Call) -> None:
        self._story = story
        self._call = call
        self._splitter = sse.Splitter()
        self._last: deque[bytes] = deque(maxlen=estimates.SAMPLE)
        self._done = False
        permit = story.permit
        self._fuse = permit if permit is not None and permit.fused else None
        self.burnt = self.dry = False

    def feed(self, data: bytes) -> bytes:
        payload = self._splitter.lone(data)
        if payload is not None:
            self._event(payload)
            return b"" if self.burnt else data
        blocks = self._splitter.feed(data)
        if self._fuse is None:
            for block in blocks:
                self._look(block)
            return data
        passed: list[bytes] = []
        for block in blocks:
            self._look(block)
            if self.burnt:
                break
            passed.append(block)
        return b"".join(passed)

    async def more(self) -> None:
        if self.dry and self._fuse is not None:
            self.dry = False
            await self._fuse.extend()

    def close(self, whole: bool) -> bytes:
        """It has ended, `whole` or not: what is still to be said."""
        story, task = self._story, self._call.endpoint.task
        rest = self._splitter.rest()
        if rest and not self.burnt:
            self._look(rest + b"\n\n")
        estimates.streamed(story, self._call, self._last, whole or self._done)
        if task in units.TASKS:
            story.use(units.asked(self._call))
        if self.burnt and self._fuse is not None:
            story.record.outcome, story.record.broken, story.record.code = "broken", FUSED, FUSED
            return self._call.endpoint.dialect.fault_event(self._fuse.fault())
        return rest if self._fuse is not None else b""

    def _look(self, block: bytes) -> None:
        payload = sse.data(block)
        if payload == b"[DONE]":
            self._done = True
        elif payload is not None:
            self._event(payload)

    def _event(self, payload: bytes) -> None:
        story = self._story
        try:
            found = usage.event(payload)
        except ValueError:  # a piece, or nothing that we know
            return
        if self._fuse is not None:
            self._fuse.written += estimates.tokens_in(payload)
            left = self._fuse.most - self._fuse.written
            self.burnt, self.dry = left < 0, left < NEAR and self._fuse.more
            if self.burnt:
                return
        if found.error is not None:
            story.record.outcome, story.record.broken = "broken", "upstream_error"
        story.events += 1
        self._last.append(payload if len(payload) <= LARGE else b"")
        if found.usage is not None or found.details is not None or found.response is not None:
            used, _ = usage.of_event(payload)
            if used is not None:
                story.use(used)
