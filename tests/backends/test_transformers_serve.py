"""A real model server behind the router: `transformers serve` with a model made on the spot (`pytest -m backends`).

Every answer is asked for twice, of the server itself and through the router, greedily, and must be the same.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from huggingface_hub import InferenceClient

from tests.backends.installed import Backend, installed, make, started
from tests.running import KEY, Running, free_port, serving

pytestmark = pytest.mark.backends

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGES = ("transformers[serving]==5.23.0", "python-multipart")  # [serving] lacks the last

MODEL = "tiny/llama-chat"  # as the server lists it, and as the router discovers it
ROUTED = "meta-llama/Llama-3.1-8B-Instruct"  # as the configuration names it, and answers name it
SECOND = "mistralai/Mistral-7B-Instruct-v0.3"  # whose first place is a port that nobody listens on
ABSENT = "Qwen/Qwen3-8B"  # which the server has not

GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 48, "seed": 1}
ENDLESS: dict[str, Any] = {"generation_config": '{"min_new_tokens": 3500, "max_new_tokens": 3500}'}  # its own option
SAY: list[Any] = [{"role": "user", "content": "How do I point a client at the router?"}]
TURNS: list[Any] = [
    {"role": "system", "content": "Be brief. Seulement en français, 日本語 oder 🦙."},
    {"role": "user", "content": "hello\n\n\u2028there"},
    {"role": "assistant", "content": "Hello! \\ \" '"},
    {"role": "user", "content": "and\tnow?"},
]
LONG: list[Any] = [{"role": "user", "content": "one address in front of your own servers " * 50}]
CONVERSATIONS = {"one turn": SAY, "turns in four scripts": TURNS, "a long prompt": LONG}

Clients = tuple[openai.OpenAI, openai.OpenAI]  # to the server itself, and through the router


@pytest.fixture(scope="session")
def programs(venvs: Path) -> Path:
    return installed(venvs / "transformers", PACKAGES)


@pytest.fixture(scope="session")
def cache(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hub")
    make(programs, HERE / "tiny_model.py", ROOT / "README.md", place, MODEL)
    return place


def transformers_serve(
    programs: Path, cache: Path, place: Path, port: int
) -> contextlib.AbstractContextManager[Backend]:
    command: list[str | Path] = [programs / "transformers", "serve", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--device", "cpu"]
    return started(command, port, place / "backend.log", {"HF_HUB_CACHE": str(cache)})


@pytest.fixture(scope="module")
def backend(programs: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with transformers_serve(programs, cache, tmp_path_factory.mktemp("backend"), free_port()) as backend:
        yield backend


def config_of(port: int) -> str:
    return f"""
virtual_keys: [{{name: alice, key: {KEY}}}]
upstreams:
  mine: {{provider: openai, base_url: "http://127.0.0.1:{port}/v1", models: discover}}
  dead: {{provider: openai, base_url: "http://127.0.0.1:{free_port()}/v1"}}
models:
  {ROUTED}: {{echo_model: true, deployments: [{{upstream: mine, provider_id: {MODEL}}}]}}
  {SECOND}: {{deployments: [{{upstream: dead}}, {{upstream: mine, provider_id: {MODEL}}}]}}
  {ABSENT}: {{deployments: [{{upstream: mine}}]}}
