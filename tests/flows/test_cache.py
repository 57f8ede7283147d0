"""The Serverless API's cache on the running server: what is asked again is answered from it, and for nobody else."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.flows.raw import Upstream, chunked, full, listening
from tests.running import KEY, Running, serving

BOBS = "hf_CanaryVirtualKeyOfBob00000000000"
PATH = "/models/org/text"
OWN = {"authorization": f"Bearer {KEY}"}
EVENT = b'data: {"index":1,"token":{"id":1,"text":"a","logprob":0.0,"special":false},"generated_text":"a"}\n\n'


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    with listening(upstream):
        yield upstream


@pytest.fixture(scope="module")
def running(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    config = f"""
virtual_keys: [{{name: alice, key: {KEY}}}, {{name: bob, key: {BOBS}}}]
upstreams: {{tgi: {{provider: tgi, base_url: "http://127.0.0.1:{upstream.port}"}}}}
tables: []
models:
  org/text: {{deployments: [{{upstream: tgi}}]}}
  org/twin: {{deployments: [{{upstream: tgi}}]}}
  org/never: {{cache: false, deployments: [{{upstream: tgi}}]}}
  org/chat: {{cache: true, deployments: [{{upstream: tgi}}]}}
  alias: {{alias: org/text}}
"""
    with serving(config, tmp_path_factory.mktemp("cache")) as running:
        yield running


@pytest.fixture
def client(running: Running, upstream: Upstream) -> Iterator[httpx2.Client]:
    """Each answer has the number of the request that it was made for."""

    def answer(model: str, head: bytes) -> list[bytes]:
        number = len(upstream.seen)
        if b"/chat/completions" in head:
            message = {"role": "assistant", "content": str(number)}
            return [full(200, json.dumps({"choices": [{"finish_reason": "stop", "message": message}]}).encode())]
        if b'"stream":true' in upstream.seen[-1][1] or b"generate_stream" in head:
            return chunked([EVENT.replace(b'"a"', b'"%d"' % number)])
        return [full(200, b'[{"generated_text":"%d"}]' % number, b"x-compute-time: 0.033\r\n")]

    upstream.seen.clear()
    upstream.answer = answer
    with httpx2.Client(base_url=running.base, headers=OWN, timeout=20) as client:
        yield client


def asked(text: str, **more: Any) -> dict[str, Any]:
    return {"inputs": text, "parameters": {"temperature": 1}, **more}


def test_the_same_again_is_answered_from_the_cache(client: httpx2.Client, upstream: Upstream) -> None:
    first, again = (client.post(PATH, json=asked("one")) for _ in range(2))
    assert first.json() == again.json() and len(upstream.seen) == 1
    assert "x-compute-type" not in first.headers
    assert (again.headers["x-compute-type"], again.headers["x-compute-time"]) == ("cache", "0.033")
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert client.post("/models/alias", json=asked("one")).headers["x-compute-type"] == "cache"


@pytest.mark.parametrize(
    "twin",
    [
        {"headers": {"x-use-cache": "0"}},
        {"headers": {"x-use-cache": "false"}},
        {"json": {"options": {"use_cache": False}}},
        {"headers": {"authorization": f"Bearer {BOBS}"}},
        {"json": {"parameters": {"temperature": 1.0}}},
        {"json": {"stream": True}},
        {"url": "/models/org/twin"},
        {"url": "/models/org/never"},
        {"url": PATH + ":tgi"},
    ],
    ids=str,
)
def test_nobody_has_an_answer_that_was_not_for_it(
    client: httpx2.Client, upstream: Upstream, twin: dict[str, Any]
) -> None:
    body = asked(f"two {twin}")
    before = client.post(PATH, json=body)
    answer = client.post(twin.get("url", PATH), json=body | twin.get("json", {}), headers=twin.get("headers"))
    assert answer.status_code == 200 and "x-compute-type" not in answer.headers
    assert len(upstream.seen) == 2 and answer.content != before.content
    assert client.post(PATH, json=body).content == before.content


def test_a_stream_is_replayed_whole(client: httpx2.Client, upstream: Upstream) -> None:
    first, again = (client.post(PATH, json=asked("three", stream=True)) for _ in range(2))
    assert first.content == again.content and len(upstream.seen) == 1
    assert "content-length" not in first.headers
    assert again.headers["content-length"] == str(len(first.content))
    assert again.headers["content-type"].startswith("text/event-stream")
    assert again.headers["x-compute-type"] == "cache"


def test_chats_are_kept_where_the_route_says_so(client: httpx2.Client, upstream: Upstream) -> None:
    for model, count in (("org/chat", 1), ("org/text", 2)):
        upstream.seen.clear()
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        for _ in range(2):
            assert client.post("/v1/chat/completions", json=body).status_code == 200
        assert len(upstream.seen) == count


def test_a_fault_is_asked_for_again(client: httpx2.Client, upstream: Upstream) -> None:
    working, upstream.answer = upstream.answer, lambda model, head: [full(422, b'{"error":"no"}')]
    assert client.post(PATH, json=asked("four")).status_code == 422
    upstream.answer = working
    assert client.post(PATH, json=asked("four")).status_code == 200


def test_those_who_ask_the_same_at_once_are_one_request(client: httpx2.Client, upstream: Upstream) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client.post(PATH, json=asked("five")), range(16)))
    assert len(upstream.seen) == 1 and len({each.content for each in answers}) == 1
    assert sum(each.headers.get("x-compute-type") == "cache" for each in answers) == 15


def test_what_came_from_the_cache_is_told_and_costs_no_tokens(client: httpx2.Client, running: Running) -> None:
    ids = [client.post(PATH, json=asked("six")).headers["x-request-id"] for _ in range(2)]
    assert 'router_cache_requests_total{result="hit"}' in client.get("/metrics").text
    records: dict[object, dict[str, object]] = {}
    while not set(ids) <= set(records):
        records = {each["id"]: each for each in running.records(len(records) + 1)}
    assert [records[each]["cache"] for each in ids] == ["miss", "hit"]
    assert (records[ids[1]]["tries"], records[ids[1]]["upstream"]) == ([], "tgi")
