"""What upstreams counted is what the ledger holds: nothing missing, nothing twice, whatever became of a request.

A mock upstream counts each request by the number that its caller wrote into it, and says how many tokens it took. The
callers succeed, stream, are cut, leave, fail, are tried again, fail over and are answered from what is kept, while the
router runs; then it is killed under load, twenty times, and started again on the same directory.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from router.stores.sql import database
from tests.router.stores.postgres_server import postgres, postgres_url  # noqa: F401 - fixtures
from tests.running import Running, server_of, serving

KEY: Final = "hf_CanaryLedger0000000000000000000000"
PRICE: Final = {"input": 1, "cached_input": 0.5, "output": 3}  # USD per million tokens
HOWS: Final = ("ok", "stream", "cut", "leave", "error", "again", "over", "kept")
KILLS: Final = 20

_CONFIG = """
stores: {{ledger: "{ledger}", directory: "{state}"}}
server: {{drain_delay: 0s}}
plans: {{metered: {{budget: 1000 USD/month, tokens: 1000000000/hour, concurrency: 500, markup: 10%}}}}
virtual_keys: [{{name: alice, plan: metered, key: {key}}}]
upstreams:
  first: {{provider: openai, base_url: "http://127.0.0.1:{port}/v1", keys: [sk-CanaryOne0000000000000]}}
  second: {{provider: openai, base_url: "http://127.0.0.1:{port}/v1", keys: [sk-CanaryTwo0000000000000]}}
tables: []
retry: {{backoff: {{first: 1ms, most: 2ms}}, budget: 100%}}
rest: {{after: 1000000/1s}}
models:
  m:
    cache: false
    splice: false
    deployments:
      - {{upstream: first, provider_id: one, price: {price}}}
      - {{upstream: second, provider_id: two, price: {price}}}
  kept: {{cache: true, deployments: [{{upstream: first, provider_id: one, price: {price}}}]}}
