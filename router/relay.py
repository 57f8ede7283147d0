"""The answer on its way to the caller: headers by an allow-list, bytes as they came, closed once whatever happens.

A stream is byte-identical to the upstream's but for, by name: an event that is not JSON is dropped, a usage chunk that
only we asked for is taken out, `[DONE]` is added after a real end that lacks it, and `model` where the route says so.
Events are looked into by byte search; only a dialect crossing parses them. After the first byte a failure is one error
event in the caller's dialect and no `[DONE]`.
"""

import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from providers import spec, sse
from providers.dialects import openai
from providers.spec import Fault, StreamWriter
from router import usage
from router.attempts import Served
from router.call import Call
from router.secrets import Scrubber
from router.story import Story
from router.upstream.connection import Headers
from router.upstream.faults import Broken

Send = Callable[[Any], Awaitable[None]]

PASSED: Final = frozenset(
    {
        b"content-type", b"content-language", b"content-disposition", b"content-encoding",
        b"x-compute-type", b"x-compute-time", b"x-compute-characters", b"x-compute-tokens", b"x-total-time",
        b"x-validation-time", b"x-queue-time", b"x-inference-time", b"x-time-per-token", b"x-prompt-tokens",
        b"x-generated-tokens", b"x-sha", b"openai-processing-ms", b"openai-version", b"inference-id",
    }
)  # fmt: skip

ENDS: Final[Mapping[str, tuple[bytes, ...]]] = {  # what an event that ends a stream well has in it
    spec.CONVERSATIONAL: (b'"finish_reason":"', b'"finish_reason": "'),
    spec.TEXT_GENERATION: (b'"finish_reason":"', b'"finish_reason": "'),
    spec.RESPONSES: (b'"response.completed"', b'"response.incomplete"', b'"response.failed"'),
}
_DONE: Final = frozenset({spec.CONVERSATIONAL, spec.TEXT_GENERATION})  # tasks whose OpenAI streams end in [DONE]
_MODEL: Final = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')
_JSON: Final = (b"content-type", b"application/json")
_NDJSON: Final = (b"content-type", b"application/x-ndjson")
_EVENTS: Final = (b"content-type", b"text/event-stream; charset=utf-8")


