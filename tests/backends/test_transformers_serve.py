"""A real model server behind the router: `transformers serve` with a model made on the spot (`pytest -m backends`).

Every answer is asked for twice, of the server itself and through the router, greedily, and must be the same.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from huggingface_hub import InferenceClient

from tests.running import KEY, Running, free_port, serving

pytestmark = pytest.mark.backends

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MODEL = "tiny/llama-chat"
ROUTED = "meta-llama/Llama-3.1-8B-Instruct"
SAY: list[Any] = [{"role": "user", "content": "How do I point a client at the router?"}]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 48, "seed": 1}


@dataclass(frozen=True)
class Backend:
    base: str
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="session")
def backend_venv(venvs: Path) -> Path:
    place = venvs / "backends"
    if not (place / "whole").exists():
        venv.create(place, with_pip=True)
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        # torch first and by itself, and named again: any other order takes the build for GPUs.
        subprocess.run([*pip, "torch==2.13.0"], check=True)
        wanted = ["torch==2.13.0", "transformers[serving]==5.23.0", "python-multipart"]  # [serving] lacks the last
        subprocess.run([*pip, *wanted], check=True)
        (place / "whole").touch()
    return place


@pytest.fixture(scope="session")
def cache(backend_venv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hub")
    program = [backend_venv / "bin" / "python", HERE / "tiny_model.py", ROOT / "README.md", place]
    command = [*map(str, program), MODEL]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": ""})
    return place


@contextlib.contextmanager
def transformers_serve(backend_venv: Path, cache: Path, place: Path) -> Iterator[Backend]:
    port = free_port()
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    command = [str(backend_venv / "bin" / "transformers"), "serve", "--host", "127.0.0.1", "--port", str(port)]
    with (place / "backend.log").open("wb") as log:
        process = subprocess.Popen([*command, "--device", "cpu"], env=env, stdout=log, stderr=log)
    backend = Backend(f"http://127.0.0.1:{port}", process)
    try:
        for _ in range(1200):
            with contextlib.suppress(httpx2.TransportError):
                if httpx2.get(backend.base + "/health").status_code == 200:
                    break
            assert process.poll() is None, (place / "backend.log").read_text()[-3000:]
            time.sleep(0.1)
        yield backend
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def backend(backend_venv: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with transformers_serve(backend_venv, cache, tmp_path_factory.mktemp("backend")) as backend:
        yield backend


def config_of(backend: Backend) -> str:
    return f"""
virtual_keys: [{{name: alice, key: {KEY}}}]
upstreams:
  mine: {{provider: openai, base_url: "{backend.base}/v1", models: discover}}
models:
  {ROUTED}: {{echo_model: true, deployments: [{{upstream: mine, provider_id: {MODEL}}}]}}
