"""A hostile tenant, a careless operator and an unlucky machine: what is used is counted and paid for all the same.

The upstream does what the caller's `user` field says, so that a test can have it lie, bundle, dawdle or say nothing.
"""

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from tests.running import Running, free_port, serving, supervisor_of

PRICE: Final = {"input": 1000, "output": 1000}  # USD per million tokens: a token is a tenth of a cent
TOKEN: Final = 1_000_000  # nano-USD
ADMIN: Final = "hf_CanaryAdmin000000000000000000000"


def key(name: str) -> str:
    return f"hf_CanaryAttack{name:0>20}"


_CONFIG = """
stores: {{ledger: "sqlite:///{place}/ledger.db", directory: "{place}/state", spool: {spool}}}
server: {{drain_delay: 0s, workers: {workers}}}
auth: {{admin_key: {admin}}}
plans:
  vast: {{budget: 1000000 USD/month, tokens: 1000000000/week, concurrency: 500, requests: 1000000/week}}
  rich: {{budget: 100 USD/month, tokens: 1000000000/week, concurrency: 500, requests: 1000000/week}}
  dear: {{budget: 1000000 USD/month, markup: 1000%}}
  poor: {{budget: 0.2 USD/month}}
  narrow: {{input_tokens: 1000000/week}}
  one: {{concurrency: 1}}
virtual_keys:
{keys}
upstreams:
  b: {{provider: openai, base_url: "http://127.0.0.1:{port}/v1", keys: [sk-CanaryUpstream00000000]}}
  c: {{provider: openai, base_url: "http://127.0.0.1:{port}/v1", keys: [sk-CanaryUpstream00000000]}}
tables: []
retry: {{backoff: {{first: 1ms, most: 2ms}}}}
rest: {{after: 1000000/1s}}
models:
  org/m: {{cache: false, splice: false, deployments: [{{upstream: b, provider_id: big, price: {price}}}]}}
  org/kept: {{cache: true, deployments: [{{upstream: b, provider_id: kept, price: {price}}}]}}
  org/few:
    limits: {{requests: 3/week}}
    deployments:
      - {{upstream: b, provider_id: few-b, price: {price}}}
      - {{upstream: c, provider_id: few-c, price: {price}}}
  wild/*: {{limits: {{requests: 3/week}}, deployments: [{{upstream: b, price: {price}}}]}}
  nick: {{alias: org/m}}
  free: {{deployments: [{{upstream: b, provider_id: free, price: {{input: 0, output: 0}}}}]}}
  gold: {{deployments: [{{upstream: b, provider_id: gold, price: {{input: 1000000, output: 1000000}}}}]}}
  vague: {{deployments: [{{upstream: b, provider_id: vague}}]}}
"""
TENANTS: Final = (
    *(("rich", f"rich{number}") for number in range(12)), *(("poor", f"poor{number}") for number in range(8)),
    ("vast", "vast"),
    ("dear", "dear"), ("narrow", "narrow"), ("one", "one"),
)  # fmt: skip


def config(mock: "Mock", place: Path, *, workers: int = 1, spool: str = "64MiB", more: str = "") -> str:
    keys = "\n".join(f"  - {{name: {name}, plan: {plan}, key: {key(name)}}}" for plan, name in TENANTS)
    return _CONFIG.format(place=place, spool=spool, workers=workers, keys=keys + more, port=mock.port,
                          price=json.dumps(PRICE), admin=ADMIN)  # fmt: skip


