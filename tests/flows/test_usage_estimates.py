"""What nobody says is counted, through the running server: of streams that are silent of it, that break, that are left;
and what is paid by the piece.
"""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest

from router import stream
from tests.flows.raw import Upstream, chunked, full, listening
from tests.providers.hub_calls import FLAC, PNG, b64
from tests.running import KEY, Running, serving

pytestmark = pytest.mark.skipif(not hasattr(stream, "estimates"), reason="streams are not counted yet")

HEAD: Final = {"authorization": f"Bearer {KEY}"}
SAY: Final = [{"role": "user", "content": "x" * 400}]
WORD: Final = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
END: Final = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
TOLD: Final = (
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":10}}\n\n'
)
STREAMS: Final[dict[str, list[bytes]]] = {
    "silent": [*chunked([WORD * 10, END + b"data: [DONE]\n\n"])],
    "breaks": [*chunked([WORD * 10])[:-1], b""],
    "breaks-after-telling": [*chunked([WORD * 9 + TOLD + WORD * 5])[:-1], b""],
    "hangs": [*chunked([WORD * 10])[:-1]],
}
FIVE: Final = {"total_tokens": 5}
DRAWN: Final = {"b64_json": b64(PNG)}
WHOLE: Final[dict[str, tuple[str, str, dict[str, Any], Any, bytes]]] = {
    # path, task, what is asked, what comes, its head
    "images": ("/v1/images/generations", "text-to-image", {"prompt": "x", "n": 3}, {"data": [DRAWN] * 2}, b""),
    "hub-image": ("/models/hub-image", "text-to-image", {"inputs": "x"}, {"data": [DRAWN]}, b""),
    "speech": ("/v1/audio/speech", "text-to-speech", {"input": "hello", "voice": "alloy"}, bytes(FLAC), b""),
    "embeddings": ("/v1/embeddings", "feature-extraction", {"input": ["x" * 40]}, {"data": [], "usage": FIVE}, b""),
    "counted-embeddings": ("/v1/embeddings", "feature-extraction", {"input": ["x" * 40]}, {"data": []}, b""),
    "tei": ("/v1/embeddings", "feature-extraction", {"input": ["x"]}, {"data": []}, b"x-compute-tokens: 5\r\n"),
    "rerank": ("/v1/rerank", "text-ranking", {"query": "q", "documents": ["d"]},
               {"results": [], "meta": {"billed_units": {"input_tokens": 6}}}, b""),
}  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    upstream = Upstream()

    def answer(_: str, head: bytes) -> list[bytes] | None:
        name = head.split(b" ")[1].split(b"/")[1].decode()
        if name in STREAMS:
            if name == "hangs":
                time.sleep(0.05)
            return STREAMS[name]
        said, lines = WHOLE[name][3:]
        whole = full(200, said if isinstance(said, bytes) else json.dumps(said).encode(), lines)
        return [whole.replace(b"application/json", b"audio/flac") if isinstance(said, bytes) else whole]

    upstream.answer = answer
    with listening(upstream):
        config: dict[str, Any] = {"retry": {"splice": False}, "upstreams": {}, "models": {}}
        config["virtual_keys"] = [{"name": "alice", "key": KEY}]
        for name in [*STREAMS, *WHOLE]:
            base = f"http://127.0.0.1:{upstream.port}/{name}"
            config["upstreams"][name] = {"provider": "openai", "base_url": base}
            task = WHOLE[name][1] if name in WHOLE else "conversational"
            config["models"][name] = {"task": task, "deployments": [{"upstream": name, "provider_id": "up"}]}
        with serving(json.dumps(config), tmp_path_factory.mktemp("estimates")) as running:
            yield running


@pytest.mark.parametrize(
    ("name", "outcome", "written"),
    [("silent", "ok", 8), ("breaks", "broken", 8), ("breaks-after-telling", "broken", 15)],
)
def test_a_stream_that_does_not_say_it_is_counted(running: Running, name: str, outcome: str, written: int) -> None:
    asked = {"model": name, "messages": SAY, "stream": True}
    httpx2.post(running.base + "/v1/chat/completions", json=asked, headers={**HEAD, "x-request-id": name}, timeout=10)
    record = running.record(name)
    print(name, record["output_tokens"])
    assert (record["outcome"], record["estimated"]) == (outcome, True)
    assert written <= int(str(record["output_tokens"])) <= written + 4
    assert record["input_tokens"] == (9 if "telling" in name else pytest.approx(108, abs=8))


def test_a_stream_that_is_left_is_counted_as_far_as_it_came(running: Running) -> None:
    host, port = running.base.removeprefix("http://").split(":")
    body = json.dumps({"model": "hangs", "messages": SAY, "stream": True}).encode()
    lines = [f"authorization: Bearer {KEY}", "x-request-id: left", f"content-length: {len(body)}", f"host: {host}"]
    with socket.create_connection((host, int(port)), timeout=5) as caller:
        caller.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        seen = b""
        while seen.count(b" word") < 10:
            seen += caller.recv(65536)
    record = running.record("left")
    assert (record["outcome"], record["estimated"]) == ("client_gone", True)
    assert 10 <= int(str(record["output_tokens"])) <= 14


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("images", {"images": 2}),
        ("hub-image", {"images": 1}),
        ("speech", {"characters": 5}),
        ("embeddings", {"input_tokens": 5, "estimated": False}),
        ("counted-embeddings", {"input_tokens": 11, "estimated": True}),
        ("tei", {"input_tokens": 5, "estimated": False}),
        ("rerank", {"input_tokens": 6, "estimated": False}),
    ],
)
def test_what_a_whole_answer_used(running: Running, name: str, found: dict[str, Any]) -> None:
    path, _, asked, _, _ = WHOLE[name]
    body = asked if path.startswith("/models") else {**asked, "model": name}
    answer = httpx2.post(running.base + path, json=body, headers={**HEAD, "x-request-id": name}, timeout=10)
    assert answer.status_code == 200, answer.text
    record = running.record(name)
    print(name, {each: record[each] for each in found})
    assert {each: record[each] for each in found} == found