tables: []
"""


@pytest.fixture(scope="module")
def running(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(config_of(backend), tmp_path_factory.mktemp("through")) as running:
        yield running


@pytest.fixture(scope="module")
def clients(backend: Backend, running: Running) -> Iterator[tuple[openai.OpenAI, openai.OpenAI]]:
    """To the server itself, and through the router."""
    with (
        openai.OpenAI(base_url=backend.base + "/v1", api_key="none", max_retries=0) as direct,
        openai.OpenAI(base_url=running.base + "/v1", api_key=KEY, max_retries=0) as through,
    ):
        yield direct, through


def test_its_models_are_discovered(clients: tuple[openai.OpenAI, openai.OpenAI]) -> None:
    assert {MODEL, ROUTED} <= {each.id for each in clients[1].models.list()}


@pytest.mark.parametrize("model", [MODEL, ROUTED])
def test_a_chat_is_the_same_through_the_router(model: str, clients: tuple[openai.OpenAI, openai.OpenAI]) -> None:
    direct = clients[0].chat.completions.create(model=MODEL, messages=SAY, **GREEDY)
    through = clients[1].chat.completions.create(model=model, messages=SAY, **GREEDY)
    assert direct.choices[0].message.content == through.choices[0].message.content
    assert len(direct.choices[0].message.content or "") > 20
    assert direct.choices[0].finish_reason == through.choices[0].finish_reason
    assert direct.usage == through.usage
    if model == ROUTED:
        assert through.model == ROUTED  # echo_model


@pytest.mark.parametrize("model", [MODEL, ROUTED])
def test_a_streamed_chat_is_the_same_token_for_token(model: str, clients: tuple[openai.OpenAI, openai.OpenAI]) -> None:
    def tokens(client: openai.OpenAI, model: str) -> list[tuple[str | None, str | None]]:
        stream = client.chat.completions.create(model=model, messages=SAY, stream=True, **GREEDY)
        return [(each.choices[0].delta.content, each.choices[0].finish_reason) for each in stream]

    direct = tokens(clients[0], MODEL)
    assert direct == tokens(clients[1], model)
    assert len([text for text, _ in direct if text]) > 10


def test_a_stream_is_the_same_event_for_event(backend: Backend, running: Running) -> None:
    """But for what differs between any two calls: ids and times. And the `[DONE]` that this server leaves out."""

    def events(base: str) -> list[Any]:
        body = {"model": MODEL, "messages": SAY, "stream": True, **GREEDY}
        headers = {"authorization": f"Bearer {KEY}"}
        with httpx2.stream("POST", f"{base}/v1/chat/completions", json=body, headers=headers, timeout=60) as answer:
            assert answer.status_code == 200
            said = answer.read().decode().split("\n\n")
        found = [json.loads(each.removeprefix("data: ")) for each in said if each and "[DONE]" not in each]
        assert ("data: [DONE]" in said) == (base == running.base)
        return [{name: value for name, value in each.items() if name not in ("id", "created")} for each in found]

    assert events(backend.base) == events(running.base)


def test_completions_and_hugging_faces_text_generation_are_the_same(
    clients: tuple[openai.OpenAI, openai.OpenAI], running: Running
) -> None:
    prompt = "The router"
    direct = clients[0].completions.create(model=MODEL, prompt=prompt, **GREEDY).choices[0]
    through = clients[1].completions.create(model=MODEL, prompt=prompt, **GREEDY).choices[0]
    assert (direct.text, direct.finish_reason) == (through.text, through.finish_reason)
    client = InferenceClient(model=f"{running.base}/models/{MODEL}", token=KEY)
    options: dict[str, Any] = {"max_new_tokens": 48, "seed": 1, "return_full_text": False, "do_sample": False}
    assert client.text_generation(prompt, **options) == direct.text
    assert "".join(client.text_generation(prompt, stream=True, **options)) == direct.text
    detailed = client.text_generation(prompt, details=True, **options)
    assert detailed.generated_text == direct.text and detailed.details is not None
    whole = client.text_generation(prompt, **{**options, "return_full_text": True})
    assert whole == prompt + direct.text


def test_inference_client_chats(clients: tuple[openai.OpenAI, openai.OpenAI], running: Running) -> None:
    direct = clients[0].chat.completions.create(model=MODEL, messages=SAY, **GREEDY).choices[0].message.content
    client = InferenceClient(base_url=running.base + "/v1", api_key=KEY)
    asked: dict[str, Any] = {"model": ROUTED, "max_tokens": 48, "temperature": 0, "seed": 1}
    assert client.chat_completion(SAY, **asked).choices[0].message.content == direct
    streamed = client.chat_completion(SAY, stream=True, **asked)
    assert "".join(each.choices[0].delta.content or "" for each in streamed) == direct


def test_responses_answer_whole_though_this_server_streams_unless_told(
    clients: tuple[openai.OpenAI, openai.OpenAI],
) -> None:
    said = clients[1].responses.create(model=MODEL, input="hello", max_output_tokens=16, temperature=0)
    assert said.status in ("completed", "incomplete") and said.output_text


def test_eight_streams_at_once_are_each_whole(clients: tuple[openai.OpenAI, openai.OpenAI], running: Running) -> None:
    direct = clients[0].chat.completions.create(model=MODEL, messages=SAY, **GREEDY).choices[0].message.content

    async def eight() -> list[str]:
        async with openai.AsyncOpenAI(base_url=running.base + "/v1", api_key=KEY, max_retries=0) as client:

            async def one() -> str:
                stream = await client.chat.completions.create(model=MODEL, messages=SAY, stream=True, **GREEDY)
                return "".join([each.choices[0].delta.content or "" async for each in stream])

            return await asyncio.gather(*(one() for _ in range(8)))

    assert asyncio.run(eight()) == [direct] * 8


def test_a_server_that_is_killed_in_a_stream_ends_it_with_one_error(
    backend_venv: Path, cache: Path, tmp_path: Path
) -> None:
    with transformers_serve(backend_venv, cache, tmp_path) as backend, serving(config_of(backend), tmp_path) as running:
        body = {"model": MODEL, "messages": SAY, "stream": True, "max_tokens": 800, "temperature": 0}
        url, headers = running.base + "/v1/chat/completions", {"authorization": f"Bearer {KEY}"}
        said = ""
        with httpx2.stream("POST", url, json=body, headers=headers, timeout=60) as answer:
            for piece in answer.iter_text():
                said += piece
                if said.count("data:") > 3:
                    backend.process.send_signal(signal.SIGKILL)
        assert said.count('"error"') == 1 and said.rstrip().endswith("}") and "[DONE]" not in said
        after = httpx2.post(url, json={"model": MODEL, "messages": SAY}, headers=headers, timeout=60)
        assert after.status_code in (502, 503, 504) and after.json()["error"]["message"]