class Mock:
    """Reads `user`: how many tokens it says that were used, how it answers and how slowly."""

    def __init__(self) -> None:
        self.seen = 0
        self.served = 0
        self.models: list[str] = []
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                self.seen += 1
                if not await self._say(json.loads(body) if body[:1] == b"{" else {}, writer):
                    break
                self.served += 1
        writer.close()

    async def _say(self, asked: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        how = json.loads(asked.get("user") or "{}")
        self.models.append(asked.get("model", ""))
        await asyncio.sleep(how.get("delay", 0))
        usage = how.get("usage", {"prompt_tokens": 10, "completion_tokens": 5})
        if how.get("status"):
            return await self._full(writer, {"error": {"message": "no", "code": "boom"}}, how["status"])
        if not asked.get("stream"):
            text = how.get("text", "hi")
            choice = {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "text": text,
                "finish_reason": "stop",
            }
            return await self._full(writer, {"id": "c", "object": "o", "choices": [choice], "usage": usage})
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for text in how.get("events", ["word "] * 5):
            self._event(writer, {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "text": text}]})
            if how.get("pause"):
                await writer.drain()
                await asyncio.sleep(how["pause"])
        if how.get("cut"):
            return False
        self._event(writer, {"id": "c", "choices": [{"index": 0, "delta": {}, "text": "", "finish_reason": "stop"}]})
        await asyncio.sleep(how.get("late", 0))
        if usage is not None:
            self._event(writer, {"id": "c", "choices": [], "usage": usage})
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        await writer.drain()
        return True

    @staticmethod
    def _event(writer: asyncio.StreamWriter, chunk: dict[str, Any]) -> None:
        data = b"data: %b\n\n" % json.dumps(chunk).encode()
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    @staticmethod
    async def _full(writer: asyncio.StreamWriter, value: dict[str, Any], status: int = 200) -> bool:
        body = json.dumps(value).encode()
        writer.write(
            b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
        )
        writer.write(body)
        await writer.drain()
        return True


@contextlib.contextmanager
def mocking() -> Iterator[Mock]:
    found = Mock()
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(found.answer, "127.0.0.1", 0, limit=2**20))
    found.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield found
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    server.close()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0.05))
    loop.close()


@pytest.fixture(scope="module")
def mock() -> Iterator[Mock]:
    with mocking() as found:
        yield found


