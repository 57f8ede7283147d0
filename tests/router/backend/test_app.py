"""The backend on a socket, with a model that a test plays: paths, shapes, refusals, figures, and callers who leave."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import uvicorn
from huggingface_hub import AsyncInferenceClient

from providers.spec import Ask, Blob
from router.backend.app import About, Backend
from router.backend.engine import Engine
from router.backend.serving import Server
from tests.router.backend.fakes import SOON, Model
from tests.running import free_port

PNG = b"\x89PNG\r\n\x1a\n....."


async def until(holds: Callable[[], Awaitable[Any]]) -> None:
    """Comes back when what another task or thread is about to do is done."""
    async with asyncio.timeout(SOON):
        while not await holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)


async def _started(server: Server) -> bool:
    return server.started


async def _queued(client: httpx2.AsyncClient) -> bool:
    return bool((await client.get("/info")).json()["queue"])


@asynccontextmanager
async def backend(model: Model, task: str, most: int = 1, load: bool = True) -> AsyncIterator[httpx2.AsyncClient]:
    engine = Engine("org/model", model.load, most)
    if load:
        model.may_load.set()
        engine.begin()
        await engine.settled()
    app = Backend(engine, About(task, "1.2.3", ("org/model",))).app()
    port = free_port()
    server = Server(uvicorn.Config(app, port=port, lifespan="off", log_level="critical", ws="none"))
    serving = asyncio.create_task(server.serve())
    await until(lambda: _started(server))
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=SOON) as client:
            yield client
    finally:
        for each in server.servers:
            each.close()
        serving.cancel()  # how it ends by itself, in a fifth of a second, is tests/router/backend/test_serving.py's
        await asyncio.gather(serving, return_exceptions=True)
        engine.close()


def echoes(ask: Ask) -> Any:
    return [{"label": json.dumps([str(ask.inputs), ask.parameters]), "score": 0.5}]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/predict",
        "/pipeline/text-classification",
        "/pipeline/text-classification/org/model",
        "/models/org/model",
        "/models/org/model/pipeline/text-classification",
    ],
)
def test_every_path_of_the_hub_leads_to_the_model(path: str) -> None:
    async def story() -> None:
        model = Model(echoes)
        async with backend(model, "text-classification") as client:
            model.may_end.put(1.0)
            answer = await client.post(path, json={"inputs": "fine", "parameters": {"top_k": 2}})
            assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
            assert answer.json() == [[{"label": '["fine", {"top_k": 2}]', "score": 0.5}]]
            assert answer.headers["x-compute-type"] == "cpu" and float(answer.headers["x-compute-time"]) >= 0

    asyncio.run(story())


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/pipeline/text-to-image", {"inputs": "a"}, 404, "This server does text-classification, not text-to-image."),
        ("/models/org/other", {"inputs": "a"}, 404, "Model org/other is not here; this server has org/model."),
        ("/generate", {"inputs": "a"}, 404, "POST /generate: Not Found"),
        ("/", {"parameters": {}}, 400, "`inputs` is required"),
        ("/", {"inputs": 5}, 400, "`inputs` must be a string"),
    ],
)
def test_a_refusal_is_one_string_that_says_what_is_wrong(path: str, body: Any, status: int, words: str) -> None:
    async def story() -> None:
        async with backend(Model(), "text-classification") as client:
            answer = await client.post(path, json=body)
            assert answer.status_code == status and answer.json() == {"error": words}

    asyncio.run(story())


def test_a_body_that_is_no_json_is_refused_as_such() -> None:
    async def story() -> None:
        async with backend(Model(), "text-classification") as client:
            answer = await client.post("/", content=b"{'a'", headers={"content-type": "application/json"})
            assert answer.status_code == 400 and answer.json()["error"].startswith("the body is not a JSON object")

    asyncio.run(story())


def test_a_picture_is_the_answer_itself_of_the_type_that_was_asked_for() -> None:
    async def story() -> None:
        accepted = list[str]()

        def paints(ask: Ask) -> Blob:
            accepted.append(ask.accept)
            return Blob(PNG, "image/png")

        model = Model(paints)
        async with backend(model, "text-to-image") as client:
            model.may_end.put(1.0)
            answer = await client.post("/", json={"inputs": "a cat"}, headers={"accept": "image/png"})
            assert answer.headers["content-type"] == "image/png" and answer.content == PNG
            assert accepted == ["image/png"]

    asyncio.run(story())


def test_a_file_is_taken_as_it_is_or_as_base64_and_without_a_type_too() -> None:
    async def story() -> None:
        model = Model(lambda ask: [{"label": ask.inputs.mime, "score": float(len(ask.inputs.data))}])
        async with backend(model, "image-classification") as client:
            for _ in range(3):
                model.may_end.put(1.0)
            whole = await client.post("/", content=PNG, headers={"content-type": "image/png"})
            bare = await client.post("/", content=PNG)
            coded = await client.post("/", json={"inputs": "iVBORw0KGgouLi4uLg==", "parameters": {"top_k": 1}})
            assert whole.json() == bare.json() == coded.json() == [{"label": "image/png", "score": 13.0}]

    asyncio.run(story())


def test_a_completion_is_the_hubs_and_begins_with_its_prompt() -> None:
    async def story() -> None:
        asked = list[Ask]()

        def writes(ask: Ask) -> Any:
            asked.append(ask)
            return {"choices": [{"index": 0, "text": " world", "finish_reason": "stop"}]}

        model = Model(writes)
        async with backend(model, "text-generation") as client:
            model.may_end.put(1.0)
            answer = await client.post("/", json={"inputs": "hello", "parameters": {"max_new_tokens": 3}})
            assert answer.json() == [{"generated_text": "hello world"}]
            assert asked[0].inputs == "hello" and asked[0].parameters == {"max_tokens": 3, "temperature": 0.0}
            refused = await client.post("/", json={"inputs": "hello", "stream": True})
            assert refused.status_code == 400 and "`stream`" in refused.json()["error"]

    asyncio.run(story())


@pytest.mark.parametrize(
    "patience", [{"headers": {"x-wait-for-model": "true"}}, {"json": {"options": {"wait_for_model": True}}}]
)
def test_a_model_that_is_loading_is_waited_for_on_request(patience: dict[str, Any]) -> None:
    async def story() -> None:
        model = Model()
        async with backend(model, "text-classification", load=False) as client:
            told = await client.post("/", json={"inputs": "a"})
            assert told.status_code == 503
            assert told.json() == {"error": "Model org/model is currently loading", "estimated_time": 20.0}
            assert told.headers["retry-after"] == "20"
            assert (await client.get("/info")).json()["state"] == "loading"
            body = {"inputs": "a", **patience.get("json", {})}
            waits = asyncio.create_task(client.post("/", json=body, headers=patience.get("headers")))
            await until(lambda: _queued(client))
            model.may_load.set()
            model.may_end.put(1.0)
            assert (await waits).status_code == 200

    asyncio.run(story())


def test_what_it_is_and_how_far_it_is_can_be_asked_at_any_time() -> None:
    async def story() -> None:
        model = Model()
        async with backend(model, "text-classification") as client:
            posts = [asyncio.create_task(client.post("/", json={"inputs": each})) for each in "ab"]
            await asyncio.to_thread(model.begun.get, timeout=SOON)
            model.may_end.put(0.25)
            info: dict[str, Any] = {}

            async def a_quarter() -> bool:
                info.update((await client.get("/info")).json())
                return (info["progress"], info["queue"]) == (0.25, 1)

            await until(a_quarter)
            assert 0 <= info.pop("loaded_in") < SOON
            assert info == {
                "model_id": "org/model",
                "task": "text-classification",
                "device": "cpu",
                "state": "ready",
                "queue": 1,
                "max_queue": 1,
                "progress": 0.25,
                "version": "1.2.3",
            }
            full = await client.post("/", json={"inputs": "c"})
            assert full.status_code == 503 and full.json()["error"].startswith("Model too busy")
            assert int(full.headers["retry-after"]) >= 1
            lines = (await client.get("/metrics")).text.splitlines()
            assert {"backend_queue_size 1", "backend_batch_current_size 1", "backend_model_ready 1"} <= {*lines}
            for _ in posts:
                model.may_end.put(1.0)
            await asyncio.gather(*posts)
            lines = (await client.get("/metrics")).text.splitlines()
            counted = {'backend_requests_total{status="200"} 2', 'backend_requests_total{status="503"} 1'}
            assert {"backend_queue_size 0", "backend_request_seconds_count 2", *counted} <= {*lines}
            assert (await client.get("/")).json() == (await client.get("/info")).json()
            assert (await client.get("/health")).json() == {"status": "ok", "state": "ready"}

    asyncio.run(story())


def test_a_model_that_cannot_be_loaded_is_an_illness() -> None:
    async def story() -> None:
        model = Model()
        model.fails = OSError("no weights")
        async with backend(model, "text-classification") as client:
            assert (await client.get("/health")).status_code == 503
            answer = await client.post("/", json={"inputs": "a"})
            assert answer.status_code == 500
            assert answer.json() == {"error": "Model org/model could not be loaded: OSError: no weights"}

    asyncio.run(story())


def test_a_caller_who_hangs_up_loses_the_turn_and_the_answer_is_given_up() -> None:
    async def story() -> None:
        model = Model()
        async with backend(model, "text-classification", most=2) as client:
            asked = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n"
            host, port = client.base_url.host, client.base_url.port
            writers = []
            for letter in (b"a", b"b"):
                _, writer = await asyncio.open_connection(host, port)
                writer.write(asked + b'{"inputs": "%b"}' % letter)
                writers.append(writer)
                if letter == b"a":
                    assert await asyncio.to_thread(model.begun.get, timeout=SOON) == "a"
            await until(lambda: _queued(client))
            for writer in reversed(writers):
                writer.close()
                await writer.wait_closed()

            async def both_left() -> bool:
                return 'status="499"} 2' in (await client.get("/metrics")).text

            await until(both_left)
            model.may_end.put(0.5)
            assert await asyncio.to_thread(model.ended.get, timeout=SOON) == "a"
            model.may_end.put(1.0)
            assert (await client.post("/", json={"inputs": "c"})).status_code == 200
            assert await asyncio.to_thread(model.begun.get, timeout=SOON) == "c"

    asyncio.run(story())


def test_the_hubs_client_reads_its_answers() -> None:
    async def story() -> None:
        model = Model(lambda ask: [{"label": "POSITIVE", "score": 0.75}])
        async with backend(model, "text-classification") as client:
            model.may_end.put(1.0)
            async with AsyncInferenceClient(str(client.base_url).rstrip("/")) as theirs:
                found = await theirs.text_classification("fine")
            assert [(each.label, each.score) for each in found] == [("POSITIVE", 0.75)]

    asyncio.run(story())
