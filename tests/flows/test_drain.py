"""SIGTERM: who is served is served to the end, who cannot be is told so, and then the program is gone in time."""

import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.chaos.answers import CHAT_HEAD, LAST, chunk, delta, events
from tests.chaos.upstream import Attempt, Chaos, Step, chaos
from tests.running import KEY, Running, server_of, serving, supervisor_of

HEADERS = {"authorization": f"Bearer {KEY}"}
SAY = {"messages": [{"role": "user", "content": "hi"}], "stream": True}


def lasting(attempt: Attempt) -> Iterator[Step]:
    """As long as the caller's `user` field says, in sixty tokens."""
    pause = float(attempt.body["user"]) / 60
    yield CHAT_HEAD
    for each in events("lasting"):
        yield chunk(each)
        yield pause
    yield LAST


def endless(attempt: Attempt) -> Iterator[Step]:
    yield CHAT_HEAD
    while True:
        yield chunk(delta("endless", content="and "))
        yield 0.05


def silent(attempt: Attempt) -> Iterator[Step]:
    yield 60.0


@pytest.fixture(scope="module")
def upstream() -> Iterator[Chaos]:
    upstream = Chaos({"lasting": lasting, "endless": endless, "silent": silent})
    with chaos(upstream):
        yield upstream


def config(upstream: Chaos, drain: str, workers: int = 1) -> str:
    return f"""
server: {{drain: {drain}, workers: {workers}}}
virtual_keys: [{{name: alice, key: {KEY}}}]
upstreams: {{up: {{provider: openai, base_url: "http://127.0.0.1:{upstream.port}/v1"}}}}
models:
  lasting: {{deployments: [{{upstream: up}}]}}
  endless: {{deployments: [{{upstream: up}}]}}
  silent: {{deployments: [{{upstream: up}}]}}
tables: []
"""


class Callers:
    """Streams, each followed to its end in a thread of its own."""

    def __init__(self, running: Running) -> None:
        self.base = running.base
        self.texts: list[str] = []
        self.broken: list[str] = []
        self.began = 0
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def follow(self, model: str, **more: str) -> None:
        thread = threading.Thread(target=self._follow, args=(model, more))
        self._threads.append(thread)
        thread.start()

    def _follow(self, model: str, more: dict[str, str]) -> None:
        text = ""
        body = {"model": model, **SAY, **more}
        try:
            with httpx2.stream(
                "POST", f"{self.base}/v1/chat/completions", json=body, headers=HEADERS, timeout=60
            ) as answer:
                for piece in answer.iter_text():
                    if not text:
                        with self._lock:
                            self.began += 1
                    text += piece
        except httpx2.HTTPError as error:
            self.broken.append(repr(error))
        self.texts.append(text)

    def all_began(self, count: int) -> None:
        until = time.monotonic() + 30
        while self.began < count and time.monotonic() < until:
            time.sleep(0.02)
        assert self.began == count

    def ended(self) -> None:
        for each in self._threads:
            each.join(60)
            assert not each.is_alive()


def gone(pid: int, seconds: float) -> float:
    """How long it took to end."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                break
        except OSError:
            break
        time.sleep(0.02)
    return time.monotonic() - began


def streams_survive(upstream: Chaos, place: Path, count: int, longest: float, workers: int) -> None:
    dice = random.Random(count)
    with serving(config(upstream, "25s", workers), place) as running:
        callers = Callers(running)
        for _ in range(count):
            callers.follow("lasting", user=f"{dice.uniform(0.3, longest):.2f}")
        callers.all_began(count)
        pid = supervisor_of(running)
        os.kill(pid, signal.SIGTERM)
        callers.ended()
        assert gone(pid, 20) < 5
        assert not callers.broken
        cut = [text[-200:] for text in callers.texts if not text.endswith("data: [DONE]\n\n")]
        assert not cut and all(text.count('"content":"token') == 60 for text in callers.texts)
        records = running.records(count)
        assert [each["outcome"] for each in records].count("ok") == count


@pytest.mark.parametrize("workers", [1, 2])
def test_streams_run_to_their_end(upstream: Chaos, tmp_path: Path, workers: int) -> None:
    streams_survive(upstream, tmp_path, 40, 1.2, workers)


@pytest.mark.long
@pytest.mark.parametrize("turn", range(20))
def test_two_hundred_streams_run_to_their_end(upstream: Chaos, tmp_path: Path, turn: int) -> None:
    streams_survive(upstream, tmp_path, 200, 20.0 if turn == 0 else 4.0, 1 + turn % 2)


def test_half_open_sockets_and_endless_streams_hold_nothing_up(upstream: Chaos, tmp_path: Path) -> None:
    with serving(config(upstream, "1s"), tmp_path) as running:
        port = int(running.base.rpartition(":")[2])
        callers = Callers(running)
        for _ in range(10):
            callers.follow("endless")
        callers.all_began(10)
        callers.follow("silent")
        half: list[socket.socket] = []
        for number in range(50):
            half.append(socket.create_connection(("127.0.0.1", port)))
            half[-1].sendall((b"", b"POST /v1/chat", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")[number % 3])
        time.sleep(0.2)
        pid = server_of(running)
        os.kill(pid, signal.SIGTERM)
        assert gone(pid, 10) < 3.0  # drain and two seconds
        callers.ended()
        assert not callers.broken
        told = [text for text in callers.texts if "shutting down" in text]
        assert len(told) == 11 and not any("[DONE]" in text for text in told)
        records = [json.loads(line) for line in running.log.read_text().splitlines()]
        assert [(each["outcome"], each["broken"]) for each in records] == [("broken", "shutdown")] * 11
        assert sorted(each["status"] for each in records) == [200] * 10 + [503]
        for each in half:
            each.close()


def test_while_it_drains_readiness_says_so_and_callers_are_served(upstream: Chaos, tmp_path: Path) -> None:
    with serving(config(upstream, "20s"), tmp_path) as running:
        callers = Callers(running)
        callers.follow("lasting", user="1.0")
        callers.all_began(1)
        pid = server_of(running)
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.2)
        ready = httpx2.get(running.base + "/health/readiness")
        assert ready.status_code == 503 and ready.json() == {"status": "draining"}
        assert httpx2.get(running.base + "/health/liveness").status_code == 200
        assert httpx2.get(running.base + "/v1/models", headers=HEADERS).status_code == 200
        callers.ended()
        assert callers.texts[0].endswith("data: [DONE]\n\n")
        assert gone(pid, 10) < 3