@pytest.fixture(scope="module")
def router(mock: Mock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    place = tmp_path_factory.mktemp("router")
    with serving(config(mock, place), place) as running:
        yield running


@pytest.fixture
def place(router: Running) -> Path:
    return router.log.parent


def chat(model: str = "org/m", how: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    asked = {"model": model, "messages": [{"role": "user", "content": "hi"}], "user": json.dumps(how or {})}
    return {"max_tokens": 20, **asked, **more}


def ask(
    running: Running, who: str, body: dict[str, Any], path: str = "/v1/chat/completions", **headers: str
) -> httpx2.Response:
    told = {"authorization": f"Bearer {key(who)}", **{name.replace("_", "-"): each for name, each in headers.items()}}
    return httpx2.post(running.base + path, json=body, headers=told, timeout=20)


def used(running: Running, who: str) -> dict[str, int]:
    answer = httpx2.get(running.base + "/v1/usage", headers={"authorization": f"Bearer {key(who)}"})
    assert answer.status_code == 200, answer.text
    return {each["limit"]: each["used"] for each in answer.json()["limits"]}


def settled(running: Running, who: str, **wanted: int) -> dict[str, int]:
    """What its limits come to, once bundles of reservations that nobody needs have gone back, too."""
    for _ in range(100):
        found = used(running, who)
        if all(found[name] == value for name, value in wanted.items()):
            break
        time.sleep(0.05)
    return found


def entries(place: Path, tenant: str = "", wanted: int = 0) -> list[dict[str, Any]]:
    for _ in range(100):
        with contextlib.closing(sqlite3.connect(place / "ledger.db")) as opened:
            opened.row_factory = sqlite3.Row
            found = [dict(each) for each in opened.execute("SELECT * FROM entries ORDER BY time")]
        found = [each for each in found if not tenant or each["tenant"] == tenant]
        if len(found) >= wanted:
            break
        time.sleep(0.05)
    return found


def _agree(running: Running, place: Path, who: str) -> int:
    """What it owes, once the ledger and what counts against its budget say the same."""
    for _ in range(100):
        owed = sum(each["charge"] or 0 for each in entries(place, who))
        if used(running, who)["budget"] == owed:
            return owed
        time.sleep(0.05)
    raise AssertionError(f"{used(running, who)['budget']} of the budget are used, and {owed} are in the ledger")


# Names of models


SPELLINGS: Final = (
    "org/m", "ORG/M", "org/m:b", "org/m:openai", "org/m:cheapest", "ORG/M:fastest", "b/org/m", "b/big", "B/BIG",
    "b/BIG", "big:b", "big:openai", "BIG:b", "nick", "NICK:b", "b/nick", "nick:fastest", "org/m:B",
)  # fmt: skip


def test_a_model_costs_the_same_under_every_name_of_it(router: Running, mock: Mock, place: Path) -> None:
    served = 0
    for model in SPELLINGS:
        mock.models.clear()
        answer = ask(router, "rich0", chat(model))
        if answer.status_code == 404:
            assert not mock.models
            continue
        served += 1
        assert (answer.headers.get("x-router-cost"), mock.models) == ("0.015000000", ["big"]), model
    assert served >= 12
    found = entries(place, "rich0", served)
    assert {each["model"] for each in found} == {"org/m"}
    assert settled(router, "rich0", budget=served * 15 * TOKEN)["budget"] == served * 15 * TOKEN


@pytest.mark.parametrize(
    ("who", "names"),
    [
        (
            "rich1",
            ("org/few", "ORG/FEW:b", "b/few-b", "c/few-c", "few-b:openai", "b/FEW-B", "org/few:c", "org/few:fastest"),
        ),
        ("rich2", ("wild/a", "wild/a:b", "b/wild/b", "wild/b:openai", "wild/c:fastest", "wild/d:c", "c/wild/e")),
    ],
    ids=["a model", "a wildcard"],
)  # fmt: skip
def test_a_model_s_limit_holds_under_every_name_of_it(router: Running, who: str, names: tuple[str, ...]) -> None:
    found = Counter(ask(router, who, chat(model)).status_code for model in (*names, *names))
    assert found == {200: 3, 429: 2 * len(names) - 3}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"model": "org/m", "prompt": "x"}),
        ("/v1/responses", {"model": "org/m", "input": "x"}),
        ("/models/org/m/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
        ("/tgi/org/m/generate", {"inputs": "x"}),
        ("/models/org/m", {"inputs": "x"}),
        ("/models/org/m/pipeline/text-generation", {"inputs": "x"}),
        ("/pipeline/text-generation/org/m", {"inputs": "x"}),
        ("//models//org/m", {"inputs": "x"}),
        ("/api/generate", {"model": "org/m", "prompt": "x", "stream": False}),
    ],
)
def test_every_path_costs(router: Running, path: str, body: dict[str, Any]) -> None:
    answer = ask(router, "rich3", body, path)
    assert answer.status_code == 200, answer.text
    assert float(answer.headers["x-router-cost"]) > 0, answer.headers


def test_an_answer_that_is_made_behind_one_s_back_is_refused(router: Running, mock: Mock) -> None:
    """What it used would be told to who fetches it, which is not us."""
    before = mock.seen
    answer = ask(router, "rich3", {"model": "org/m", "input": "x", "background": True}, "/v1/responses")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "background")
    assert mock.seen == before