async def refuse(send: Send, story: Story, fault: Fault, now: float, scrubber: Scrubber) -> None:
    """An error in the dialect of the path that was called. Its code, its field and its attempts may quote an upstream
    as much as its message does, so it is scrubbed as a whole.
    """
    body = scrubber.bytes(story.endpoint.dialect.fault(fault))
    story.status, story.code, story.outcome, story.first = fault.status, fault.code, "error", now
    headers = [_JSON, (b"content-length", b"%d" % len(body)), *told(story, now)]
    if fault.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(fault.retry_after))))
    await send({"type": "http.response.start", "status": fault.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def told(story: Story, now: float) -> Headers:
    """What every answer says of itself."""
    total = (now - story.started) * 1000
    waited = story.waited * 1000
    return [
        (b"x-request-id", story.id.encode()),
        (b"server-timing", b"router;dur=%.2f, upstream;dur=%.2f" % (max(0.0, total - waited), waited)),
        (b"x-router-upstream", story.upstream.encode()),
        (b"x-router-model", story.model.encode("ascii", "replace")),
        (b"x-router-attempts", b"%d" % len(story.tries)),
    ]


async def answer(
    send: Send, call: Call, served: Served, story: Story, now: float, echo: bool, scrubber: Scrubber
) -> None:
    """Send what was served; the upstream's answer is closed on every way out."""
    upstream = served.answer
    story.status, story.first = upstream.status, now
    headers = [each for each in upstream.headers if each[0] in PASSED]
    try:
        if served.form == "full":
            await _full(send, call, served, story, headers, now, echo)
        elif served.form == "events":
            await _Events(call, served, story, echo, scrubber).run(send, [*headers, *told(story, now)])
        else:
            await _bytes(send, served, story, [*headers, *told(story, now)])
    finally:
        upstream.close()


async def _full(send: Send, call: Call, served: Served, story: Story, headers: Headers, now: float, echo: bool) -> None:
    body = served.body
    story.usage = served.used
    if echo:
        body = _MODEL.sub(lambda _: b'"model":' + msgspec.json.encode(call.model), body, count=1)
    if served.prepared.crossed:
        headers = [_JSON]
    headers = [*headers, (b"content-length", b"%d" % len(body)), *told(story, now)]
    await send({"type": "http.response.start", "status": served.answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _bytes(send: Send, served: Served, story: Story, headers: Headers) -> None:
    """Anything that is neither JSON nor events: passed on as it comes, with its length where it was known."""
    length = served.answer.header(b"content-length")
    if length is not None:
        headers.append((b"content-length", length))
    await send({"type": "http.response.start", "status": served.answer.status, "headers": headers})
    served.answer.clocks(served.clocks[0])
    data = served.body
    try:
        while data:
            await send({"type": "http.response.body", "body": data, "more_body": True})
            data = await served.answer.chunk()
    except Broken as broken:
        story.outcome, story.broken = "broken", broken.reason
        raise BrokenOff from broken
    await send({"type": "http.response.body", "body": b""})


class BrokenOff(Exception):
    """An answer without an error form of its own broke: the connection must end without a clean end."""


class _Events:
    """One stream of events. `_pass` is all that a chunk pays."""

    __slots__ = (
        "_call",
        "_done",
        "_echo",
        "_failed",
        "_recent",
        "_scrubber",
        "_served",
        "_splitter",
        "_story",
        "_task",
        "_writer",
    )

    def __init__(self, call: Call, served: Served, story: Story, echo: bool, scrubber: Scrubber) -> None:
        assert served.splitter is not None
        self._call = call
        self._served = served
        self._story = story
        self._scrubber = scrubber
        self._splitter = served.splitter
        self._echo = b'"model":' + msgspec.json.encode(call.model) if echo else b""
        self._done = False
        self._failed = ""
        self._recent: deque[bytes] = deque(maxlen=4)
        self._task = served.candidate.task
        self._writer = _writer(call, served) if served.prepared.crossed else None

    async def run(self, send: Send, headers: Headers) -> None:
        upstream = self._served.answer
        if self._writer is not None:
            kind = _NDJSON if self._call.endpoint.dialect.name == "ollama" else _EVENTS
            headers = [kind, *(each for each in headers if each[0] != b"content-type")]
        headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": upstream.status, "headers": headers})
        upstream.clocks(self._served.clocks[0])
        blocks = self._served.blocks
        torn = False
        try:
            while True:
                out = blocks[0] if torn and len(blocks) == 1 else self._pass(blocks, torn)
                if out:
                    await send({"type": "http.response.body", "body": out, "more_body": True})
                if self._failed or not (data := await upstream.chunk()):
                    break
                torn = self._splitter.torn
                blocks = self._splitter.feed(data)
        except Broken as broken:
            self._failed = self._failed or ("" if self._done else broken.reason)  # behind [DONE] nothing is missed
            rest = b""
        else:
            rest = self._end()
        if self._failed:
            self._story.outcome, self._story.broken = "broken", self._failed
            if self._failed != "upstream_error":
                rest += self._call.endpoint.dialect.fault_event(_broken(self._failed))
        await send({"type": "http.response.body", "body": rest})

    def _pass(self, blocks: list[bytes], torn: bool) -> bytes:
        """The blocks that the caller gets, joined: one write for what came together."""
        if len(blocks) == 1:
            return self._one(blocks[0])
        kept = [block if torn and index == 0 else self._one(block) for index, block in enumerate(blocks)]
        return b"".join(kept)

    def _one(self, block: bytes) -> bytes:
        if self._failed:
            return b""  # what an upstream says behind its error, however it was cut
        payload = sse.data(block)
        if payload is None:
            return block if self._writer is None else b""
        if payload == b"[DONE]":
            self._done = True
            return block if self._writer is None else b""
        if self._splitter.torn and len(block) >= self._splitter.limit:
            return block
        if not _is_json(payload):
            self._story.dropped += 1
            return b""
        self._recent.append(payload)
        if b'"error"' in payload and _is_error(payload):
            self._failed = "upstream_error"
            own = self._call.endpoint.dialect.fault_event
            return self._scrubber.bytes(block) if self._writer is None else own(_broken("upstream_error"))
        if b'"usage"' in payload or b'"details"' in payload:
            used, alone = usage.of_event(payload)
            self._story.usage = used or self._story.usage
            if alone and self._served.prepared.asked_usage and self._writer is None:
                return b""
        if self._writer is not None:
            return self._written(payload)
        return _MODEL.sub(lambda _: self._echo, block, count=1) if self._echo else block

    def _written(self, payload: bytes) -> bytes:
        assert self._writer is not None
        try:
            chunk = msgspec.json.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            chunk = None
        if not isinstance(chunk, dict):
            self._story.dropped += 1
            return b""
        try:
            if self._task == spec.CONVERSATIONAL:
                chunk = openai.completion_chunk_of(chunk)
            return self._writer.event(chunk)
        except (LookupError, TypeError, AttributeError, ValueError):
            self._failed = "framing"
            return b""

    def _end(self) -> bytes:
        """The connection ended cleanly; whether the answer did is for its last events to say."""
        out = b""
        rest = self._splitter.rest()
        if rest and not self._failed:
            out = self._one(rest + b"\n\n")
            if self._writer is None and out:
                out = rest if self._done else out
        if self._failed:
            return out
        ends = ENDS.get(self._task, ())
        if self._call.endpoint.dialect.name in ("tgi", "huggingface") and self._writer is None:
            ends = (b'"generated_text":"', b'"generated_text": "')
        finished = self._done or not ends or any(end in each for each in self._recent for end in ends)
        if not finished:
            self._failed = "truncated"
            return out
        if self._writer is not None:
            return out + self._writer.end()
        if self._task in _DONE and not self._done and self._call.endpoint.dialect.name == "openai":
            out += sse.DONE
        return out


class _Rechunk:
    """OpenAI's own completions, of a provider that only chats: canonical chunks as they are."""

    def event(self, chunk: dict[str, Any]) -> bytes:
        return sse.event(msgspec.json.encode(chunk))

    def end(self) -> bytes:
        return sse.DONE


def _writer(call: Call, served: Served) -> StreamWriter:
    codec = call.codec
    return _Rechunk() if codec is None else codec.stream(served.prepared.want)


def _is_json(payload: bytes) -> bool:
    try:
        return usage.is_json(payload)
    except RecursionError:  # nested deeper than anybody could read
        return False


def _is_error(payload: bytes) -> bool:
    try:
        found = msgspec.json.decode(payload, type=usage.Reply)
    except msgspec.DecodeError:
        return False
    return bytes(found.error) != b"null"


_WORDS: Final[Mapping[str, str]] = {
    "closed": "The upstream closed the connection before the answer was complete.",
    "silence": "The upstream fell silent before the answer was complete.",
    "deadline": "The answer took longer than is allowed.",
    "truncated": "The upstream's answer ended before it was complete.",
    "upstream_error": "The upstream reported an error before the answer was complete.",
}


def _broken(reason: str) -> Fault:
    message = _WORDS.get(reason, "The upstream's answer could not be read to its end.")
    return Fault(502, "upstream_stream_broken", message)
