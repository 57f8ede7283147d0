"""A thousand callers who say nothing, stop halfway or read nothing: all are let go of, and no other notices."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.chaos.upstream import Attempt, Chaos, Step, chaos
from tests.running import KEY, Running, server_of, serving

HEAD = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
BODY = '{"model":"sandbox/echo","messages":[{"role":"user","content":"hi"}]}'
HALVES = (
    b"",
    b"POST /v1/chat",
    HEAD.encode(),
    f"{HEAD}content-length: {len(BODY)}\r\n\r\n{BODY[:20]}".encode(),
)
READS_NOTHING = f'{HEAD}content-length: 62\r\n\r\n{{"model":"flood","stream":true,"messages":[{{"role":"user"}}]}}   '


def flood(attempt: Attempt) -> Iterator[Step]:
    yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    for _ in range(2000):
        yield b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"a" * 50_000)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Chaos]:
    upstream = Chaos({"flood": flood})
    with chaos(upstream):
        yield upstream


@pytest.fixture
def running(upstream: Chaos, tmp_path: Path) -> Iterator[Running]:
    config = f"""
virtual_keys: [{{name: alice, key: {KEY}}}]
upstreams:
  sandbox: {{provider: sandbox}}
  up: {{provider: openai, base_url: "http://127.0.0.1:{upstream.port}/v1", models: [flood]}}
tables: []
"""
    with serving(config, tmp_path) as running:
        yield running


def memory_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def p99_ms(running: Running, count: int) -> float:
    """Of a good caller's requests, one after another."""
    took = []
    with httpx2.Client(headers={"authorization": f"Bearer {KEY}"}) as client:
        for _ in range(count):
            began = time.perf_counter()
            answer = client.post(running.base + "/v1/chat/completions", content=BODY)
            took.append(time.perf_counter() - began)
            assert answer.status_code == 200
    return sorted(took)[int(count * 0.99) - 1] * 1000


def by(seconds: float, holds: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def closed(line: socket.socket) -> bool:
    line.setblocking(False)
    try:
        while True:
            if not line.recv(65536):
                return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_callers_who_read_nothing_hold_little(running: Running, upstream: Chaos) -> None:
    pid = server_of(running)
    p99_ms(running, 50)
    before = memory_mb(pid)
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            line = stack.enter_context(socket.create_connection(("127.0.0.1", int(running.base.rpartition(":")[2]))))
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.sendall(READS_NOTHING.encode())
        by(10.0, lambda: len(upstream.of("flood")) == 50)
        time.sleep(1.0)
        assert memory_mb(pid) - before < 50 * 1.5  # of a hundred megabytes each
        assert p99_ms(running, 200) < 100
    by(5.0, lambda: all(each.ended is not None for each in upstream.of("flood")))


@pytest.mark.long
def test_a_thousand_slow_callers_are_let_go_of_and_a_good_one_does_not_notice(running: Running) -> None:
    pid, port = server_of(running), int(running.base.rpartition(":")[2])
    alone, before = p99_ms(running, 400), memory_mb(pid)
    began = time.monotonic()
    lines = []
    for number in range(1000):
        lines.append(socket.create_connection(("127.0.0.1", port)))
        lines[-1].sendall(HALVES[number % len(HALVES)])
    beside = p99_ms(running, 400)
    assert memory_mb(pid) - before < 64
    assert beside < max(4 * alone, 20.0), (alone, beside)
    left = lines
    while left and time.monotonic() - began < 45:
        left = [each for each in left if not closed(each)]
        time.sleep(0.5)
    for line in lines:
        line.close()
    assert not left
    assert p99_ms(running, 100) < max(4 * alone, 20.0)
