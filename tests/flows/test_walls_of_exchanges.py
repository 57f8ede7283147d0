"""Attacks on pass-through and exchanges, over real sockets: rights, addresses inside, heads, answers that are none."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.flows.raw import FULL, Upstream, full, listening
from tests.running import KEY, Running, serving

FEW = "bob-canary-000000000000000000000"
JSON = {"content-type": "application/json"}
INSIDE = "http://169.254.169.254/latest"
CHAT = "/there/chat/completions"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    with listening(upstream):
        yield upstream


@pytest.fixture(scope="module")
def running(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    here = f"http://127.0.0.1:{upstream.port}"
    config = f"""
plans: {{most: {{not_models: ["secret*"]}}, few: {{models: ["allowed*"]}}}}
virtual_keys: [{{name: alice, key: {KEY}, plan: most}}, {{name: bob, key: {FEW}, plan: few}}]
rest: {{after: 1000 failures/1s}}
upstreams:
  there: {{provider: openai, base_url: "{here}/tenant/v1", keys: [up-canary-0000000], url_inputs: pass,
           pass_through: true}}
  own: {{provider: openai, base_url: "{here}/v1", pass_through: true}}
  hub: {{provider: hf-inference, base_url: "{here}"}}
  tgi: {{provider: tgi, base_url: "{here}", pass_through: true}}
  queue: {{provider: fal-ai, base_url: "{here}", keys: [fal-canary-0000000], url_inputs: pass, fetch_from: ["{here}"]}}
models:
  painter: {{task: text-to-image, deployments: [{{upstream: queue, provider_id: fal-ai/cheap}}]}}
  eyes: {{task: image-classification, deployments: [{{upstream: hub}}]}}
  text: {{task: text-generation, deployments: [{{upstream: tgi}}]}}
  secret/painter: {{task: text-to-image, deployments: [{{upstream: queue, provider_id: fal-ai/dear}}]}}