tables: []
"""


@pytest.fixture(scope="module")
def running(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(config_of(port_of(backend)), tmp_path_factory.mktemp("through")) as running:
        yield running


@pytest.fixture(scope="module")
def clients(backend: Backend, running: Running) -> Iterator[Clients]:
    with (
        openai.OpenAI(base_url=backend.base + "/v1", api_key="none", max_retries=0) as direct,
        openai.OpenAI(base_url=running.base + "/v1", api_key=KEY, max_retries=0) as through,
    ):
        yield direct, through


def port_of(backend: Backend) -> int:
    return int(backend.base.rpartition(":")[2])


def post(base: str, body: dict[str, Any], path: str = "/v1/chat/completions") -> httpx2.Response:
    return httpx2.post(base + path, json=body, headers={"authorization": f"Bearer {KEY}"}, timeout=60)


def test_its_models_are_discovered(clients: Clients) -> None:
    assert {MODEL, ROUTED} <= {each.id for each in clients[1].models.list()}


@pytest.mark.parametrize("model", [MODEL, ROUTED, SECOND])
@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_a_chat_is_the_same_through_the_router(messages: list[Any], model: str, clients: Clients) -> None:
    direct = clients[0].chat.completions.create(model=MODEL, messages=messages, **GREEDY)
    through = clients[1].chat.completions.create(model=model, messages=messages, **GREEDY)
    assert direct.choices[0].message.content == through.choices[0].message.content
    assert len(direct.choices[0].message.content or "") > 20
    assert direct.choices[0].finish_reason == through.choices[0].finish_reason
    assert direct.usage == through.usage and direct.usage is not None
    assert through.model == (ROUTED if model == ROUTED else direct.model)  # echo_model


@pytest.mark.parametrize("model", [MODEL, ROUTED, SECOND])
@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_a_streamed_chat_is_the_same_token_for_token(messages: list[Any], model: str, clients: Clients) -> None:
    def tokens(client: openai.OpenAI, model: str) -> list[tuple[Any, ...]]:
        stream = list(client.chat.completions.create(model=model, messages=messages, stream=True, **GREEDY))
        assert model != ROUTED or {each.model for each in stream} == {ROUTED}  # echo_model
        return [(each.choices[0].delta.content, each.choices[0].finish_reason, each.usage) for each in stream]

    direct = tokens(clients[0], MODEL)
    assert direct == tokens(clients[1], model)
    assert len([text for text, *_ in direct if text]) > 10
    whole = clients[0].chat.completions.create(model=MODEL, messages=messages, **GREEDY)
    assert "".join(text or "" for text, *_ in direct) == whole.choices[0].message.content


@pytest.mark.parametrize(
    ("path", "asked"),
    [("/v1/chat/completions", {"messages": SAY}), ("/v1/completions", {"prompt": "The router"})],
    ids=["chat", "completions"],
)
def test_a_stream_is_the_same_event_for_event(
    path: str, asked: dict[str, Any], backend: Backend, running: Running
) -> None:
    """But for what differs between any two calls: ids and times. And the `[DONE]` that this server leaves out."""

    def events(base: str) -> list[Any]:
        answer = post(base, {"model": MODEL, "stream": True, **asked, **GREEDY}, path)
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        said = answer.text.split("\n\n")
        assert said.pop() == ""
        if base == running.base:
            assert said.pop() == "data: [DONE]"
        found = [json.loads(each.removeprefix("data: ")) for each in said]
        return [{name: value for name, value in each.items() if name not in ("id", "created")} for each in found]

    direct = events(backend.base)
    assert direct == events(running.base) and len(direct) > 10


def test_completions_and_hugging_faces_text_generation_are_the_same(clients: Clients, running: Running) -> None:
    prompt = "The router"
    direct = clients[0].completions.create(model=MODEL, prompt=prompt, **GREEDY)
    through = clients[1].completions.create(model=MODEL, prompt=prompt, **GREEDY)
    assert (direct.choices, direct.usage) == (through.choices, through.usage)
    text = direct.choices[0].text
    pieces = [
        each.choices[0].text
        for each in clients[0].completions.create(model=MODEL, prompt=prompt, stream=True, **GREEDY)
        if each.choices[0].text
    ]
    client = InferenceClient(model=f"{running.base}/models/{MODEL}", token=KEY)
    options: dict[str, Any] = {"max_new_tokens": 48, "seed": 1, "return_full_text": False, "do_sample": False}
    assert client.text_generation(prompt, **options) == text
    assert [each for each in client.text_generation(prompt, stream=True, **options) if each] == pieces
    detailed = client.text_generation(prompt, details=True, **options)
    assert detailed.generated_text == text and detailed.details is not None
    assert direct.usage is not None and detailed.details.generated_tokens == direct.usage.completion_tokens
    assert client.text_generation(prompt, **{**options, "return_full_text": True}) == prompt + text
    parameters = {name: value for name, value in options.items() if name != "return_full_text"}
    raw = post(running.base, {"inputs": prompt, "parameters": parameters}, f"/models/{ROUTED}")
    assert raw.json() == [{"generated_text": prompt + text}]


def test_inference_client_chats(clients: Clients, running: Running) -> None:
    direct = clients[0].chat.completions.create(model=MODEL, messages=SAY, **GREEDY)
    said = direct.choices[0].message.content
    client = InferenceClient(base_url=running.base + "/v1", api_key=KEY)
    asked: dict[str, Any] = {"model": ROUTED, "max_tokens": 48, "temperature": 0, "seed": 1}
    whole = client.chat_completion(SAY, **asked)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (said, direct.choices[0].finish_reason)
    assert direct.usage is not None and whole.usage.total_tokens == direct.usage.total_tokens
    streamed = client.chat_completion(SAY, stream=True, **asked)
    assert "".join(each.choices[0].delta.content or "" for each in streamed) == said


def test_responses_answer_whole_though_this_server_streams_unless_told(clients: Clients) -> None:
    asked: dict[str, Any] = {"model": MODEL, "input": "hello", "max_output_tokens": 16, "temperature": 0}
    direct = clients[0].responses.create(stream=False, **asked)
    said = clients[1].responses.create(**asked)
    assert said.status in ("completed", "incomplete")
    assert said.output_text == direct.output_text != ""


def test_eight_streams_at_once_are_each_whole(clients: Clients, running: Running) -> None:
    direct = clients[0].chat.completions.create(model=MODEL, messages=SAY, **GREEDY).choices[0].message.content

    async def eight() -> list[str]:
        async with openai.AsyncOpenAI(base_url=running.base + "/v1", api_key=KEY, max_retries=0) as client:

            async def one() -> str:
                stream = await client.chat.completions.create(model=MODEL, messages=SAY, stream=True, **GREEDY)
                return "".join([each.choices[0].delta.content or "" async for each in stream])

            return await asyncio.gather(*(one() for _ in range(8)))

    assert asyncio.run(eight()) == [direct] * 8


def test_what_it_refuses_is_told_in_the_callers_own_errors(clients: Clients) -> None:
    """It says 422 with FastAPI's `detail`, and for a model that it has not, 500 with two words of plain text."""
    asked: dict[str, Any] = {"messages": SAY, **GREEDY}
    with pytest.raises(openai.UnprocessableEntityError, match="unheard_of"):
        clients[1].chat.completions.create(model=MODEL, extra_body={"unheard_of": 1}, **asked)
    with pytest.raises(openai.InternalServerError, match=f"upstream of '{ABSENT}' answered 500") as told:
        clients[1].chat.completions.create(model=ABSENT, stream=True, **asked)
    assert isinstance(told.value.body, dict) and told.value.body["attempts"][0]["deployment"] == f"mine/{ABSENT}"
    with pytest.raises(openai.NotFoundError):
        clients[1].chat.completions.create(model="nobody/has-this", **asked)


