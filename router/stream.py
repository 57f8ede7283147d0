"""A stream of events on its way to the caller: bytes as they came, and another deployment's where they broke off.

Byte-identical to the upstream's but for, by name: an event that is not JSON is dropped, a usage chunk that only we
asked for is taken out, `[DONE]` is added after a real end that lacks it, and `model` where the route says so. Only a
dialect crossing parses events. A stream that breaks is carried on where that can be done unseen (router/splice.py),
else it ends in one error event in the caller's dialect and no `[DONE]`.
"""

import asyncio
import contextlib
import re
from collections import deque
from itertools import islice
from typing import Final, Literal

import msgspec

from providers import spec, sse
from providers.dialects import openai
from router import estimates, failures, splice, usage
from router.attempts import Walker
from router.call import Call
from router.caller import Caller
from router.endings import ENDS, TOKENS_END, broken, writer_of
from router.permit import FUSED, NEAR, Permit
from router.record import Splice
from router.retry import Kind
from router.routing import Plan
from router.secrets import Scrubber
from router.served import Served
from router.story import Story
from router.upstream.faults import Broken

_LAST: Final = 4  # events: behind the one that ends an answer come its usage, [DONE], little else
GRACE: Final = 3.0  # seconds for what comes behind the event that ends an answer: its usage, [DONE], the end
FAREWELL: Final = 0.25  # seconds for the last event of a stream that the end of the server cuts
_RESCUED: Final = frozenset({"closed", "silence", "truncated", "framing", "upstream_error", "diverged"})
_DONE: Final = frozenset({spec.CONVERSATIONAL, spec.TEXT_GENERATION})  # tasks whose OpenAI streams end in [DONE]
_NDJSON: Final = b"content-type: application/x-ndjson\r\n"
_EVENTS: Final = b"content-type: text/event-stream; charset=utf-8\r\n"
_LIVE: Final = b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"
MODEL: Final = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')


