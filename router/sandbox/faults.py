"""The table of faults. Each is one function: what was asked and the reply that would have been → the steps played.

A name is a model, `sandbox/NAME`, and a value of the header `x-sandbox-fault`. Nothing here opens a socket.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType
from typing import Final

from router.sandbox import refusals
from router.sandbox.exchange import (
    DONE,
    LAST_CHUNK,
    Call,
    End,
    Events,
    Reply,
    Step,
    chunk,
    framed,
    head,
    head_of,
    sse,
)

SLOW: Final = 20.0
STALL: Final = 30.0
STALL_AFTER: Final = 5  # events
PACE: Final = 0.1
HUGE: Final = 128 * 1024


Play = Callable[[Call, Reply], Iterable[Step]]


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    says: str
    play: Play


def echo(call: Call, reply: Reply) -> Iterable[Step]:
    return framed(reply, call.pace)


def slow_first(call: Call, reply: Reply) -> Iterator[Step]:
    wait = SLOW if call.delay is None else call.delay
    steps = framed(reply)
    if isinstance(reply.body, Events):
        yield next(steps)
    yield wait
    yield from steps


def slow(call: Call, reply: Reply) -> Iterable[Step]:
    return framed(reply, PACE if call.delay is None else call.delay)


def stall(call: Call, reply: Reply) -> Iterator[Step]:
    if isinstance(reply.body, Events):
        yield head_of(reply)
        for event in islice(reply.body.make(), STALL_AFTER):
            yield chunk(event)
    else:
        yield head_of(reply) + reply.body[: len(reply.body) // 2]
    yield STALL if call.delay is None else call.delay
    yield End.CLOSE


def silent(call: Call, reply: Reply) -> Iterator[Step]:
    yield End.HOLD


def cut(call: Call, reply: Reply) -> Iterator[Step]:
    if isinstance(reply.body, Events):
        yield head_of(reply)
        for event in islice(reply.body.make(), reply.body.count * 2 // 5):
            if call.pace:
                yield call.pace
            yield chunk(event)
    else:
        yield head_of(reply) + reply.body[: len(reply.body) * 2 // 5]
    yield End.CLOSE


def cut_in_chunk(call: Call, reply: Reply) -> Iterator[Step]:
    if isinstance(reply.body, Events):
        events = reply.body.make()
        yield head_of(reply)
        for event in islice(events, 2):
            yield chunk(event)
        whole = chunk(next(events, DONE))
    else:
        yield head_of(replace(reply, body=Events(1, lambda: iter(()))))
        whole = chunk(reply.body)
    yield whole[: len(whole) // 2]
    yield End.CLOSE


def no_done(call: Call, reply: Reply) -> Iterable[Step]:
    return framed(_events(reply, lambda events: (event for event in events if event != DONE)), call.pace)


def malformed(call: Call, reply: Reply) -> Iterable[Step]:
    if not isinstance(reply.body, Events):
        return framed(replace(reply, status=200, body=b'{"broken": ', content_type="application/json"), call.pace)
    broken = b'data: {"broken": \n\n'
    return framed(
        _events(reply, lambda events: (broken if at == 2 else event for at, event in enumerate(events))), call.pace
    )


def comments(call: Call, reply: Reply) -> Iterable[Step]:
    def dressed(events: Iterator[bytes]) -> Iterator[bytes]:
        for event in events:
            yield b": keep-alive\r\n\r\n"
            yield event.replace(b"\n", b"\r\n")

    return framed(_events(reply, dressed) if reply.content_type == "text/event-stream" else reply, call.pace)


def error_event(call: Call, reply: Reply) -> Iterable[Step]:
    if not isinstance(reply.body, Events):
        return framed(refusals.server_error(call), call.pace)
    if call.wording == "tgi":
        last = sse({"error": "Request failed during generation: sandbox", "error_type": "generation"})
    else:
        error = {"message": "The server had an error.", "type": "server_error", "param": None, "code": None}
        last = sse({"error": error})

    def failing(events: Iterator[bytes]) -> Iterator[bytes]:
        yield from islice(events, 3)
        yield last

    return framed(_events(reply, failing), call.pace)


def empty(call: Call, reply: Reply) -> Iterable[Step]:
    nothing = Events(0, lambda: iter(())) if isinstance(reply.body, Events) else b""
    return framed(replace(reply, status=200, body=nothing))


def unframed(call: Call, reply: Reply) -> Iterator[Step]:
    yield head(reply.status, ("content-type", reply.content_type), *reply.headers, ("connection", "close"))
    if isinstance(reply.body, Events):
        yield from reply.body.make()
    else:
        yield reply.body
    yield End.CLOSE


def reset(call: Call, reply: Reply) -> Iterator[Step]:
    yield End.RESET


def reset_late(call: Call, reply: Reply) -> Iterator[Step]:
    """Data that a RST overtakes is lost on the caller's side, so it follows after a moment."""
    yield from (step for step in cut(call, reply) if step is not End.CLOSE)
    yield 0.05
    yield End.RESET


def early_close(call: Call, reply: Reply) -> Iterator[Step]:
    yield head_of(reply)
    yield End.CLOSE