@pytest.mark.skipif(sys.platform != "linux", reason="the seconds that a process worked are read from /proc")
def test_a_caller_who_leaves_a_stream_stops_the_work_in_the_server(
    backend: Backend, running: Running, clients: Clients
) -> None:
    direct = clients[0].chat.completions.create(model=MODEL, messages=SAY, **GREEDY).choices[0].message.content

    def worked() -> float:
        after_name = Path(f"/proc/{backend.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")  # user's and system's

    body = {"model": MODEL, "messages": SAY, "stream": True, "temperature": 0, **ENDLESS}
    headers = {"authorization": f"Bearer {KEY}", "x-request-id": "leaves-early"}
    before = worked()
    with httpx2.stream("POST", f"{running.base}/v1/chat/completions", json=body, headers=headers, timeout=60) as answer:
        lines = answer.iter_lines()
        for _ in range(40):  # it is well under way
            next(lines)
    busy = True
    while busy:
        seen = worked()
        time.sleep(0.3)
        busy = worked() - seen > 0.05
    assert worked() - before < 2  # seconds, of about nine
    assert running.record("leaves-early")["outcome"] == "client_gone"
    again = clients[1].chat.completions.create(model=MODEL, messages=SAY, **GREEDY)
    assert again.choices[0].message.content == direct


def test_a_server_may_start_after_the_router_and_come_back_after_its_death(
    programs: Path, cache: Path, tmp_path: Path
) -> None:
    """Nobody restarts the router: it says so while the server is away, and answers once it is there."""
    port = free_port()
    asked = {"model": ROUTED, "messages": SAY, **GREEDY}
    with serving(config_of(port), tmp_path) as running:
        refused_twice(running, asked)
        with transformers_serve(programs, cache, tmp_path, port) as backend:
            said = answered(running, asked)
            assert said == post(backend.base, {**asked, "model": MODEL}).json()["choices"][0]["message"]["content"]
            broken = stream_until_killed(running, backend)
            assert broken.count('"error"') == 1 and "[DONE]" not in broken
            last = broken.rstrip("\n").rpartition("\n\n")[2]
            assert json.loads(last.removeprefix("data: "))["error"]["message"]
            refused_twice(running, asked)
        with transformers_serve(programs, cache, tmp_path, port):
            assert answered(running, asked) == said


def refused_twice(running: Running, asked: dict[str, Any]) -> None:
    for stream in (False, True):
        answer = post(running.base, {**asked, "stream": stream})
        assert answer.status_code in (502, 503), answer.text
        assert answer.headers["content-type"].startswith("application/json")
        assert ROUTED in answer.json()["error"]["message"]


def answered(running: Running, asked: dict[str, Any]) -> str:
    """Within the seconds for which a place that failed is left alone."""
    for _ in range(150):
        answer = post(running.base, asked)
        if answer.status_code == 200:
            text: str = answer.json()["choices"][0]["message"]["content"]
            return text
        time.sleep(0.1)
    raise AssertionError(answer.text)


def stream_until_killed(running: Running, backend: Backend) -> str:
    body = {"model": ROUTED, "messages": SAY, "stream": True, "temperature": 0, **ENDLESS}
    url, headers = running.base + "/v1/chat/completions", {"authorization": f"Bearer {KEY}"}
    said = ""
    with httpx2.stream("POST", url, json=body, headers=headers, timeout=60) as answer:
        assert answer.status_code == 200
        for piece in answer.iter_text():
            said += piece
            if said.count("data:") > 3:
                backend.process.send_signal(signal.SIGKILL)
    return said