class Stream:
    """One caller's stream, of one upstream or, after a splice, of several. `_take` is all that a chunk pays."""

    __slots__ = (
        "_call", "_caller", "_done", "_dry", "_echo", "_ends", "_failed", "_fuse", "_kept", "_last_words", "_notice",
        "_plan", "_room", "_scrubber", "_seam", "_served", "_splitter", "_story", "_task", "_torn", "_walker",
        "_writer",
    )  # fmt: skip

    def __init__(
        self,
        caller: Caller,
        call: Call,
        served: Served,
        story: Story,
        plan: Plan,
        walker: Walker,
        scrubber: Scrubber,
    ) -> None:
        assert served.splitter is not None
        self._caller = caller
        self._call = call
        self._served = served
        self._story = story
        self._plan = plan
        self._walker = walker
        self._scrubber = scrubber
        self._splitter = served.splitter
        self._echo = b'"model":' + msgspec.json.encode(call.model) if plan.route.echo_model else b""
        self._done = False
        self._failed = ""
        self._fuse = story.permit if story.permit is not None and story.permit.fused else None
        self._dry = False  # it needs more than was reserved for it, which is to be asked for
        self._last_words = b""  # an upstream's own error event
        splices = plan.route.splice and walker.splices
        self._kept: deque[bytes] = deque(maxlen=splice.KEPT if splices else _LAST)  # payloads
        self._room = splice.ROOM  # bytes of large payloads that may be kept
        self._torn = False  # something was passed on unread
        self._seam: splice.Seam | None = None
        self._notice = b""  # a comment that says who carries on
        task = self._task = served.candidate.task
        self._writer = writer_of(call, served) if served.prepared.crossed else None
        self._ends = ENDS.get(task, ())
        if call.endpoint.dialect.name in ("tgi", "huggingface") and self._writer is None:
            self._ends = TOKENS_END

    async def run(self, lines: bytes) -> None:
        caller, first = self._caller, self._served.answer
        if self._writer is not None:
            kind = _NDJSON if self._call.endpoint.dialect.name == "ollama" else _EVENTS
            lines = kind + b"".join(line for line in lines.splitlines(True) if not line.startswith(b"content-type:"))
        caller.begin(first.status, lines + _LIVE)
        ended: asyncio.CancelledError | None = None
        try:
            try:
                rest = await self._one_stream()
                while self._failed:
                    if rest:  # a last event that nothing ended
                        caller.write(rest)
                        rest = b""
                    if not await self._rescued():
                        break
                    rest = await self._one_stream()
            except asyncio.CancelledError as error:
                ended = error
            if ended is not None:  # here, for no handler may wait (tests/test_native.py)
                await self._leave()
                raise ended
        finally:
            ended = None  # a ring with its traceback
            self._served.answer.close()
            estimates.streamed(self._story, self._call, self._kept, self._done or self._ended())
        if self._failed:
            record = self._story.record
            record.outcome, record.broken = "broken", self._failed
            if self._failed == FUSED:
                record.code = FUSED
            rest += self._last_words or self._call.endpoint.dialect.fault_event(broken(self._failed))
        await caller.finish(rest)

    async def _leave(self) -> None:
        """Before its end: the caller is gone, or it is we who go."""
        if self._story.gone:
            await self._last_word()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await self._caller.finish(self._call.endpoint.dialect.fault_event(broken("shutdown")))

    async def _last_word(self) -> None:
        """Who leaves with all of an answer in hand still pays for what it used, thoughts that nobody sees included."""
        if self._story.wrote or self._done or not self._ended():
            return
        with contextlib.suppress(Broken, TimeoutError):
            async with asyncio.timeout(GRACE):
                while not self._story.wrote and not await self._served.answer.pour(self._heard):
                    pass

    def _heard(self, data: bytes) -> bool:
        for block in self._splitter.feed(data):
            payload = sse.data(block)
            used, _ = usage.of_event(payload) if payload is not None else (None, False)
            if used is not None:
                self._story.use(used)
        return not self._story.wrote

    async def _one_stream(self) -> bytes:
        """Pass on what one upstream says, to its end or to where it broke (`_failed`); what is left to be said."""
        caller, upstream = self._caller, self._served.answer
        upstream.clocks(self._served.clocks[0])
        upstream.on_quiet = self._quiet
        try:
            first = self._pass(self._served.blocks, False)
            more = not first or caller.write(first)
            while not self._failed:
                if not more:
                    await caller.drained()
                if self._dry and self._fuse is not None:
                    self._dry = False
                    await self._fuse.extend()
                if await upstream.pour(self._take):
                    break
                more = False
        except Broken as broken:
            if not self._failed and not (self._done or self._ended()):  # behind the end of an answer nothing is missed
                self._failed = broken.reason
            return b"" if self._failed else self._closing()
        finally:
            upstream.on_quiet = None  # a ring that only the collector would undo
        return self._end()

    def _ended(self) -> bool:
        """Whether one of the last events said that the answer is complete."""
        return any(end in each for each in islice(reversed(self._kept), _LAST) for end in self._ends)

    def _quiet(self) -> None:
        """Nothing came for a moment: behind the end of an answer nobody need wait long."""
        if self._ends and self._ended():
            answer = self._served.answer
            answer.on_quiet = None
            answer.clocks(min(GRACE, self._served.clocks[0]))

    async def _rescued(self) -> bool:
        """Whether another deployment carries this stream on."""
        broken, reason = self._served.candidate, self._failed
        if reason == "caller" or reason not in _RESCUED:
            return False
        self._walker.broke(broken)
        shape = splice.shape_of(broken)
        passed = self._kept
        whole = passed.maxlen == splice.KEPT and len(passed) < splice.KEPT and not self._torn
        if not whole or shape is None or not splice.allowed(self._call):
            return False
        told = splice.told(passed, shape)
        if told is None:
            return False
        self._served.answer.close()
        record = self._story.record
        resumed = await self._walker.resume(self._call, self._plan, self._story, broken, told)
        if resumed is None:
            record.splices = [*record.splices, Splice(broken.deployment.upstream, reason, "lost")]
            return False
        self._served, continues = resumed
        assert self._served.splitter is not None
        to = self._served.candidate.deployment
        result: Literal["continued", "restarted"] = "continued" if continues else "restarted"
        record.splices = [*record.splices, Splice(broken.deployment.upstream, reason, result, to.name)]
        self._splitter = self._served.splitter
        self._seam = splice.Seam(shape, told, continues)
        self._failed, self._last_words, self._done = "", b"", False
        self._notice = b": %b by %b\n\n" % (result.encode(), to.upstream.encode())
        return True

    def _take(self, data: bytes) -> bool:
        """What one read brought: looked into and passed on. False where no more is wanted for now."""
        splitter = self._splitter
        payload = splitter.lone(data)
        if payload is not None:
            out = self._event(data, payload)
        else:
            torn = splitter.torn
            blocks = splitter.feed(data)
            if blocks and not torn and all(sse.data(block) is None for block in blocks):
                self._served.answer.moved = False  # comments keep a connection up; they are no answer
            out = self._pass(blocks, torn)
        return (not out or self._caller.write(out)) and not self._failed and not self._dry

    def _pass(self, blocks: list[bytes], torn: bool) -> bytes:
        """The blocks that the caller gets, joined: one write for what came together."""
        kept = [block if torn and index == 0 else self._one(block) for index, block in enumerate(blocks)]
        return b"".join(kept)

    def _one(self, block: bytes) -> bytes:
        if self._failed:
            return b""  # what an upstream says behind its error, however it was cut
        payload = sse.data(block)
        if payload is None:
            return block if self._writer is None and not self._notice else b""
        if payload == b"[DONE]":
            self._done = True
            return block if self._writer is None else b""
        if self._splitter.torn and len(block) >= self._splitter.limit:
            self._torn = True
            return block
        return self._event(block, payload)

    def _event(self, block: bytes, payload: bytes) -> bytes:
        """A block with a payload that should be JSON."""
        try:
            found = usage.event(payload)
        except ValueError:
            self._story.record.dropped_events += 1
            return b""
        if found.error is not None:
            return self._erred(block, payload)
        if self._seam is not None:
            followed = self._followed(payload)
            if followed is None:
                return b""
            block, payload = self._notice + sse.event(followed), followed
            self._notice = b""
        if self._fuse is not None and self._burnt(self._fuse, payload):
            return b""
        self._kept.append(payload)
        self._story.events += 1
        if len(payload) > splice.SMALL:
            self._room -= len(payload)
            if self._room < 0 and self._kept.maxlen != _LAST:  # too much to keep: it will not be carried on
                self._kept = deque(self._kept, maxlen=_LAST)
        if found.usage is not None or found.details is not None or found.response is not None:
            used, alone = usage.of_event(payload)
            if used is not None:
                self._story.use(used)
            if alone and self._served.prepared.asked_usage and self._writer is None:
                return b""
        if self._writer is not None:
            return self._written(payload)
        return MODEL.sub(lambda _: self._echo, block, count=1) if self._echo else block

    def _burnt(self, fuse: Permit, payload: bytes) -> bool:
        """Whether what was reserved for this stream is used up by this event, which then nobody gets."""
        fuse.written += estimates.tokens_in(payload)
        if fuse.written <= fuse.most or fuse.widen():
            self._dry = fuse.most - fuse.written < NEAR and fuse.more
            return False
        self._failed = FUSED
        self._last_words = self._call.endpoint.dialect.fault_event(fuse.fault())
        return True

    def _followed(self, payload: bytes) -> bytes | None:
        """An event of a stream that carries on another: what of it the caller has not had."""
        assert self._seam is not None
        try:
            return self._seam.follow(payload)
        except splice.Diverged:
            self._failed = "diverged"
            return None

    def _erred(self, block: bytes, payload: bytes) -> bytes:
        """The upstream's own error event: it is passed on only where nobody carries on."""
        failure = failures.of_error_event(self._served.candidate, [], payload)
        self._failed = "caller" if failure and self._walker.kind_of(failure) is Kind.CALLER else "upstream_error"
        own = self._call.endpoint.dialect.fault_event
        self._last_words = self._scrubber.bytes(block) if self._writer is None else own(broken("upstream_error"))
        return b""

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
        """The connection ended cleanly; whether the answer did is for its events to say."""
        out = b""
        rest = self._splitter.rest()
        if rest and not self._failed:
            out = self._one(rest + b"\n\n")
            if self._writer is None and out:
                out = rest if self._done else out
        if not self._failed and not (self._done or not self._ends or self._ended()):
            self._failed = "truncated"
        return out if self._failed else out + self._closing()

    def _closing(self) -> bytes:
        """What ends a stream whose answer is complete, where the upstream has not said it."""
        if self._writer is not None:
            return self._writer.end()
        if self._task in _DONE and not self._done and self._call.endpoint.dialect.name == "openai":
            return sse.DONE
        return b""