# Numbers


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": -1}, {"max_tokens": "100000"}, {"max_tokens": 10**30}, {"max_tokens": 1e300},
        {"max_tokens": None}, {"max_tokens": [5]}, {"max_tokens": True}, {"max_tokens": 0}, {"n": 10**9},
        {"n": "128"}, {"n": -3}, {"best_of": 10**9}, {"max_completion_tokens": {}}, {"stream_options": None},
        {"user": "{}", "max_tokens": 2**63}, {"prompt": ["a"] * 500},
    ],
    ids=str,
)  # fmt: skip
def test_absurd_numbers_break_nothing_and_come_back(router: Running, fields: dict[str, Any]) -> None:
    for stream in (False, True):
        answer = ask(router, "rich4", chat(**fields, stream=stream))
        assert answer.status_code in (200, 400, 402), answer.text
    assert settled(router, "rich4", concurrency=0)["concurrency"] == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": "500"}, {"max_tokens": 500.0}, {"max_tokens": 20, "n": "25"}, {"max_tokens": 20, "n": 25.0},
        {"max_completion_tokens": 1, "max_tokens": 500}, {"max_tokens": 1, "max_completion_tokens": 500},
    ],
    ids=str,
)  # fmt: skip
def test_a_number_that_a_lenient_upstream_would_read_is_reserved_for(router: Running, fields: dict[str, Any]) -> None:
    """0.2 USD are 200 tokens: 500 are refused, however they are written."""
    assert ask(router, "poor0", chat(**fields)).status_code == 402


ABSURD: Final[tuple[Any, ...]] = (
    {"prompt_tokens": 10**12, "completion_tokens": 10**12}, {"prompt_tokens": -5, "completion_tokens": -5},
    {"prompt_tokens": "9", "completion_tokens": []}, "nonsense", [], None, {},
)  # fmt: skip


def test_absurd_usage_is_estimated(router: Running, place: Path) -> None:
    for usage in ABSURD:
        for stream in (False, True):
            assert ask(router, "rich5", chat(how={"usage": usage}, stream=stream)).status_code == 200
    for each in entries(place, "rich5", 2 * len(ABSURD)):
        assert each["estimated"] and 0 < each["input_tokens"] < 50 and 0 < each["output_tokens"] < 50
        assert each["charge"] == (each["input_tokens"] + each["output_tokens"]) * TOKEN


def test_more_money_than_a_column_holds_is_in_the_ledger_all_the_same(router: Running, place: Path) -> None:
    """10⁹ tokens at a dollar each, and a markup of 1000 %."""
    most = {"prompt_tokens": 10**9, "completion_tokens": 10**9}
    assert ask(router, "dear", chat("gold", {"usage": most}, max_tokens=1)).status_code == 200
    (each,) = entries(place, "dear", 1)
    assert each["cost"] > 0 and each["charge"] > 0
    assert ask(router, "dear", chat("gold", max_tokens=1)).status_code == 402


def test_a_price_of_nothing_costs_nothing_and_no_budget_stops_it(router: Running, place: Path) -> None:
    for _ in range(3):
        answer = ask(router, "poor1", chat("free", max_tokens=10**6))
        assert (answer.status_code, answer.headers["x-router-cost"]) == (200, "0.000000000")
    assert [each["charge"] for each in entries(place, "poor1", 3)] == [0, 0, 0]


def test_an_unknown_price_is_said_to_be_unknown(router: Running, place: Path) -> None:
    answer = ask(router, "poor2", chat("vague"))
    assert answer.status_code == 200 and "x-router-cost" not in answer.headers
    assert [each["charge"] for each in entries(place, "poor2", 1)] == [None]


# The fuse


def _words(text: str) -> int:
    return text.count('"content": "word "')


def test_a_stream_that_comes_all_at_once_is_not_ended_where_there_is_plenty(router: Running) -> None:
    plenty = (["word "] * 40, ["x" * 4000], ["word "] * 5000)
    for who, those in (("rich6", plenty), ("narrow", plenty), ("poor6", plenty[:1])):
        for events in those:
            answer = ask(router, who, chat(how={"events": events}, max_tokens=5, stream=True))
            assert "budget_exceeded" not in answer.text and answer.text.rstrip().endswith("[DONE]"), (who, len(events))
            assert _words(answer.text) == events.count("word ")


