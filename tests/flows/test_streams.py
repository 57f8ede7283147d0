"""Streams however their bytes are cut: relayed as they came, carried from one shape into another, and hostile ones."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from tests.flows.raw import Upstream, chunked, cut, listening
from tests.running import KEY, Running, serving

CUTS = 30
TEXT = ("한국어 \u2028", " caf\u00e9", " 🦙 \\n", ' "quoted"', " end")
ANEW = {"authorization": f"Bearer {KEY}", "x-use-cache": "0"}
OPENAI: list[dict[str, Any]] = [
    *({"id": "c", "model": "up", "choices": [{"index": 0, "delta": {"content": each}}]} for each in TEXT),
    {"id": "c", "model": "up", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}},
]
COMPLETIONS: list[dict[str, Any]] = [
    *({"id": "c", "choices": [{"index": 0, "text": each, "finish_reason": None}]} for each in TEXT),
    {"id": "c", "choices": [{"index": 0, "text": "", "finish_reason": "length"}]},
]
TOKENS = [
    {
        "index": number,
        "token": {"id": number, "text": each, "logprob": -0.5, "special": False},
        "generated_text": "".join(TEXT) if number == len(TEXT) else None,
        "details": {"finish_reason": "length", "generated_tokens": 5, "input_length": 3}
        if number == len(TEXT)
        else None,
    }
    for number, each in enumerate(TEXT, 1)
]


def sse(events: list[Any], end: str = "\n", done: bool = True) -> bytes:
    blocks = [f"data: {json.dumps(each, ensure_ascii=False)}{end}{end}" for each in events]
    return "".join([f": hello{end}{end}", *blocks, f"data: [DONE]{end}{end}" if done else ""]).encode()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    made = Upstream()
    with listening(made):
        yield made


@pytest.fixture(scope="module")
def running(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    config = f"""
virtual_keys: [{{name: alice, key: {KEY}}}]
upstreams:
  chats: {{provider: openai, base_url: "http://127.0.0.1:{upstream.port}/v1", models: [m]}}
  groq: {{provider: groq, base_url: "http://127.0.0.1:{upstream.port}"}}  # has no completions
  tgi: {{provider: tgi, base_url: "http://127.0.0.1:{upstream.port}", models: [t]}}
models:
  only-chat: {{deployments: [{{upstream: groq, provider_id: m}}]}}