"""


@dataclass
class Mock:
    """An upstream that counts. `served`: number → tokens read, of those cached, and written, where it said all."""

    seen: Counter[str] = field(default_factory=Counter)  # requests by number
    served: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    port: int = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                if not await self._say(json.loads(body), writer):
                    break
        writer.close()

    async def _say(self, asked: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        how, number = asked["messages"][0]["content"].split()[:2]
        self.seen[number] += 1
        times = self.seen[number]
        await asyncio.sleep(random.uniform(0, 0.004))
        if how == "error" or (how == "over" and asked["model"] == "one") or (how == "again" and times == 1):
            return await self._full(writer, {"error": {"message": "no", "code": "boom"}}, b"500 No")
        read, cached, written = 20 + int(number) % 7, int(number) % 5, 3 + int(number) % 11
        usage = {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        if not asked.get("stream"):
            self.served[number] = (read, cached, written)
            choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
            said = {"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage}
            return await self._full(writer, said)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(written):
            self._event(writer, {"id": "c", "choices": [{"index": 0, "delta": {"content": "word "}}]})
            await writer.drain()
            await asyncio.sleep(0.02 if how == "leave" else 0)
        if how in ("cut", "leave"):
            return False
        self._event(writer, {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self.served[number] = (read, cached, written)
        self._event(writer, {"id": "c", "choices": [], "usage": usage})
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        await writer.drain()
        return True

    @staticmethod
    def _event(writer: asyncio.StreamWriter, chunk: dict[str, Any]) -> None:
        data = b"data: %b\n\n" % json.dumps(chunk).encode()
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    @staticmethod
    async def _full(writer: asyncio.StreamWriter, value: dict[str, Any], status: bytes = b"200 OK") -> bool:
        body = json.dumps(value).encode()
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
        writer.write(head + body)
        await writer.drain()
        return True


@pytest.fixture
def mock() -> Iterator[Mock]:
    found = Mock()
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(found.answer, "127.0.0.1", 0))
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


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    found: str = request.getfixturevalue("postgres_url")
    return found


def config(mock: Mock, ledger: str, place: Path) -> str:
    return _CONFIG.format(key=KEY, port=mock.port, price=json.dumps(PRICE), ledger=ledger, state=place / "state")


async def ask(client: httpx2.AsyncClient, base: str, how: str, number: int) -> int:
    """The status; 0 where there was none, or the caller left."""
    stream = how in ("stream", "cut", "leave") or (how in ("over", "again") and number % 2 == 0)
    content = f"{how} {number}" if how != "kept" else f"kept {number % 10 + 1_000_000}"
    model = "kept" if how == "kept" else "m"
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": content}]}
    headers = {"authorization": f"Bearer {KEY}", "x-request-id": str(number)}
    try:
        async with client.stream("POST", f"{base}/v1/chat/completions", json=body, headers=headers) as answer:
            async for _ in answer.aiter_bytes():
                if how == "leave":
                    return 0
            return answer.status_code
    except httpx2.TransportError:
        return 0


async def crowd(base: str, numbers: Sequence[int], at_once: int = 24) -> dict[int, int]:
    limits = httpx2.Limits(max_connections=at_once)
    waiting = list(reversed(numbers))
    statuses: dict[int, int] = {}

    async def one(client: httpx2.AsyncClient) -> None:
        while waiting:
            number = waiting.pop()
            statuses[number] = await ask(client, base, HOWS[number % len(HOWS)], number)

    async with httpx2.AsyncClient(limits=limits, timeout=30) as client:
        await asyncio.gather(*(one(client) for _ in range(at_once)))
    return statuses


def entries(ledger: str) -> list[dict[str, Any]]:
    names = "request, outcome, cache, input_tokens, cached_tokens, output_tokens, estimated, cost, charge, tries, id"
    opened = database(ledger)
    opened.open()
    try:
        return [dict(zip(names.split(", "), row, strict=True)) for row in opened.rows(f"SELECT {names} FROM entries")]
    finally:
        opened.close()


def written(running: Running) -> None:
    """Wait until all that ended stands in the ledger."""
    for _ in range(200):
        text = httpx2.get(f"{running.base}/metrics").text
        found = re.search(r"^router_ledger_waiting_entries (\S+)$", text, re.MULTILINE)
        if found and float(found[1]) == 0 and "router_inflight_requests 0.0" in text:
            return
        time.sleep(0.05)
    raise AssertionError("the ledger does not come after")


def cost_of(read: int, cached: int, output: int) -> int:
    """Nano-USD."""
    return (read - cached) * 1000 + cached * 500 + output * 3000


def check(found: list[dict[str, Any]], mock: Mock) -> None:
    """Every request that an upstream saw has one entry; what it counted is what is charged."""
    by_number = {each["request"]: each for each in found if each["cache"] not in ("hit", "joined")}
    assert len(found) == len({each["id"] for each in found})
    for number, tokens in mock.served.items():
        each = by_number.get(number)
        if each is None or each["outcome"] != "ok":
            continue
        assert (each["input_tokens"], each["cached_tokens"], each["output_tokens"]) == tokens, each
        assert not each["estimated"]
        assert each["cost"] == cost_of(*tokens)
        assert each["charge"] == -(-each["cost"] * 11 // 10)


def test_a_thousand_outcomes_are_in_the_ledger_once_each(mock: Mock, ledger: str, tmp_path: Path) -> None:
    with serving(config(mock, ledger, tmp_path), tmp_path) as running:
        statuses = asyncio.run(crowd(running.base, range(1000)))
        written(running)
        found = entries(ledger)
    assert Counter(statuses.values())[200] >= 600, Counter(statuses.values())
    counted = Counter(each["request"] for each in found)
    assert set(counted) == {str(number) for number in range(1000)}
    assert set(counted.values()) == {1}
    check(found, mock)
    kept = [each for each in found if each["cache"] in ("hit", "joined")]
    assert len(kept) == 125 - 5 and all(each["cost"] == each["charge"] == 0 for each in kept)
    failed = [each for each in found if each["outcome"] == "error"]
    assert len(failed) >= 125 and all(each["charge"] == 0 for each in failed)
    left = [each for each in found if HOWS[int(each["request"]) % len(HOWS)] in ("leave", "cut")]
    assert all(each["estimated"] and each["output_tokens"] > 0 for each in left)
    over = [each for each in found if HOWS[int(each["request"]) % len(HOWS)] == "over"]
    assert all(each["tries"] >= 2 and each["outcome"] == "ok" for each in over)
    served = [tokens for number, tokens in mock.served.items()]
    good = [each for each in found if each["outcome"] == "ok" and each["cache"] not in ("hit", "joined")]
    assert sum(each["output_tokens"] for each in good) == sum(tokens[2] for tokens in served)
    print(f"{len(found)} of 1000 outcomes, {len(good)} served: sums equal on {ledger.partition(':')[0]}")


@pytest.mark.parametrize("kills", [3, pytest.param(KILLS, marks=pytest.mark.slow)])
def test_nothing_is_missing_or_doubled_after_kills(mock: Mock, ledger: str, tmp_path: Path, kills: int) -> None:
    dice = random.Random(7)
    text = config(mock, ledger, tmp_path)
    for turn in range(kills):
        first = 10_000 + turn * 1000
        with killed(text, tmp_path, dice.uniform(0.2, 0.6)) as running:
            asyncio.run(crowd(running.base, range(first, first + 400)))
    with serving(text, tmp_path) as running:
        wanted = {number for number in mock.seen if int(number) < 1_000_000}
        for _ in range(100):
            written(running)
            found = entries(ledger)
            if wanted <= {each["request"] for each in found}:
                break
            time.sleep(0.1)
    counted = Counter(each["request"] for each in found)
    assert not wanted - set(counted), f"missing: {sorted(wanted - set(counted))[:5]}"
    assert set(counted.values()) == {1}, [each for each in counted.items() if each[1] > 1][:5]
    check(found, mock)
    lost = [each for each in found if each["outcome"] == "lost"]
    assert all(each["charge"] == 0 and each["estimated"] for each in lost)
    print(f"{kills} kills: {len(wanted)} requests upstream, {len(found)} entries, {len(lost)} of them lost answers")


@contextlib.contextmanager
def killed(text: str, place: Path, after: float) -> Iterator[Running]:
    """A server that dies by SIGKILL after so many seconds of its callers' time."""
    with contextlib.suppress(AssertionError, ProcessLookupError), serving(text, place) as running:
        pid = server_of(running)
        timer = threading.Timer(after, lambda: os.kill(pid, signal.SIGKILL))
        timer.start()
        yield running
        timer.join()