"""
    with serving(config, tmp_path_factory.mktemp("walls")) as running:
        yield running


@pytest.fixture
def client(running: Running, upstream: Upstream) -> Iterator[httpx2.Client]:
    upstream.seen.clear()
    upstream.answer = lambda model, head: [full(200, FULL)]
    headers = {"authorization": f"Bearer {KEY}", "x-use-cache": "0"}
    with httpx2.Client(base_url=running.base, headers=headers, timeout=20) as client:
        yield client


FORM = b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\n%b\r\n--b--\r\n'
TOLD: list[tuple[str, bytes, dict[str, str]]] = [
    (CHAT, b'{"model":"secret1"}', JSON),
    (CHAT, b' \n{"model":"secret1"}', JSON),
    (CHAT, b'{"model":"secret1"}', {"content-type": "text/plain"}),
    (CHAT, b'{"model":"secret1"}', {"content-type": "application/x-www-form-urlencoded"}),
    (CHAT, b'{"model":"fine","version":"secret1"}', JSON),
    (CHAT, '{"model":"secret1"}'.encode("utf-16"), JSON),
    (CHAT, '{"model":"secret1"}'.encode("utf-8-sig"), JSON),
    (CHAT, b"model=secret1", {"content-type": "application/x-www-form-urlencoded"}),
    ("/there/audio/transcriptions", FORM % b"secret1", {"content-type": "multipart/form-data; boundary=b"}),
    ("/queue/fal-ai/dear", b'{"prompt":"a cat"}', JSON),
    ("/queue/fal-ai/dear", b'{"prompt":"a cat","model":"fine"}', JSON),
    ("/queue/fal-ai//dear", b'{"prompt":"a cat"}', JSON),
    ("/queue/fal-ai/%252e/dear", b'{"prompt":"a cat"}', JSON),
    ("/queue/fal-ai%252fdear", b'{"prompt":"a cat"}', JSON),
    ("/queue/x/%252e%252e/fal-ai/dear", b'{"prompt":"a cat"}', JSON),
]


@pytest.mark.parametrize(("path", "body", "headers"), TOLD)
def test_no_way_of_writing_it_opens_a_model_that_a_key_may_not_have(
    path: str, body: bytes, headers: dict[str, str], client: httpx2.Client, upstream: Upstream
) -> None:
    assert client.post(path, content=body, headers=headers).status_code in (400, 404)
    assert upstream.seen == []


@pytest.mark.parametrize("model", ["secret/painter", "fal-ai/dear:queue", "fal-ai/dear:fal-ai", "queue/fal-ai/dear"])
def test_a_model_that_a_key_may_not_have_is_not_had_under_its_provider_s_id(
    model: str, client: httpx2.Client, upstream: Upstream
) -> None:
    assert client.post(f"/models/{model}/pipeline/text-to-image", json={"inputs": "a cat"}).status_code == 404
    assert client.post("/v1/images/generations", json={"model": model, "prompt": "a cat"}).status_code == 404
    assert upstream.seen == []


def test_who_may_have_a_few_models_has_these_through_a_provider_s_own_api(
    client: httpx2.Client, upstream: Upstream
) -> None:
    few = {"authorization": f"Bearer {FEW}"}
    assert client.post(CHAT, json={"model": "allowed1"}, headers=few).status_code == 200
    assert client.post(CHAT, json={"model": "other"}, headers=few).status_code == 404
    assert client.post("/queue/other", json={"model": "allowed1"}, headers=few).status_code == 404
    form = {"content-type": "multipart/form-data; boundary=b"}
    upstream.reads = "size"
    try:
        for model, status in ((b"allowed1", 200), (b"other", 404)):
            answer = client.post("/there/audio/transcriptions", content=FORM % model, headers=few | form)
            assert answer.status_code == status
    finally:
        upstream.reads = "body"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/own/chat/completions", {"model": "m", "messages": [{"content": [{"image_url": {"url": INSIDE}}]}]}),
        ("/tgi/generate", {"inputs": f"![]({INSIDE})"}),
        ("/hub/anything", {"inputs": INSIDE}),
        ("/hub/anything", [{"inputs": {"image": INSIDE}}]),
        ("/models/eyes", {"inputs": INSIDE}),
        ("/models/eyes", {"inputs": INSIDE, "parameters": {"top_k": 1}}),
        ("/models/text", {"inputs": f"what is this? ![]({INSIDE})"}),
        ("/v1/chat/completions", {"model": "m:tgi", "messages": [{"role": "user", "content": f"![]({INSIDE})"}]}),
    ],
)
def test_no_server_of_one_s_own_is_sent_to_an_address(
    path: str, body: Any, client: httpx2.Client, upstream: Upstream
) -> None:
    assert client.post(path, json=body).status_code in (400, 404)
    assert upstream.seen == []


CUT = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ([CUT % 200, b""], 502),
        ([CUT % 500, b""], 502),
        (
            [b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-encoding: br\r\ncontent-length: 1\r\n\r\n{"],
            502,
        ),
        ([full(200, b"[" * 50_000 + b"]" * 50_000)], 200),
        ([full(200, b"\xff\xfe no JSON")], 200),
    ],
)
def test_an_answer_that_is_none_is_told_and_what_is_odd_passes_through(
    answer: list[bytes], status: int, client: httpx2.Client, upstream: Upstream
) -> None:
    upstream.answer = lambda model, head: answer
    got = client.post(CHAT, json={"model": "m"})
    assert got.status_code == status
    assert status == 200 or "there" in got.json()["error"]


def test_head_is_answered_without_a_body_whatever_there_is_to_say(running: Running) -> None:
    host, _, port = running.base.removeprefix("http://").partition(":")
    asked = b"HEAD /there/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n\r\n" % KEY.encode()
    with socket.create_connection((host, int(port))) as peer:
        peer.sendall(asked + b"GET /health/liveness HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        said = b"".join(iter(lambda: peer.recv(65536), b""))
    first, _, rest = said.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 404 ") and rest.startswith(b"HTTP/1.1 200 ")


def test_a_caller_s_patience_bounds_an_upload_too(client: httpx2.Client, upstream: Upstream) -> None:
    upstream.answer = lambda model, head: None
    upstream.reads = "body"
    form = {"model": "whisper:there"}
    sent = {"files": {"file": ("a.wav", b"RIFF")}, "data": form, "headers": {"x-router-max-wait": "300ms"}}
    began = time.monotonic()
    answer = client.post("/v1/audio/transcriptions", **sent)  # type: ignore[arg-type]
    assert time.monotonic() - began < 10, "the upstream never answers; ten minutes are what it has otherwise"
    assert answer.status_code in (502, 504) and json.loads(answer.content)["error"]


PAGE = b"HTTP/1.1 200 X\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: 6\r\n\r\n<html>"
HALF = b"HTTP/1.1 200 X\r\ncontent-type: image/png\r\n\r\nhalf a picture"


def painted(upstream: Upstream, file: list[bytes]) -> None:
    """The next pictures lie at a URL, where this is."""
    url = f"http://127.0.0.1:{upstream.port}/a.png"
    made = full(200, json.dumps({"images": [{"url": url}]}).encode())
    upstream.answer = lambda model, head: file if head.startswith(b"GET") else [made]


def test_a_page_is_no_picture_whether_it_is_passed_on_or_gathered(client: httpx2.Client, upstream: Upstream) -> None:
    painted(upstream, [PAGE])
    assert client.post("/models/painter", json={"inputs": "a cat"}).status_code == 502
    asked = {"model": "painter", "prompt": "a cat", "response_format": "b64_json"}
    assert client.post("/v1/images/generations", json=asked).status_code == 502


def test_a_file_that_ended_with_its_connection_is_passed_on_and_not_kept(
    client: httpx2.Client, upstream: Upstream
) -> None:
    painted(upstream, [HALF, b""])
    for _ in range(2):
        answer = client.post("/models/painter", json={"inputs": "half"}, headers={"x-use-cache": "1"})
        assert answer.content == b"half a picture" and answer.headers.get("x-compute-type") != "cache"