tables: []
"""
    with serving(config, tmp_path_factory.mktemp("streams")) as running:
        yield running


Stream = Callable[[str, dict[str, Any]], bytes]


@pytest.fixture
def stream(running: Running) -> Iterator[Stream]:
    with httpx2.Client(base_url=running.base, headers=ANEW, timeout=20) as client:

        def post(path: str, body: dict[str, Any]) -> bytes:
            answer = client.post(path, json=body)
            assert answer.status_code == 200, answer.text
            return answer.content

        yield post


def ways(data: bytes) -> Iterator[list[bytes]]:
    """Whole, byte by byte, and at random."""
    yield [data]
    yield [bytes([each]) for each in data]
    dice = random.Random(11)
    for _ in range(CUTS):
        yield cut(data, dice)


def payloads(content: bytes) -> list[Any]:
    lines = content.replace(b"\r\n", b"\n").split(b"\n")
    return [json.loads(line[5:]) for line in lines if line.startswith(b"data:") and line[5:].strip() != b"[DONE]"]


CHAT = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_relayed_stream_is_byte_for_byte_the_upstreams(end: str, stream: Stream, upstream: Upstream) -> None:
    sent = sse(OPENAI[:-1], end)
    for pieces in ways(sent):
        upstream.answer = lambda model, head, pieces=pieces: chunked(pieces)  # type: ignore[misc]
        assert stream("/v1/chat/completions", CHAT) == sent


def test_a_tgi_stream_is_byte_for_byte_the_upstreams(stream: Stream, upstream: Upstream) -> None:
    sent = sse(TOKENS, done=False)
    for pieces in ways(sent):
        upstream.answer = lambda model, head, pieces=pieces: chunked(pieces)  # type: ignore[misc]
        assert stream("/models/t/generate_stream", {"inputs": "x"}) == sent


@pytest.mark.parametrize("model", ["m", "only-chat"])
def test_text_generation_is_carried_over_from_openais_shape_alike(
    model: str, stream: Stream, upstream: Upstream
) -> None:
    sent = sse(COMPLETIONS if model == "m" else OPENAI, "\r\n")
    first = None
    for pieces in ways(sent):
        upstream.answer = lambda model, head, pieces=pieces: chunked(pieces)  # type: ignore[misc]
        events = payloads(stream(f"/models/{model}", {"inputs": "x", "stream": True}))
        assert "".join(each["token"]["text"] for each in events if not each["token"]["special"]) == "".join(TEXT)
        assert events[-1]["generated_text"].endswith("".join(TEXT))
        assert events[-1]["details"]["finish_reason"] == ("length" if model == "m" else "eos_token")
        assert model == "m" or events[-1]["details"]["generated_tokens"] == 5  # as its usage says
        first = first or events
        assert events == first


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param(b'data: {"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}\n\n", id="nested"),
        pytest.param(b'data: {"x":"\xff\xfe"}\n\n', id="not utf-8"),
        pytest.param(b"data: {\n\n", id="torn"),
        pytest.param(b"data: 7\n\n", id="no object"),
        pytest.param(b"\xff\xfe\xfd\n\n", id="noise"),
    ],
)
@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/models/only-chat"])
def test_a_hostile_event_breaks_neither_the_server_nor_the_rest(
    hostile: bytes, place: int, path: str, running: Running, upstream: Upstream
) -> None:
    good = sse(OPENAI).split(b"\n\n")[:-1]
    sent = (
        b"".join(each + b"\n\n" for each in good[:place]) + hostile + b"".join(each + b"\n\n" for each in good[place:])
    )
    upstream.answer = lambda model, head: chunked([sent])
    body = CHAT if path.startswith("/v1") else {"inputs": "x", "stream": True}
    answer = httpx2.post(running.base + path, json=body, headers=ANEW, timeout=20)
    assert answer.status_code in (200, 502), answer.text[:300]
    if answer.status_code == 200 and path.startswith("/v1"):
        assert answer.content.endswith(b"data: [DONE]\n\n")
    assert "Traceback" not in running.errors.read_text()


ERROR = b'data: {"error":{"message":"overloaded","code":"x"}}\n\n'


def test_what_follows_an_error_event_is_dropped_however_it_was_cut(stream: Stream, upstream: Upstream) -> None:
    before, behind = sse(OPENAI[:2], done=False), sse(OPENAI)
    for pieces in [
        [before, ERROR, behind],
        [before + ERROR + behind],
        [before, ERROR + behind],
        [before + ERROR, behind],
    ]:
        upstream.answer = lambda model, head, pieces=pieces: chunked(pieces)  # type: ignore[misc]
        assert stream("/v1/chat/completions", CHAT) == before + ERROR
        carried = stream("/models/only-chat", {"inputs": "x", "stream": True})
        assert carried.count(b'"error"') == 1 and b"[DONE]" not in carried
        assert carried.rstrip().endswith(b"}") and b'"error"' in carried.split(b"data:")[-1]


def test_usage_that_comes_with_every_event_is_counted_once(
    stream: Stream, running: Running, upstream: Upstream
) -> None:
    """vLLM's `continuous_usage_stats`."""
    counted = [{**each, "usage": {"prompt_tokens": 3, "completion_tokens": n}} for n, each in enumerate(OPENAI[:-1])]
    upstream.answer = lambda model, head: chunked([sse(counted)])
    before = running.written()
    assert stream("/v1/chat/completions", CHAT) == sse(counted)
    record = running.records(before + 1)[-1]
    assert (record["input_tokens"], record["output_tokens"]) == (3, len(counted) - 1)
