"""The rows of the fault matrix, each streamed and not, before a healthy fallback and alone.

Of each: what the caller gets, how many attempts the upstream saw, one record that says the same, and afterwards no
request in flight, no connection that is busy, and an upstream that is served as if nothing had been.
"""

import asyncio
import gzip
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
import pytest

from tests.chaos.answers import CHAT_HEAD, DONE, LAST, TEXT, answer, chunk, error, event, events, stream, whole
from tests.chaos.failover import Answer, Gateway
from tests.chaos.upstream import Attempt, Chaos, End, Script, Step, chaos
from tests.running import KEY, Running, free_port, serving

JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
BODY = whole("x").partition(b"\r\n\r\n")[2]


def good(attempt: Attempt) -> Iterator[Step]:
    if attempt.body.get("stream"):
        yield from stream(attempt.model)
    else:
        yield whole(attempt.model)


def then_good(*first: Step, times: int = 1) -> Script:
    """So on the first attempts, well on every later one."""

    def script(attempt: Attempt) -> Iterator[Step]:
        if attempt.nth <= times:
            yield from first
        else:
            yield from good(attempt)

    return script


def always(*steps: Step) -> Script:
    return lambda attempt: iter(steps)


def by_kind(streamed: tuple[Step, ...], full: tuple[Step, ...]) -> Script:
    return lambda attempt: iter(streamed if attempt.body.get("stream") else full)


def half(*end: Step) -> Script:
    """Half an answer, and its end."""
    some = [chunk(each) for each in [*events("x")][:20]]
    return by_kind((CHAT_HEAD, *some, 0.01, *end), (JSON + b"content-length: %d\r\n\r\n" % len(BODY) + BODY[:99], *end))


def trickle(attempt: Attempt) -> Iterator[Step]:
    """The head, byte by byte."""
    for byte in b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-long: " + b"a" * 500:
        yield bytes([byte])
        yield 0.05
    yield End.CLOSE


def garbled(attempt: Attempt) -> Iterator[Step]:
    yield CHAT_HEAD
    for number, each in enumerate(events("x")):
        yield chunk(b'data: {"torn\n\n' + each if number == 5 else each)
    yield LAST


def framed(*lines: bytes, body: bytes = BODY) -> bytes:
    return JSON + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def compressed(body: bytes, coding: bytes = b"gzip") -> Script:
    return then_good(framed(b"content-encoding: " + coding, b"content-length: %d" % len(body), body=body), times=9)


