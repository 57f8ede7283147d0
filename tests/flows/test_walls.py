"""What the server will not be talked into: too many files, too many at once, queues for one, pages from elsewhere."""

import asyncio
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.chaos.answers import stream, whole
from tests.chaos.upstream import Attempt, Chaos, Step, chaos
from tests.running import KEY, Running, server_of, serving

BOB = "hf_CanaryVirtualKeyOfBob000000000000"
SAY = {"messages": [{"role": "user", "content": "hi"}]}


def slow(attempt: Attempt) -> Iterator[Step]:
    yield 0.2
    yield whole("slow")


def narrow(attempt: Attempt) -> Iterator[Step]:
    yield 0.1
    yield whole("narrow")


@pytest.fixture(scope="module")
def upstream() -> Iterator[Chaos]:
    upstream = Chaos({"slow": slow, "narrow": narrow, "stream": lambda attempt: stream("stream", pace=0.05)})
    with chaos(upstream):
        yield upstream


@pytest.fixture(scope="module")
def running(upstream: Chaos, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    base = f"base_url: 'http://127.0.0.1:{upstream.port}/v1'"
    config = f"""
server: {{cors: ["https://app.example", "http://localhost:3000"]}}
plans: {{small: {{concurrency: 3}}}}
virtual_keys: [{{name: alice, key: {KEY}, plan: small}}, {{name: bob, key: {BOB}}}]
upstreams:
  up: {{provider: openai, {base}}}
  narrow: {{provider: openai, {base}, connections: 1, timeouts: {{queue: 30s}}}}
  sandbox: {{provider: sandbox}}
models:
  slow: {{deployments: [{{upstream: up}}]}}
  stream: {{deployments: [{{upstream: up}}]}}
  narrow: {{deployments: [{{upstream: narrow}}]}}
tables: []
"""
    with serving(config, tmp_path_factory.mktemp("walls")) as running:
        yield running


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def at_once(running: Running, key: str, model: str, count: int) -> list[httpx2.Response]:
    async with httpx2.AsyncClient(headers=bearer(key), timeout=60) as client:
        url, body = running.base + "/v1/chat/completions", {"model": model, **SAY}
        return list(await asyncio.gather(*(client.post(url, json=body) for _ in range(count))))


def test_a_plan_bounds_what_runs_at_once_and_only_for_its_own_tenants(running: Running) -> None:
    answers = asyncio.run(at_once(running, KEY, "slow", 8))
    assert sorted(each.status_code for each in answers) == [200] * 3 + [429] * 5
    refused = next(each for each in answers if each.status_code == 429)
    assert refused.headers["retry-after"] == "1" and refused.json()["error"]["code"] == "concurrency_limit"
    assert [each.status_code for each in asyncio.run(at_once(running, BOB, "slow", 8))] == [200] * 8
    assert [each.status_code for each in asyncio.run(at_once(running, KEY, "slow", 3))] == [200] * 3
    shown = httpx2.get(running.base + "/metrics").text
    assert 'router_limited_total{limit="concurrency",tenant="alice"} 5.0' in shown


def test_one_who_leaves_or_fails_gives_its_place_back(running: Running) -> None:
    for _ in range(6):
        with httpx2.stream(
            "POST",
            running.base + "/v1/chat/completions",
            json={"model": "stream", **SAY, "stream": True},
            headers=bearer(KEY),
        ) as answer:
            next(answer.iter_bytes())
        httpx2.post(running.base + "/v1/chat/completions", json={"model": "nobody", **SAY}, headers=bearer(KEY))
    time.sleep(0.2)
    assert [each.status_code for each in asyncio.run(at_once(running, KEY, "slow", 3))] == [200] * 3


def test_in_a_queue_the_tenants_take_turns(running: Running, upstream: Chaos) -> None:
    async def both() -> float:
        many = asyncio.create_task(at_once(running, BOB, "narrow", 16))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        (answer,) = await at_once(running, KEY, "narrow", 1)
        waited = time.monotonic() - began
        assert answer.status_code == 200
        assert [each.status_code for each in await many] == [200] * 16
        return waited

    assert asyncio.run(both()) < 0.8  # behind bob's sixteen it would be a second and a half


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/models/sandbox/echo"])
def test_a_browser_may_ask_from_where_the_file_says(running: Running, path: str) -> None:
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    asked = httpx2.options(running.base + path, headers={"origin": "https://app.example", **wanted})
    assert asked.status_code == 204 and "content-length" not in asked.headers
    assert asked.headers["access-control-allow-origin"] == "https://app.example"
    assert asked.headers["access-control-allow-headers"] == "authorization,content-type"
    assert "access-control-allow-credentials" not in asked.headers
    refused = httpx2.options(running.base + path, headers={"origin": "https://evil.example", **wanted})
    assert not any(name.startswith("access-control") for name in refused.headers)


@pytest.mark.parametrize("origin", ["https://app.example", "http://localhost:3000", "https://evil.example", "null", ""])
def test_answers_and_errors_say_who_may_read_them(running: Running, origin: str) -> None:
    known = origin in ("https://app.example", "http://localhost:3000")
    headers = {**bearer(BOB), **({"origin": origin} if origin else {})}
    for model, body in (("sandbox/echo", SAY), ("nobody", SAY), ("sandbox/echo", {**SAY, "stream": True})):
        answer = httpx2.post(running.base + "/v1/chat/completions", json={"model": model, **body}, headers=headers)
        assert answer.headers.get("access-control-allow-origin") == (origin if known else None)
        assert ("x-request-id" in answer.headers.get("access-control-expose-headers", "")) is known
    listed = httpx2.get(running.base + "/v1/models", headers=headers)
    assert listed.headers.get("access-control-allow-origin") == (origin if known else None)


def test_the_loop_says_how_late_it_is(running: Running) -> None:
    shown = httpx2.get(running.base + "/metrics").text
    late = next(line for line in shown.splitlines() if line.startswith("router_loop_lag_seconds "))
    assert 0.0 <= float(late.rpartition(" ")[2]) < 1.0


def heard(each: socket.socket) -> bytes:
    each.setblocking(False)
    try:
        return each.recv(4096)
    except (BlockingIOError, ConnectionError):
        return b""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prlimit")
def test_with_few_files_left_new_callers_are_told_to_wait_and_it_recovers(tmp_path: Path, upstream: Chaos) -> None:
    config = f"""
virtual_keys: [{{name: bob, key: {BOB}}}]
upstreams: {{sandbox: {{provider: sandbox}}}}
tables: []
"""
    with serving(config, tmp_path) as running:
        pid = server_of(running)
        subprocess.run(["prlimit", f"--pid={pid}", "--nofile=128:128"], check=True)
        time.sleep(0.5)  # until it has seen that
        port = int(running.base.rpartition(":")[2])
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
        body = {"model": "sandbox/echo", **SAY}
        sockets = []
        try:
            for _ in range(500):
                sockets.append(socket.create_connection(("127.0.0.1", port), timeout=5))
                time.sleep(0.001)
            time.sleep(0.2)
            told = [each for each in sockets if b"503" in heard(each)]
            assert len(told) >= 10  # the others beyond the room are closed without a word
        finally:
            for each in sockets:
                each.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        until = time.monotonic() + 5.0
        while time.monotonic() < until:
            served = httpx2.post(running.base + "/v1/chat/completions", json=body, headers=bearer(BOB), timeout=5)
            if served.status_code == 200:
                break
            time.sleep(0.1)
        assert served.status_code == 200
        assert "Traceback" not in running.errors.read_text()
