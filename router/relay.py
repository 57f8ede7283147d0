"""The answer on its way to the caller: headers by an allow-list, bytes as they came, closed once whatever happens.

Streams of events have a file of their own (router/stream.py).
"""

from time import monotonic
from typing import Final

import msgspec

from providers.spec import Fault
from router.attempts import Walker
from router.bounds import NANO
from router.call import Call
from router.caller import Caller
from router.routing import Plan
from router.secrets import Scrubber
from router.served import Served
from router.story import Story
from router.stream import MODEL, Stream
from router.upstream.answer import Answer, Headers
from router.upstream.faults import Broken

PASSED: Final = frozenset(
    {
        b"content-type", b"content-language", b"content-disposition", b"content-encoding",
        b"x-compute-type", b"x-compute-time", b"x-compute-characters", b"x-compute-tokens", b"x-total-time",
        b"x-validation-time", b"x-queue-time", b"x-inference-time", b"x-time-per-token", b"x-prompt-tokens",
        b"x-generated-tokens", b"x-sha", b"openai-processing-ms", b"openai-version", b"inference-id",
    }
)  # fmt: skip

_JSON: Final = b"content-type: application/json\r\n"


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
    ours = now - story.started - waited
    lines = _TOLD % (
        record.id.encode(),
        ours * 1000 if ours > 0.0 else 0.0,
        waited * 1000,
        record.upstream.encode(),
        record.model.encode("ascii", "replace"),
        len(record.tries),
    )
    return lines + story.permit.told() if story.permit is not None else lines


_TOLD: Final = (
    b"x-request-id: %b\r\nserver-timing: router;dur=%.2f, upstream;dur=%.2f\r\n"
    b"x-router-upstream: %b\r\nx-router-model: %b\r\nx-router-attempts: %d\r\n"
)


async def answer(
    caller: Caller, call: Call, served: Served, story: Story, plan: Plan, walker: Walker, scrubber: Scrubber
) -> None:
    """Send what was served; the upstream's answer is closed on every way out."""
    upstream = served.answer
    echo = plan.route.echo_model
    now = story.first = monotonic()
    story.record.status = upstream.status
    try:
        if served.used is not None:
            story.use(served.used)
        if served.form == "full":
            body = _echoed(served.body, call) if echo else served.body
            lines = _kind(call, served, story) if served.prepared.crossed else passed(upstream.headers)
            await caller.answer(upstream.status, lines + told(story, now) + _priced(story), body)
        elif served.form == "events":
            events = Stream(caller, call, served, story, plan, walker, scrubber)
            await events.run(passed(upstream.headers) + told(story, now))
        else:
            lines = _kind(call, served, story) if served.prepared.crossed else passed(upstream.headers)
            await _bytes(caller, served, story, lines + told(story, now))
    finally:
        upstream.close()


def _priced(story: Story) -> bytes:
    """What an answer that is known whole has come to, for who called: tokens, and USD where the price is known."""
    record = story.record
    if story.account is not None:
        story.account.bill(story)
    tokens = record.input_tokens + record.output_tokens
    lines = b"x-total-tokens: %d\r\n" % tokens if tokens else b""
    if record.charge is not None:
        lines += b"x-router-cost: %d.%09d\r\n" % divmod(record.charge, NANO)
    return lines


def _kind(call: Call, served: Served, story: Story) -> bytes:
    """Of an answer that we made of the upstream's: its type, and in the Hub's shape what its API says of computing."""
    lines = b"content-type: %b\r\n" % served.mime.encode("ascii", "replace") if served.mime else _JSON
    if call.endpoint.raw:
        by = served.candidate.provider.name.encode()
        lines += b"x-compute-type: %b\r\nx-compute-time: %.3f\r\n" % (by, story.waited)
    return lines


def passed(headers: Headers) -> bytes:
    lines = b""
    for each in headers:
        if each[0] in PASSED:
            lines += b"%b: %b\r\n" % each
    return lines


def _echoed(body: bytes, call: Call) -> bytes:
    return MODEL.sub(lambda _: b'"model":' + msgspec.json.encode(call.model), body, count=1)


async def _bytes(caller: Caller, served: Served, story: Story, lines: bytes) -> None:
    served.answer.clocks(served.clocks[0])
    await pour(caller, served.answer, story, lines, served.body)


async def pour(caller: Caller, upstream: Answer, story: Story, lines: bytes, first: bytes = b"") -> None:
    """Anything that is neither JSON nor our events: passed on as it comes, with its length where it was known."""
    length = upstream.fields.get(b"content-length")
    caller.begin(upstream.status, lines, None if length is None else int(length))
    try:
        more = caller.write(first) if first else True
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
    story.proven = upstream.framed
    await caller.finish(b"")