def page(kind: str, text: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode()


def without_done(attempt: Attempt) -> Iterator[Step]:
    yield CHAT_HEAD
    yield from (chunk(each) for each in events("x") if each != DONE)
    yield LAST


LENGTH = b"content-length: %d" % len(BODY)
LOADING = answer(503, {"error": "Model x is currently loading", "estimated_time": 37.2})
GZIP = gzip.compress(BODY)


@dataclass(frozen=True)
class Row:
    """`seen`: attempts on the faulty one with a fallback behind it. `alone`: the status without; 0: a broken answer,
    200: it is no fault to the caller. `streamed`, `full`: whether the row is asked so. `waits`: asked with others.
    """

    id: str
    script: Script
    seen: int = 1
    alone: int = 502
    code: str = ""
    streamed: bool = True
    full: bool = True
    waits: bool = False

    @property
    def hows(self) -> list[str]:
        return [how for how in HOWS if (self.streamed if how == "streamed" else self.full)]


HOWS = ("streamed", "full")

ROWS = (
    Row("reset", always(End.RESET)),
    Row("closed", always(End.CLOSE)),
    Row("reset-once", then_good(End.RESET), alone=200),
    Row("429-long", always(error(429, "slow", None, "retry-after: 300")), alone=429),
    Row("429", always(error(429)), alone=429),
    Row("429-quota", always(error(429, "no credit", "insufficient_quota")), alone=502, code="upstream_credentials"),
    Row("402", always(error(402, "no credit")), alone=502, code="upstream_credentials"),
    Row("loading", always(LOADING), alone=503),
    Row("503", always(error(503)), alone=503),
    Row("503-once", then_good(error(503)), alone=200),
    Row("529", always(error(529)), alone=529),
    Row("500-once", then_good(error(500)), seen=2, alone=200),
    Row("500", always(error(500)), seen=2, alone=500),
    Row("502-html", always(b"HTTP/1.1 502 X\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>"), seen=2),
    Row("504", always(error(504)), alone=504),
    Row("408", always(error(408)), seen=2, alone=408),
    Row("409", always(error(409)), seen=2, alone=409),
    Row("401", always(error(401)), code="upstream_credentials"),
    Row("403", always(error(403)), code="upstream_credentials"),
    Row("404", always(error(404, "no such model", "model_not_found")), alone=404),
    Row("redirect", always(b"HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")),
    Row("200-error", always(answer(200, {"error": {"message": "overloaded", "code": 503}})), alone=503),
    Row("200-list-of-error", always(answer(200, {"error": ["bad", "worse"]})), seen=2, full=True),
    Row("200-html", always(page("text/html", "<html>"))),
    Row("200-text", always(page("text/plain", "hello"))),
    Row("200-torn-json", always(framed(b"content-length: 9", body=b'{"choices'))),
    Row("200-empty", always(framed(b"content-length: 0", body=b""))),
    Row("sse-empty", always(CHAT_HEAD, LAST), full=False),
    Row("sse-error-first", always(CHAT_HEAD, chunk(event({"error": {"message": "x"}})), LAST), seen=2, full=False),
    Row("sse-error-later", half(chunk(event({"error": {"message": "boom"}})), LAST), alone=0, full=False),
    Row("reset-midway", half(End.RESET), alone=0, full=False),
    Row("closed-midway", half(End.CLOSE), alone=0, full=False),
    Row("no-last-chunk", always(CHAT_HEAD, *map(chunk, [*events("x")][:20]), End.CLOSE), alone=0, full=False),
    Row("ends-midway", half(LAST), alone=0, full=False),
    Row("closed-midway-full", half(End.CLOSE), streamed=False),
    Row("reset-midway-full", half(End.RESET), streamed=False),
    Row("no-done", without_done, alone=200, full=False),
    Row("garbled-event", garbled, alone=200, full=False),
    Row("early-close", always(JSON + LENGTH + b"\r\n\r\n", End.CLOSE)),
    Row("long-body", always(framed(b"content-length: 10")), streamed=False),
    Row("length-and-chunks", always(framed(LENGTH, b"transfer-encoding: chunked"))),
    Row("two-lengths", always(framed(LENGTH, b"content-length: 3"))),
    Row("bad-length", always(framed(b"content-length: +3"))),
    Row("bad-chunk", always(framed(b"transfer-encoding: chunked", body=b"zz\r\nx\r\n"))),
    Row("101", always(b"HTTP/1.1 101 X\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n")),
    Row("100-first", then_good(b"HTTP/1.1 100 Continue\r\n\r\n" + framed(LENGTH)), alone=200, streamed=False),
    Row("204-with-body", always(b"HTTP/1.1 204 X\r\ncontent-length: 3\r\n\r\nabc")),
    Row("999", always(error(999))),
    Row("garbage", always(b"\x15\x03\x01\x00\x02\x02\x28 not HTTP\r\n\r\n", End.CLOSE)),
    Row("header-bomb", always(b"HTTP/1.1 200 OK\r\n" + b"x-huge: " + b"a" * 300_000 + b"\r\n\r\n")),
    Row("many-headers", always(b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 30_000 + b"\r\n")),
    Row("header-with-lf", always(framed(LENGTH, b"x-a: b\nset-cookie: c")), streamed=False),
    Row("gzip", compressed(GZIP), alone=200, streamed=False),
    Row("gzip-bomb", compressed(gzip.compress(b"a" * (65 << 20)))),
    Row("gzip-torn", compressed(GZIP[:-9])),
    Row("brotli", compressed(BODY, b"br")),
    # From here on it is a matter of clocks.
    Row("silent", always(5.0, End.CLOSE), alone=504, code="upstream_timeout", waits=True),
    Row("header-trickle", trickle, alone=504, code="upstream_timeout", waits=True),
    Row(
        "headers-then-silent",
        by_kind((CHAT_HEAD, 5.0, End.CLOSE), (framed(LENGTH, body=b""), 5.0)),
        alone=504,
        waits=True,
    ),
    Row("ping-only", always(CHAT_HEAD, *(0.1, chunk(b": ping\n\n")) * 40), alone=504, full=False, waits=True),
    Row("429-hint", then_good(error(429, "slow", None, "retry-after: 0.2")), seen=2, alone=200, waits=True),
    Row("429-hint-ms", then_good(error(429, "slow", None, "retry-after-ms: 150")), seen=2, alone=200, waits=True),
    Row("stalls-midway", half(5.0, End.CLOSE), alone=0, full=False, waits=True),
    Row("stalls-midway-full", half(5.0), alone=504, streamed=False, waits=True),
)
REFUSED = (400, 413, 422, 424)  # told once, in the upstream's words, never counted
CASES = [pytest.param(row, how, id=f"{row.id}-{how}") for row in ROWS for how in row.hows]


@pytest.fixture(scope="module")
def upstreams() -> Iterator[tuple[Chaos, Chaos]]:
    faulty = {f"{case}-{how}": row.script for row in ROWS for case in (row.id, f"alone-{row.id}") for how in HOWS}
    faulty |= {str(status): always(error(status, "as it was said")) for status in REFUSED}
    pair = Chaos({**faulty, "*": good}), Chaos({"*": good})
    with chaos(*pair):
        yield pair


@pytest.fixture(scope="module")
def running(upstreams: tuple[Chaos, Chaos], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    one, two = upstreams
    names = [f"{row.id}-{how}" for row in ROWS for how in HOWS] + [str(status) for status in REFUSED]
    routes = "".join(
        f"  '{name}': {{splice: false, deployments: [{{upstream: one}}, {{upstream: two}}]}}\n"
        f"  'alone-{name}': {{splice: false, deployments: [{{upstream: one}}]}}\n"
        for name in names
    )
    clocks = "timeouts: {connect: 500ms, first_event: 300ms, silence: 300ms, last_candidate: 400ms, total: 700ms}"
    keys = "keys: [sk-canary-of-the-matrix-00000]"
    config = f"""
virtual_keys: [{{name: alice, key: {KEY}}}]
retry: {{backoff: {{first: 10ms}}, budget: 100%}}
rest: {{after: 1000000 failures/1s}}
upstreams:
  one: {{provider: openai, base_url: 'http://127.0.0.1:{one.port}/v1', {clocks}}}
  two: {{provider: openai, base_url: 'http://127.0.0.1:{two.port}/v1', {clocks}, {keys}}}
  refused: {{provider: openai, base_url: 'http://127.0.0.1:{free_port()}/v1', {clocks}}}
  nowhere: {{provider: openai, base_url: 'http://nowhere.invalid/v1', {clocks}}}
  plain: {{provider: openai, base_url: 'https://127.0.0.1:{one.port}/v1', {clocks}}}
models:
{routes}
  refused: {{deployments: [{{upstream: refused}}, {{upstream: two}}]}}
  nowhere: {{deployments: [{{upstream: nowhere}}, {{upstream: two}}]}}
  plain: {{deployments: [{{upstream: plain}}, {{upstream: two}}]}}
  alone-refused: {{deployments: [{{upstream: refused}}]}}
  alone-nowhere: {{deployments: [{{upstream: nowhere}}]}}
  alone-plain: {{deployments: [{{upstream: plain}}]}}
tables: []
"""
    with serving(config, tmp_path_factory.mktemp("matrix")) as running:
        yield running


def ask(running: Running, model: str, streamed: bool, request_id: str) -> Answer:
    async def one() -> Answer:
        async with httpx2.AsyncClient(timeout=10) as client:
            return await asked(running, client, model, streamed, request_id)

    return asyncio.run(one())


async def asked(running: Running, client: httpx2.AsyncClient, model: str, streamed: bool, request_id: str) -> Answer:
    headers = {"authorization": f"Bearer {KEY}", "x-request-id": request_id}
    if streamed:
        return await Gateway(running.base, lambda _: headers, client).ask(model)
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    reply = await client.post(running.base + "/v1/chat/completions", json=body, headers=headers)
    found = Answer(status=reply.status_code)
    if reply.status_code == 200:
        choice = reply.json()["choices"][0]
        found.text, found.finish, found.done = choice["message"]["content"], choice["finish_reason"], True
    else:
        found.error = reply.text
    return found


@pytest.fixture(scope="module")
def waited(running: Running) -> dict[str, Answer]:
    """What takes its time while nobody does anything, asked for all at once."""
    named = [f"{row.id}-{how}" for row in ROWS if row.waits for how in row.hows]

    async def all_of() -> dict[str, Answer]:
        async with httpx2.AsyncClient(timeout=10) as client:
            models = [*named, *(f"alone-{each}" for each in named)]
            asking = [asked(running, client, each, each.endswith("-streamed"), each) for each in models]
            return dict(zip(models, await asyncio.gather(*asking), strict=True))

    return asyncio.run(all_of())


def answer_of(row: Row, model: str, running: Running, request: pytest.FixtureRequest) -> Answer:
    if row.waits:
        waited: dict[str, Answer] = request.getfixturevalue("waited")
        return waited[model]
    if row.alone == 200:
        time.sleep(0.011)  # where nothing goes wrong one in ten milliseconds is kept for look-ups
    return ask(running, model, model.endswith("-streamed"), model)


@pytest.mark.parametrize(("row", "how"), CASES)
def test_a_fault_is_passed_over(
    row: Row, how: str, running: Running, upstreams: tuple[Chaos, Chaos], request: pytest.FixtureRequest
) -> None:
    model = f"{row.id}-{how}"
    found = answer_of(row, model, running, request)
    noted = running.looked_up(model)
    if row.alone == 0:
        assert found.status == 200 and found.error and not found.done  # it had begun, and may not be spliced here
        assert noted["outcome"] == "broken" and len(noted["tries"]) == 1
    else:
        assert found.status == 200 and found.text == TEXT and found.finish == "stop" and found.done, found
        assert noted["outcome"] == "ok"
        assert len(noted["tries"]) == len(upstreams[0].of(model)) + len(upstreams[1].of(model))
    assert len(upstreams[0].of(model)) == row.seen
    assert running.is_idle()


@pytest.mark.parametrize(("row", "how"), CASES)
def test_a_fault_of_the_only_one_is_told_as_what_it_is(
    row: Row, how: str, running: Running, upstreams: tuple[Chaos, Chaos], request: pytest.FixtureRequest
) -> None:
    model = f"alone-{row.id}-{how}"
    found = answer_of(row, model, running, request)
    noted = running.looked_up(model)
    if row.alone == 0:
        assert found.status == 200 and found.error and not found.done and not found.finish
        assert noted["outcome"] == "broken" and noted["broken"]
    elif row.alone == 200:
        assert found.status == 200 and found.text == TEXT and found.done, found
    else:
        assert found.status == row.alone, found
        fault = json.loads(found.error)["error"]
        assert row.code in fault["code"] and fault["message"]
        assert "127.0.0.1" not in found.error and "canary" not in found.error
        assert noted["outcome"] == "error" and noted["status"] == row.alone
    assert 1 <= len(upstreams[0].of(model)) <= 6
    assert running.is_idle()


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("model", "code"),
    [("refused", "connect_failed"), ("nowhere", "connect_failed"), ("plain", "upstream_t")],
)
def test_where_nobody_is_the_next_one_is_asked(running: Running, model: str, code: str, streamed: bool) -> None:
    async def both() -> list[Answer]:
        async with httpx2.AsyncClient(timeout=10) as client:
            asking = [
                asked(running, client, each, streamed, f"none-{each}-{streamed}") for each in (model, f"alone-{model}")
            ]
            return list(await asyncio.gather(*asking))

    rescued, alone = asyncio.run(both())
    assert rescued.whole or not streamed
    assert alone.status in (502, 504) and code in alone.error
    assert "nowhere.invalid" not in alone.error
    assert running.is_idle()


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("status", REFUSED)
def test_what_the_request_did_wrong_is_told_once_and_rests_nobody(
    running: Running, upstreams: tuple[Chaos, Chaos], status: int, streamed: bool
) -> None:
    before = len(upstreams[0].of(str(status)))
    found = ask(running, str(status), streamed, f"refused-{status}-{streamed}")
    assert found.status == status and "as it was said" in found.error
    assert len(upstreams[0].of(str(status))) == before + 1 and not upstreams[1].of(str(status))


def test_afterwards_nothing_is_left(running: Running, upstreams: tuple[Chaos, Chaos]) -> None:
    assert running.is_idle()
    ask(running, "unfaulty", False, "after")
    assert upstreams[0].open + upstreams[1].open < 40  # what is kept for the next request, nothing that hangs
    assert "Traceback" not in running.errors.read_text()
    with socket.create_connection(("127.0.0.1", int(running.base.rpartition(":")[2])), timeout=2):
        pass