def no_head(call: Call, reply: Reply) -> Iterator[Step]:
    yield End.CLOSE


def garbage(call: Call, reply: Reply) -> Iterator[Step]:
    yield b"\x15\x03\x01\x00\x02\x02\x28 this is not HTTP\r\n\r\n"
    yield End.CLOSE


def bad_chunk(call: Call, reply: Reply) -> Iterator[Step]:
    events = reply.body if isinstance(reply.body, Events) else Events(1, lambda: iter((b"",)))
    yield head_of(replace(reply, body=events))
    for event in islice(events.make(), 2):
        yield chunk(event) if event else b""
    yield b"zz\r\nnot a length\r\n"
    yield End.CLOSE


def after_the_end(call: Call, reply: Reply) -> Iterator[Step]:
    *rest, last = framed(reply, call.pace)
    yield from rest
    yield (last if isinstance(last, bytes) else LAST_CHUNK) + b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nextra"


def huge_header(call: Call, reply: Reply) -> Iterable[Step]:
    return framed(replace(reply, headers=(*reply.headers, ("x-huge", "a" * HUGE))), call.pace)


def always(make: Callable[[Call], Reply]) -> Play:
    return lambda call, reply: framed(make(call))


def every_other(play: Play) -> Play:
    """The first call fails, the second goes well, the third fails."""
    return lambda call, reply: (play if call.turn % 2 else echo)(call, reply)


def flaky(call: Call, reply: Reply) -> Iterable[Step]:
    nth, rest = divmod(call.turn, 3)
    if rest:
        return echo(call, reply)
    return (always(refusals.unavailable), reset, cut)[(nth - 1) % 3](call, reply)


def _events(reply: Reply, change: Callable[[Iterator[bytes]], Iterator[bytes]]) -> Reply:
    """The same reply with its events changed; unchanged where it is not streamed."""
    body = reply.body
    if not isinstance(body, Events):
        return reply
    return replace(reply, body=Events(body.count, lambda: change(body.make())))


FAULTS: Final[Mapping[str, Fault]] = MappingProxyType(
    {
        name: Fault(name, says, play)
        for name, says, play in (
            ("echo", "no fault: answers with the prompt", echo),
            ("slow-first", "headers at once and the first event after 20 s; whole answers after 20 s", slow_first),
            ("slow", "100 ms before every event", slow),
            ("stall", "silent after five events (or half a body), closed after 30 s", stall),
            ("silent", "takes the request and never answers", silent),
            ("cut", "closed after 40 % of the events (or of the promised body)", cut),
            ("cut-in-chunk", "closed in the middle of a chunk", cut_in_chunk),
            ("no-done", "a whole stream, without data: [DONE]", no_done),
            ("malformed", "the third event is not JSON; a whole answer is 200 and not JSON", malformed),
            ("comments", "a keep-alive comment before every event, lines end in CRLF", comments),
            ("error-event", "200, three events, then an error event; whole answers: 500", error_event),
            ("empty", "200 with nothing in it", empty),
            ("unframed", "no length and no chunks: the body ends with the connection", unframed),
            ("reset", "RST before any byte", reset),
            ("reset-once", "RST before any byte on odd calls", every_other(reset)),
            ("reset-late", "RST after 40 % of the events (or of the promised body)", reset_late),
            ("early-close", "closed right after the head", early_close),
            ("no-head", "closed before any byte", no_head),
            ("garbage", "answers something that is not HTTP", garbage),
            ("bad-chunk", "a chunk whose length is not a number", bad_chunk),
            ("after-the-end", "a whole answer, and bytes after it that nobody asked for", after_the_end),
            ("huge-header", "a header of 128 KiB", huge_header),
            ("429", "429 with retry-after: 2, for ever", always(refusals.rate_limited)),
            ("429-once", "429 with retry-after: 2 on odd calls", every_other(always(refusals.rate_limited))),
            ("500", "500", always(refusals.server_error)),
            ("500-once", "500 on odd calls", every_other(always(refusals.server_error))),
            ("502-html", "502 with a page of HTML", always(refusals.html)),
            ("503", "503", always(refusals.unavailable)),
            ("503-loading", "503, the model is loading, estimated_time 20", always(refusals.loading)),
            ("flaky", "every third call fails: 503, reset, cut, in turn", flaky),
            ("unauthorized", "401", always(refusals.unauthorized)),
            ("no-credit", "402", always(refusals.no_credit)),
            ("forbidden", "403", always(refusals.forbidden)),
            ("model-not-found", "404 model_not_found", always(refusals.no_model)),
            ("context-length", "400 context_length_exceeded", always(refusals.too_long)),
            ("content-filter", "400 content_policy_violation", always(refusals.filtered)),
            ("redirect", "307 to another host", always(refusals.redirected)),
        )
    }
)
MODELS: Final = tuple(f"sandbox/{name}" for name in FAULTS)


def of_model(model: str) -> Fault | None:
    """The fault that a model's id names. Any id that is not ours answers as echo; an unknown one of ours is None."""
    name = model.removeprefix("sandbox/")
    return FAULTS.get(name) or (None if name != model else FAULTS["echo"])
