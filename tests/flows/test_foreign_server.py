"""The app on somebody else's ASGI server: `uvicorn router.app:app` answers what our own server answers."""

import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from router import config
from router.app import Router
from tests.running import KEY, free_port

ROOT = Path(__file__).parents[2]
ECHO = "sandbox/echo"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("foreign")
    (place / "config.yaml").write_text(
        f"virtual_keys: [{{name: alice, key: {KEY}}}]\nupstreams: {{sandbox: {{provider: sandbox}}}}\n"
    )
    port = free_port()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "INFERENCE_ROUTER_CONFIG": str(place / "config.yaml")}
    command = [sys.executable, "-m", "uvicorn", "router.app:app", "--port", str(port), "--log-level", "warning"]
    with (place / "out").open("wb") as out, (place / "err").open("wb") as err:
        server = subprocess.Popen(command, env=env, stdout=out, stderr=err)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            with contextlib.suppress(httpx2.TransportError):
                if httpx2.get(address + "/health").status_code == 200:
                    break
            time.sleep(0.05)
        yield address
    finally:
        server.terminate()
        server.wait(10)
    records = [json.loads(line) for line in (place / "out").read_text().splitlines()]
    assert [each["outcome"] for each in records].count("client_gone") == 1
    assert "Traceback" not in (place / "err").read_text()


@pytest.fixture(scope="module")
def client(base: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base + "/v1", api_key=KEY, max_retries=0) as client:
        yield client


def test_it_chats_and_streams(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model=ECHO, messages=[{"role": "user", "content": "a b c"}])
    assert reply.choices[0].message.content == "a b c"
    chunks = client.chat.completions.create(model=ECHO, messages=[{"role": "user", "content": "a b c"}], stream=True)
    assert "".join(each.choices[0].delta.content or "" for each in chunks) == "a b c"


def test_it_takes_uploads_and_gives_sound(client: openai.OpenAI) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(b"\0\0" * 100_000)
    assert client.audio.transcriptions.create(model=ECHO, file=("a.wav", file.getvalue())).text
    assert len(client.audio.speech.create(model=ECHO, input="hello", voice="alloy").read()) > 1000


def test_it_refuses_in_the_callers_words(base: str, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="no/such", messages=[{"role": "user", "content": "x"}])
    assert httpx2.post(base + "/v1/chat/completions", json={}).status_code == 401
    large = b'{"model":"' + b"x" * (21 << 20) + b'"}'
    with contextlib.suppress(httpx2.TransportError):
        answer = httpx2.post(base + "/v1/chat/completions", content=large, headers={"authorization": f"Bearer {KEY}"})
        assert answer.status_code == 413


def test_a_caller_who_leaves_is_noticed(base: str) -> None:
    asked = {"model": "sandbox/slow", "stream": True, "messages": [{"role": "user", "content": "a b c d e f"}]}
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx2.stream("POST", base + "/v1/chat/completions", json=asked, headers=headers, timeout=20) as answer:
        assert next(answer.iter_bytes())


@pytest.mark.parametrize("pair", [tuple, list])
@pytest.mark.parametrize("all_of_them", [list, tuple, iter])
def test_headers_may_come_as_any_pairs(pair: Any, all_of_them: Any, tmp_path: Path) -> None:
    """So ASGI has it; Mangum makes lists of lists."""
    (tmp_path / "config.yaml").write_text(
        f"virtual_keys: [{{name: alice, key: {KEY}}}]\nupstreams: {{sandbox: {{provider: sandbox}}}}\n"
        f"stores: {{directory: {tmp_path}}}\n"
    )
    headers = ((b"host", b"localhost"), (b"Authorization", f"Bearer {KEY}".encode()))

    async def asked(app: Router, method: str, path: str, body: bytes = b"") -> int:
        sent: list[Any] = []
        came = [{"type": "http.request", "body": body}]

        async def receive() -> Any:
            return came.pop() if came else await asyncio.Future()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": all_of_them([pair(each) for each in headers]), "client": ("127.0.0.1", 1),
            "server": ("localhost", 80), "scheme": "http", "root_path": "", "http_version": "1.1",
        }  # fmt: skip
        await app(scope, receive, send)
        return int(sent[0]["status"])

    async def story() -> list[int]:
        app = Router(config.load(tmp_path / "config.yaml", {}))
        async with app.lifespan():
            chat = json.dumps({"model": ECHO, "messages": [{"role": "user", "content": "a"}]}).encode()
            paths = ("/v1/models", "/v1/usage", "/api/models", "/metrics", "/no/such")
            shown = [await asked(app, "GET", path) for path in paths]
            return [await asked(app, "POST", "/v1/chat/completions", chat), *shown]

    assert asyncio.run(story()) == [200] * 5 + [404]
