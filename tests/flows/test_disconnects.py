"""A thousand callers who leave, each at a point of its own: nothing upstream outlives them, nothing here leaks."""

import asyncio
import json
import os
import random
import re
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar, Final

import httpx2

from tests.running import KEY, Running, server_of, serving

MANY: Final = 1000
AT_ONCE: Final = 40
PLACES: Final = ("in the head", "in the body", "before the answer", "in the stream", "in the stream", "at the end")
PROMPT_CLOSE: Final = 0.1  # seconds until the upstream's connection must be gone
EVENT: Final = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n'
LAST: Final = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Upstream(asyncio.Protocol):
    """Holds, drips for ever, or answers at once, as the model says; notes when the connection of a request ends."""

    begun: ClassVar[dict[int, float]] = {}
    ended: ClassVar[dict[int, float]] = {}

    def __init__(self) -> None:
        self._data = b""
        self._number = -1
        self._dripping: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if not found or length is None or len(body) < int(length[1]):
            return
        self._data = b""
        asked = json.loads(body)
        self._number = int(asked["messages"][0]["content"])
        self.begun[self._number] = time.monotonic()
        if asked["model"] == "drip":
            self._transport.write(HEAD)
            self._drip()
        elif asked["model"] == "short":
            self._number = -1  # its connection is kept
            self._transport.write(HEAD + chunk(EVENT) + chunk(LAST) + b"0\r\n\r\n")

    def _drip(self) -> None:
        self._transport.write(chunk(EVENT))
        self._dripping = asyncio.get_running_loop().call_later(0.003, self._drip)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._dripping is not None:
            self._dripping.cancel()
        if self._number >= 0:
            self.ended[self._number] = time.monotonic()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def leave(number: int, port: int, dice: random.Random) -> tuple[str, float]:
    """One caller: how far it went, and when it left."""
    how = dice.choice(
        ["in the head", "in the body", "before the answer", "in the stream", "in the stream", "at the end"]
    )
    model = {"in the stream": "drip", "at the end": "short"}.get(how, "hold")
    asked = {"model": model, "stream": True, "messages": [{"role": "user", "content": str(number)}]}
    body = json.dumps(asked).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        if how == "in the head":
            writer.write(request[: dice.randrange(1, len(request) - len(body) - 1)])
        elif how == "in the body":
            writer.write(request[: len(request) - dice.randrange(1, len(body))])
        else:
            writer.write(request)
        await writer.drain()
        if how == "before the answer":
            while number not in Upstream.begun:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await asyncio.sleep(dice.random() * 0.01)
        elif how == "in the stream":
            await reader.readexactly(dice.randrange(1, 3000))
        elif how == "at the end":
            await reader.readuntil(b"0\r\n\r\n")
        else:
            await asyncio.sleep(dice.random() * 0.01)
    finally:
        writer.transport.abort() if dice.random() < 0.5 else writer.close()
    return how, time.monotonic()


async def thousand(running: Running) -> tuple[Counter[str], list[float]]:
    dice = random.Random(3)
    port = int(running.base.rpartition(":")[2])
    left: dict[int, tuple[str, float]] = {}
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            left[number] = await leave(number, port, random.Random(dice.random()))

    await asyncio.gather(*(one(number) for number in range(MANY)))
    wanted = [number for number, (how, _) in left.items() if how in ("before the answer", "in the stream")]
    async with asyncio.timeout(5):
        while not set(wanted) <= set(Upstream.ended):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return Counter(how for how, _ in left.values()), [Upstream.ended[each] - left[each][1] for each in wanted]


def figure(running: Running, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", httpx2.get(running.base + "/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_a_thousand_callers_who_leave_anywhere_take_everything_along(tmp_path: Path) -> None:
    Upstream.begun.clear()
    Upstream.ended.clear()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(Upstream, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        config = f"""
virtual_keys: [{{name: alice, key: {KEY}}}]
upstreams: {{up: {{provider: openai, base_url: "http://127.0.0.1:{port}/v1", models: [hold, drip, short]}}}}
"""
        with serving(config, tmp_path) as running:
            found = await loop.run_in_executor(None, lambda: httpx2.get(running.base + "/health").status_code)
            assert found == 200
            pid = server_of(running)
            before = len(os.listdir(f"/proc/{pid}/fd"))
            counts, late = await thousand(running)
            assert sum(counts.values()) == MANY and min(counts.values()) > 100
            assert max(late) < PROMPT_CLOSE, sorted(late)[-5:]

            recorded = MANY - counts["in the head"]  # what never was a request has no record
            records = await loop.run_in_executor(None, lambda: running.records(recorded))
            assert len(records) == recorded and len({each["id"] for each in records}) == recorded
            outcomes = Counter(each["outcome"] for each in records)
            assert outcomes["ok"] == counts["at the end"]
            assert outcomes["client_gone"] == recorded - counts["at the end"]
            gone_at = Counter(bool(each["upstream"]) for each in records if each["outcome"] == "client_gone")
            assert gone_at[False] >= counts["in the body"]

            assert await loop.run_in_executor(None, figure, running, "router_inflight_requests") == 0
            for _ in range(100):
                held = len(os.listdir(f"/proc/{pid}/fd"))
                if held <= before + AT_ONCE:  # kept connections to the upstream, for those who stayed to the end
                    break
                await asyncio.sleep(0.05)
            assert held <= before + AT_ONCE
            assert running.errors.read_text().count("Traceback") == 0
        listener.close()

    asyncio.run(main())