@pytest.mark.parametrize(
    ("who", "events"),
    [("poor3", ["x" * 4000]), ("poor4", ["word "] * 1000), ("poor5", [*["word "] * 100, "x" * 4000])],
    ids=["one event", "many at once", "a few and then one"],
)
def test_a_stream_is_ended_where_its_money_is_whatever_its_upstream_makes_of_max_tokens(
    router: Running, place: Path, who: str, events: list[str]
) -> None:
    """0.2 USD are 200 tokens."""
    answer = ask(router, who, chat(how={"events": events}, max_tokens=50, stream=True))
    assert answer.status_code == 200
    assert "budget_exceeded" in answer.text and "[DONE]" not in answer.text and "x" * 4000 not in answer.text
    assert _words(answer.text) <= 200
    (each,) = entries(place, who, 1)
    assert each["charge"] <= 0.25 * 1e9
    assert settled(router, who, budget=each["charge"])["budget"] == each["charge"]


# Leaving


def leave(running: Running, who: str, body: dict[str, Any], at: str) -> None:
    """A caller that closes its connection: in the head, in the body, before an answer, or at its first byte."""
    data = json.dumps(body).encode()
    host, port = running.base.removeprefix("http://").split(":")
    head = (f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key(who)}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n").encode()  # fmt: skip
    with socket.create_connection((host, int(port))) as opened:
        opened.sendall(head[:40] if at == "head" else head)
        if at == "head":
            return
        opened.sendall(data[: len(data) // 2] if at == "body" else data)
        if at == "body":
            time.sleep(0.01)
        elif at == "waiting":
            time.sleep(0.05)
        elif at == "reading":
            opened.recv(1)
        elif at == "answered":
            got = b""
            while b'"finish_reason"' not in got:
                got += opened.recv(65536)
        elif at == "reset":
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def test_who_leaves_at_any_moment_leaves_nothing_reserved(router: Running, place: Path) -> None:
    who = "rich7"
    for at in ("head", "body", "sent", "waiting", "reading", "reset"):
        for stream in (False, True):
            leave(router, who, chat(how={"delay": 0.1, "pause": 0.02, "events": ["word "] * 20}, stream=stream), at)
    assert settled(router, who, concurrency=0)["concurrency"] == 0
    assert _agree(router, place, who) > 0


def test_who_leaves_with_all_of_an_answer_pays_for_the_thoughts_behind_it(router: Running, place: Path) -> None:
    """What a model thought unseen is told last, and a caller who has its answer need not wait for that."""
    thought = {"prompt_tokens": 10, "completion_tokens": 900, "completion_tokens_details": {"reasoning_tokens": 899}}
    body = chat(how={"events": ["42"], "late": 0.2, "usage": thought}, stream=True)
    leave(router, "rich6", body, "answered")
    found = [each for each in entries(place, "rich6", 4) if each["outcome"] == "client_gone"]
    assert [each["charge"] for each in found] == [910 * TOKEN]


def test_the_place_of_one_who_reads_slowly_is_his_until_he_has_gone(router: Running) -> None:
    host, port = router.base.removeprefix("http://").split(":")
    data = json.dumps(chat("free", {"events": ["x" * 60_000] * 200}, stream=True, max_tokens=10**7)).encode()
    head = (f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key('one')}\r\n"
            f"content-length: {len(data)}\r\n\r\n").encode()  # fmt: skip
    with socket.create_connection((host, int(port))) as opened:
        opened.sendall(head + data)
        opened.recv(100)
        answer = ask(router, "one", chat("free"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "concurrency_limit")
    assert settled(router, "one", concurrency=0)["concurrency"] == 0
    assert ask(router, "one", chat("free")).status_code == 200


# Others' things


def test_neither_kept_answers_nor_idempotency_keys_are_another_tenant_s(router: Running, place: Path) -> None:
    body = chat("org/kept", {"text": "for one alone"})
    first, again, other = (ask(router, who, body) for who in ("rich8", "rich8", "rich9"))
    assert "x-router-cost" in first.headers and again.headers["x-compute-type"] == "cache"
    assert "x-compute-type" not in other.headers
    body = chat(how={"text": "once"})
    first, again, other = (ask(router, who, body, idempotency_key="same") for who in ("rich8", "rich8", "rich9"))
    assert again.headers["idempotent-replayed"] == "true" and "idempotent-replayed" not in other.headers
    paid = [[each["charge"] > 0 for each in entries(place, who, count)] for who, count in (("rich8", 4), ("rich9", 2))]
    assert sorted(paid[0]) == [False, False, True, True] and paid[1] == [True, True]


def test_one_request_id_sent_by_many_is_many_entries(router: Running, place: Path) -> None:
    for _ in range(3):
        assert ask(router, "rich10", chat(), x_request_id="the-same").status_code == 200
    found = entries(place, "rich10", 3)
    assert len({each["id"] for each in found}) == 3 and {each["request"] for each in found} == {"the-same"}


def test_nobody_else_is_billed(router: Running, mock: Mock) -> None:
    before = mock.seen
    answer = ask(router, "rich11", chat(), x_hf_bill_to="acme")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "bill_to_forbidden")
    assert mock.seen == before and settled(router, "rich11", concurrency=0)["requests"] == 0


def test_no_key_can_be_made_that_passes_for_the_router_s_own_callers(router: Running) -> None:
    """Who is `anonymous` may have anybody billed."""
    told = {"authorization": f"Bearer {ADMIN}"}
    for asked in ({"name": "anonymous"}, {"name": "x", "tenant": "anonymous"}, {"name": "other"}):
        answer = httpx2.post(router.base + "/admin/keys", json=asked, headers=told)
        assert answer.status_code == 422 and "the router uses itself" in answer.text


# A thousand of all sorts


async def _mixed(base: str, number: int, client: httpx2.AsyncClient) -> None:
    hows: tuple[dict[str, Any], ...] = (
        chat(), chat(stream=True), chat(how={"cut": True}, stream=True), chat(how={"status": 500}),
        chat("org/kept", {"text": str(number % 5)}), chat("no/such"), chat(max_tokens=-1), chat(stream="yes"),
        chat("vague"), chat(how={"status": 401}), chat(how={"usage": None}), chat("org/few"),
        chat(how={"delay": 0.2}), chat(how={"pause": 0.05}, stream=True),
    )  # fmt: skip
    body = hows[number % len(hows)]
    headers = {"authorization": f"Bearer {key('vast')}"}
    if number % 9 == 0:
        headers["idempotency-key"] = f"k{number % 4}"
    with contextlib.suppress(httpx2.HTTPError, TimeoutError):
        async with asyncio.timeout(0.1 if number % len(hows) >= 12 else 20):
            await client.post(base + "/v1/chat/completions", json=body, headers=headers)


async def _crowd(base: str, numbers: range) -> None:
    waiting = list(numbers)
    limits = httpx2.Limits(max_connections=24)
    async with httpx2.AsyncClient(limits=limits, timeout=20) as client:

        async def one() -> None:
            while waiting:
                await _mixed(base, waiting.pop(), client)

        await asyncio.gather(*(one() for _ in range(24)))


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_after_a_thousand_of_all_sorts_nothing_is_held(mock: Mock, tmp_path: Path, workers: int) -> None:
    with serving(config(mock, tmp_path, workers=workers), tmp_path) as running:
        asyncio.run(_crowd(running.base, range(1000)))
        assert settled(running, "vast", concurrency=0)["concurrency"] == 0
        assert _agree(running, tmp_path, "vast") > 0
        assert 900 <= used(running, "vast")["requests"] <= 1001


# Operators


@pytest.mark.slow
def test_a_key_that_expires_while_it_streams_has_its_answer_whole(mock: Mock, tmp_path: Path) -> None:
    until = time.time() + 3.0
    more = f"\n  - {{name: brief, plan: rich, key: {key('brief')}, expires: {until}}}"
    with serving(config(mock, tmp_path, more=more), tmp_path) as running:
        events = ["word "] * 40
        pause = max(0.05, (until + 0.6 - time.time()) / len(events))
        answer = ask(running, "brief", chat(how={"events": events, "pause": pause}, stream=True))
        assert time.time() > until
        assert _words(answer.text) == len(events) and "[DONE]" in answer.text
        assert ask(running, "brief", chat()).status_code == 401
        assert entries(tmp_path, "brief", 1)[0]["outcome"] == "ok"


@pytest.mark.slow
def test_a_reload_in_the_middle_of_answers_settles_them_where_they_began(mock: Mock, tmp_path: Path) -> None:
    text = config(mock, tmp_path)
    with serving(text, tmp_path) as running:
        slow = chat(how={"events": ["word "] * 30, "pause": 0.05}, stream=True)
        answers: dict[str, httpx2.Response] = {}
        whos = ("rich0", "rich1", "rich2")
        threads = [threading.Thread(target=lambda w=w: answers.update({w: ask(running, w, slow)})) for w in whos]
        for each in threads:
            each.start()
        time.sleep(0.4)
        fewer = text.replace("concurrency: 500", "concurrency: 1").replace("100 USD/month, t", "2 USD/day, t")
        fewer = re.sub(r"  - {name: rich2,.*\n", "", fewer)
        fewer = re.sub(r"  c: .*\n|.*few-c.*\n", "", fewer)
        (tmp_path / "config.yaml").write_text(fewer)
        told = httpx2.post(running.base + "/admin/reload", headers={"authorization": f"Bearer {ADMIN}"})
        assert told.status_code == 200, told.text
        assert ask(running, "rich0", chat()).json()["error"]["code"] == "concurrency_limit"
        assert ask(running, "rich2", chat()).status_code == 401
        for each in threads:
            each.join()
        assert all("[DONE]" in each.text for each in answers.values()), answers
        found = entries(tmp_path, wanted=3)
        assert Counter(each["tenant"] for each in found) == dict.fromkeys(whos, 1)
        assert {each["charge"] for each in found} == {15 * TOKEN}
        assert settled(running, "rich0", concurrency=0)["concurrency"] == 0
        assert ask(running, "rich0", chat()).status_code == 200


@pytest.mark.slow
def test_two_servers_on_one_state_directory_keep_one_ledger(mock: Mock, tmp_path: Path) -> None:
    text = config(mock, tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    with serving(text, tmp_path) as one, serving(text, other) as two:
        for running in (one, two, one, two):
            assert ask(running, "rich0", chat()).status_code == 200
        assert len(entries(tmp_path, "rich0", 4)) == 4


# The machine


@pytest.mark.slow
def test_with_a_full_spool_what_somebody_pays_for_is_refused_and_the_rest_goes_on(mock: Mock, tmp_path: Path) -> None:
    with serving(config(mock, tmp_path, spool="64KiB"), tmp_path) as running:
        assert ask(running, "rich0", chat()).status_code == 200
        entries(tmp_path, wanted=1)
        with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            statuses = [200]
            while statuses[-1] == 200 and len(statuses) < 1000:
                statuses.append(ask(running, "rich0", chat()).status_code)
            assert statuses[-1] == 503
            refused = ask(running, "rich0", chat())
            assert refused.json()["error"]["code"] == "ledger_full" and refused.headers["retry-after"] == "5"
            holder.execute("ROLLBACK")
        for _ in range(200):
            if ask(running, "rich0", chat()).status_code == 200:
                break
            time.sleep(0.1)
        else:
            raise AssertionError("it does not come back")
        assert settled(running, "rich0", concurrency=0)["concurrency"] == 0
    served = [each for each in entries(tmp_path, "rich0") if each["outcome"] == "ok"]
    assert len(served) == statuses.count(200) + 1


@pytest.mark.slow
@pytest.mark.parametrize("which", ["ledger.db", "spool", "keys"])
def test_a_start_with_files_that_are_rubbish_serves(mock: Mock, tmp_path: Path, which: str) -> None:
    rubbish = os.urandom(100_000)
    if which == "ledger.db":
        (tmp_path / which).write_bytes(rubbish)
    elif which == "spool":
        for name in ("1-dead", "2-dead"):
            (tmp_path / "state" / "spool" / name).mkdir(parents=True)
            for file in ("s00000000", "lock", "what"):
                (tmp_path / "state" / "spool" / name / file).write_bytes(rubbish if file != "lock" else b"")
    else:
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "keys.json").write_bytes(rubbish)
    with serving(config(mock, tmp_path), tmp_path) as running:
        assert [ask(running, "rich0", chat()).status_code for _ in range(3)] == [200] * 3
        if which != "ledger.db":
            assert len(entries(tmp_path, "rich0", 3)) == 3
        else:
            for _ in range(100):
                if "router_ledger_away 1" in httpx2.get(running.base + "/metrics").text:
                    return
                time.sleep(0.05)
            raise AssertionError("nobody is told")


@pytest.mark.slow
def test_a_state_directory_that_cannot_be_written_to_is_said_at_the_start(mock: Mock, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    file = tmp_path / "config.yaml"
    file.write_text(config(mock, tmp_path))
    command = [sys.executable, "-m", "router", "serve", "--config", str(file), "--port", str(free_port())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode != 0 and "cannot be written to" in done.stderr and "Traceback" not in done.stderr


def _under_load(running: Running, strike: Any, seconds: float = 1.0) -> Counter[int]:
    """Statuses of callers who ask for as long as that; `strike` comes in the middle."""
    statuses: Counter[int] = Counter()
    until = time.monotonic() + seconds
    numbers = itertools.count()

    told = {"authorization": f"Bearer {key('vast')}"}

    def one() -> None:
        with httpx2.Client(timeout=10) as client:
            while time.monotonic() < until:
                stream = next(numbers) % 2 == 0
                try:
                    asked = chat(stream=stream, how={"delay": 0.01})
                    answer = client.post(running.base + "/v1/chat/completions", json=asked, headers=told)
                    statuses[answer.status_code if not stream or "[DONE]" in answer.text else 0] += 1
                except httpx2.TransportError:
                    statuses[0] += 1

    threads = [threading.Thread(target=one) for _ in range(8)]
    for each in threads:
        each.start()
    time.sleep(seconds / 2)
    strike()
    for each in threads:
        each.join()
    return statuses


@pytest.mark.slow
def test_a_server_that_is_told_to_stop_writes_down_what_it_answered(mock: Mock, tmp_path: Path) -> None:
    with serving(config(mock, tmp_path), tmp_path) as running:
        statuses = _under_load(running, lambda: os.kill(supervisor_of(running), signal.SIGTERM))
    found = entries(tmp_path, "vast")
    assert statuses[200] > 20 and sum(each["outcome"] == "ok" for each in found) == statuses[200]
    assert {each["outcome"] for each in found} <= {"ok", "broken", "client_gone", "error"}


@pytest.mark.slow
def test_a_worker_that_is_killed_leaves_its_entries_and_no_reservations(mock: Mock, tmp_path: Path) -> None:
    with serving(config(mock, tmp_path, workers=2), tmp_path) as running:
        parent = supervisor_of(running)

        def strike() -> None:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            os.kill(int(children[0]), signal.SIGKILL)

        statuses = _under_load(running, strike, 2.0)
        found = settled(running, "vast", concurrency=0)
        assert found["concurrency"] == 0
        for _ in range(200):
            written = entries(tmp_path, "vast")
            if sum(each["outcome"] == "ok" for each in written) >= statuses[200]:
                break
            time.sleep(0.1)
        served = [each for each in written if each["outcome"] == "ok"]
        lost = [each for each in written if each["outcome"] == "lost"]
        assert statuses[200] <= len(served) <= statuses[200] + statuses[0]
        assert len(served) + len(lost) <= sum(statuses.values())
        owed = sum(each["charge"] or 0 for each in written)
        assert abs(settled(running, "vast", budget=owed)["budget"] - owed) <= len(lost) * 40 * TOKEN
