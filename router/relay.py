"""The answer on its way to the caller: headers by an allow-list, bytes as they came, closed once whatever happens.

A stream is byte-identical to the upstream's but for, by name: an event that is not JSON is dropped, a usage chunk that
only we asked for is taken out, `[DONE]` is added after a real end that lacks it, and `model` where the route says so.
Events are looked into by byte search; only a dialect crossing parses them. After the first byte a failure is one error
event in the caller's dialect and no `[DONE]`.
"""

import re
from collections import deque
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

import msgspec

from providers import spec, sse
from providers.dialects import openai
from providers.spec import Fault, StreamWriter
from router import usage
from router.attempts import Served
from router.call import Call
from router.caller import Caller
from router.secrets import Scrubber
from router.story import Story
from router.upstream.answer import Headers
from router.upstream.faults import Broken

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
_JSON: Final = b"content-type: application/json\r\n"
_NDJSON: Final = b"content-type: application/x-ndjson\r\n"
_EVENTS: Final = b"content-type: text/event-stream; charset=utf-8\r\n"
_LIVE: Final = b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"


async def refuse(caller: Caller, story: Story, fault: Fault, scrubber: Scrubber) -> None:
    """An error in the dialect of the path that was called. Its code, its field and its attempts may quote an upstream
    as much as its message does, so it is scrubbed as a whole.
    """
    body = scrubber.bytes(story.endpoint.dialect.fault(fault))
    now = story.first = monotonic()
    record = story.record
    record.status, record.code, record.outcome = fault.status, scrubber.text(fault.code), "error"
    lines = _JSON + told(story, now)
    if fault.retry_after is not None:
        lines += b"retry-after: %d\r\n" % max(1, round(fault.retry_after))
    await caller.answer(fault.status, lines, body)


def told(story: Story, now: float) -> bytes:
    """What every answer says of itself."""
    record = story.record
    waited = story.waited
    ours = max(0.0, now - story.started - waited)
    return _TOLD % (
        record.id.encode(),
        ours * 1000,
        waited * 1000,
        record.upstream.encode(),
        record.model.encode("ascii", "replace"),
        len(record.tries),
    )


_TOLD: Final = (
    b"x-request-id: %b\r\nserver-timing: router;dur=%.2f, upstream;dur=%.2f\r\n"
    b"x-router-upstream: %b\r\nx-router-model: %b\r\nx-router-attempts: %d\r\n"
)


async def answer(caller: Caller, call: Call, served: Served, story: Story, echo: bool, scrubber: Scrubber) -> None:
    """Send what was served; the upstream's answer is closed on every way out."""
    upstream = served.answer
    now = story.first = monotonic()
    story.record.status = upstream.status
    try:
        if served.form == "full":
            if served.used is not None:
                story.use(served.used)
            body = _echoed(served.body, call) if echo else served.body
            lines = _JSON if served.prepared.crossed else _passed(upstream.headers)
            await caller.answer(upstream.status, lines + told(story, now), body)
        elif served.form == "events":
            await _Events(caller, call, served, story, echo, scrubber).run(_passed(upstream.headers) + told(story, now))
        else:
            await _bytes(caller, served, story, _passed(upstream.headers) + told(story, now))
    finally:
        upstream.close()


def _passed(headers: Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % each for each in headers if each[0] in PASSED])


def _echoed(body: bytes, call: Call) -> bytes:
    return _MODEL.sub(lambda _: b'"model":' + msgspec.json.encode(call.model), body, count=1)


async def _bytes(caller: Caller, served: Served, story: Story, lines: bytes) -> None:
    """Anything that is neither JSON nor events: passed on as it comes, with its length where it was known."""
    upstream = served.answer
    length = upstream.fields.get(b"content-length")
    caller.begin(upstream.status, lines, None if length is None else int(length))
    upstream.clocks(served.clocks[0])
    try:
        more = caller.write(served.body) if served.body else True
        while True:
            if not more:
                await caller.drained()
            if await upstream.pour(caller.write):
                break
            more = False
    except Broken as broken:
        story.record.outcome, story.record.broken = "broken", broken.reason
        caller.cut()  # there is no error form to end it with
        return
    await caller.finish(b"")


class _Events:
    """One stream of events. `_take` is all that a chunk pays."""

    __slots__ = (
        "_call",
        "_caller",
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

    def __init__(
        self, caller: Caller, call: Call, served: Served, story: Story, echo: bool, scrubber: Scrubber
    ) -> None:
        assert served.splitter is not None
        self._caller = caller
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

    async def run(self, lines: bytes) -> None:
        caller, upstream = self._caller, self._served.answer
        if self._writer is not None:
            kind = _NDJSON if self._call.endpoint.dialect.name == "ollama" else _EVENTS
            lines = kind + b"".join(line for line in lines.splitlines(True) if not line.startswith(b"content-type:"))
        caller.begin(upstream.status, lines + _LIVE)
        upstream.clocks(self._served.clocks[0])
        try:
            first = self._pass(self._served.blocks, False)
            more = not first or caller.write(first)
            while not self._failed:
                if not more:
                    await caller.drained()
                if await upstream.pour(self._take):
                    break
                more = False
        except Broken as broken:
            self._failed = self._failed or ("" if self._done else broken.reason)  # behind [DONE] nothing is missed
            rest = b""
        else:
            rest = self._end()
        if self._failed:
            record = self._story.record
            record.outcome, record.broken = "broken", self._failed
            if self._failed != "upstream_error":
                rest += self._call.endpoint.dialect.fault_event(_broken(self._failed))
        await caller.finish(rest)

    def _take(self, data: bytes) -> bool:
        """What one read brought: looked into and passed on. False where no more is wanted for now."""
        splitter = self._splitter
        payload = splitter.lone(data)
        if payload is not None:
            out = self._event(data, payload)
        else:
            torn = splitter.torn
            out = self._pass(splitter.feed(data), torn)
        return (not out or self._caller.write(out)) and not self._failed

    def _pass(self, blocks: list[bytes], torn: bool) -> bytes:
        """The blocks that the caller gets, joined: one write for what came together."""
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
        return self._event(block, payload)

    def _event(self, block: bytes, payload: bytes) -> bytes:
        """A block with a payload that should be JSON."""
        try:
            found = usage.event(payload)
        except ValueError:
            self._story.record.dropped_events += 1
            return b""
        self._recent.append(payload)
        if found.error is not None:
            self._failed = "upstream_error"
            own = self._call.endpoint.dialect.fault_event
            return self._scrubber.bytes(block) if self._writer is None else own(_broken("upstream_error"))
        if found.usage is not None or found.details is not None or found.response is not None:
            used, alone = usage.of_event(payload)
            if used is not None:
                self._story.use(used)
            if alone and self._served.prepared.asked_usage and self._writer is None:
                return b""
        if self._writer is not None:
            return self._written(payload)
        return _MODEL.sub(lambda _: self._echo, block, count=1) if self._echo else block

    def _written(self, payload: bytes) -> bytes:
        assert self._writer is not None
        try:
            chunk = msgspec.json.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            chunk = None
        if not isinstance(chunk, dict):
            self._story.record.dropped_events += 1
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
