"""Servers of one's own before hosted ones: cold starts, crowded queues, and what becomes of a caller meanwhile."""

import time
from collections.abc import Iterator

import httpx2
import pytest

from tests.flows.raw import FULL, Upstream, full, listening
from tests.running import Running, serving

LOADING = full(503, b'{"error":"Model m is currently loading"}')
KNOWN = full(503, b'{"error":"Model m is currently loading","estimated_time":0.4}')
SAY = {"messages": [{"role": "user", "content": "hi"}]}


class Own(Upstream):
    """A server of one's own: so many requests wait at it, and it is loading until it is not."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = 0
        self.loading: list[bytes] = []
        self.answer = self.answered

    def answered(self, _: str, head: bytes) -> list[bytes]:
        if head.startswith(b"GET /metrics"):
            said = b"vllm:num_requests_waiting %d\n" % self.queue
            return [b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(said) + said]
        return [self.loading.pop(0) if self.loading else full(200, FULL)]

    def asked(self) -> int:
        return sum(head.startswith(b"POST") for head, _ in self.seen)


@pytest.fixture(scope="module")
def places() -> Iterator[tuple[Own, Own]]:
    pair = (Own(), Own())
    with listening(*pair):
        yield pair


@pytest.fixture(scope="module")
def running(places: tuple[Own, Own], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    own, hosted = places
    config = f"""
rest: {{after: 1000 failures/1s}}
upstreams:
  own: {{provider: openai, base_url: "http://127.0.0.1:{own.port}"}}
  hosted: {{provider: together, base_url: "http://127.0.0.1:{hosted.port}", keys: [canary-0000000000]}}
models:
  alone: {{deployments: [{{upstream: own}}]}}
  spilling: {{deployments: [{{upstream: hosted}}, {{upstream: own}}], spill: {{queue: 8}}}}
"""
    with serving(config, tmp_path_factory.mktemp("local")) as running:
        yield running


@pytest.fixture
def client(running: Running, places: tuple[Own, Own]) -> Iterator[httpx2.Client]:
    for each in places:
        each.seen.clear()
        each.queue, each.loading = 0, []
    with httpx2.Client(base_url=running.base, headers={"x-use-cache": "0"}, timeout=30) as client:
        yield client


def test_a_model_that_loads_is_a_503_that_says_how_long(client: httpx2.Client, places: tuple[Own, Own]) -> None:
    places[0].loading = [KNOWN] * 9
    answer = client.post("/models/alone", json={"inputs": "hi"}, headers={"x-router-max-wait": "300ms"})
    assert answer.status_code == 503
    assert answer.json()["error"] == "Model alone is currently loading" and answer.json()["estimated_time"] == 0.4


def test_what_loading_took_is_told_the_next_time(client: httpx2.Client, places: tuple[Own, Own]) -> None:
    places[0].loading = [LOADING] * 20
    first = client.post("/v1/chat/completions", json={"model": "alone", **SAY}, headers={"x-router-max-wait": "200ms"})
    assert first.status_code == 503 and "loading" in first.text
    time.sleep(0.5)
    places[0].loading = []
    assert client.post("/v1/chat/completions", json={"model": "alone", **SAY}).status_code == 200
    places[0].loading = [LOADING] * 20
    answer = client.post("/models/alone", json={"inputs": "hi"}, headers={"x-router-max-wait": "200ms"})
    assert answer.status_code == 503 and 0.5 <= answer.json()["estimated_time"] <= 5.0, "20 s is what nobody learned"


def test_a_caller_may_wait_for_it(client: httpx2.Client, places: tuple[Own, Own]) -> None:
    places[0].loading = [KNOWN, KNOWN, KNOWN]
    headers = {"x-wait-for-model": "true"}
    assert client.post("/v1/chat/completions", json={"model": "alone", **SAY}, headers=headers).status_code == 200
    assert places[0].asked() == 4


def test_another_deployment_serves_meanwhile(client: httpx2.Client, places: tuple[Own, Own]) -> None:
    places[0].loading = [full(503, b'{"error":"Model m is currently loading","estimated_time":60}')] * 9
    answer = client.post("/v1/chat/completions", json={"model": "spilling", **SAY})
    assert answer.status_code == 200 and places[1].asked() + places[0].asked() >= 1


def test_calls_go_where_the_queue_is_short(client: httpx2.Client, places: tuple[Own, Own]) -> None:
    own, _ = places
    own.queue = 50
    for _ in range(100):
        own.seen.clear()
        answer = client.post("/v1/chat/completions", json={"model": "spilling", **SAY})
        if answer.headers["x-router-upstream"] == "hosted":
            break
        time.sleep(0.05)
    assert answer.headers["x-router-upstream"] == "hosted"


def test_a_model_that_only_a_switched_off_upstream_has_is_said_to_be_there(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    config = 'upstreams: {fal-ai: {provider: fal-ai, keys: [""]}, sandbox: {provider: sandbox}}'
    with serving(config, tmp_path_factory.mktemp("off")) as running:
        answer = httpx2.post(f"{running.base}/models/black-forest-labs/FLUX.1-schnell", json={"inputs": "x"})
    assert answer.status_code == 404 and "fal-ai would have it and is switched off" in answer.json()["error"]
    assert answer.json()["attempts"] == [{"deployment": "fal-ai", "reason": "its upstream is switched off"}]
