"""A second real server behind the router: `infinity`, which embeds and ranks with models made on the spot.

Every answer is asked for twice, of the server itself and through the router, and must be the same to the last digit.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.backends.installed import Backend, installed, make, started
from tests.running import KEY, Running, free_port, serving

pytestmark = pytest.mark.backends

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# Its last release runs with no later transformers or numpy than these.
PACKAGES = ("infinity-emb[server,torch]==0.0.78", "transformers==4.57.6", "numpy==1.26.4")

EMBEDS, RANKS = "tiny/embeds", "tiny/ranks"  # as the server lists them
ROUTED = "sentence-transformers/all-MiniLM-L6-v2"
TEXTS = ["one address", "in front of your own servers", "日本語, 🦙 and \u2028", "one address"]
HEADERS = {"authorization": f"Bearer {KEY}"}

Clients = tuple[openai.OpenAI, openai.OpenAI]  # to the server itself, and through the router


@pytest.fixture(scope="session")
def programs(venvs: Path) -> Path:
    return installed(venvs / "infinity", PACKAGES)


@contextlib.contextmanager
def infinity(programs: Path, place: Path) -> Iterator[Backend]:
    make(programs, HERE / "tiny_encoders.py", ROOT / "README.md", place / "embeds", place / "ranks")
    port = free_port()
    command: list[str | Path] = [programs / "infinity_emb", "v2", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--url-prefix", "/v1", "--engine", "torch", "--device", "cpu"]
    command += ["--no-bettertransformer", "--no-model-warmup"]
    for model, directory in ((EMBEDS, "embeds"), (RANKS, "ranks")):
        command += ["--model-id", place / directory, "--served-model-name", model]
    with started(command, port, place / "backend.log") as backend:
        yield backend


@pytest.fixture(scope="module")
def backend(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with infinity(programs, tmp_path_factory.mktemp("infinity")) as backend:
        yield backend


@pytest.fixture(scope="module")
def running(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    config = f"""
virtual_keys: [{{name: alice, key: {KEY}}}]
upstreams:
  mine: {{provider: openai, base_url: "{backend.base}/v1", models: discover}}
models:
  {ROUTED}: {{task: feature-extraction, deployments: [{{upstream: mine, provider_id: {EMBEDS}}}]}}
tables: []
"""
    with serving(config, tmp_path_factory.mktemp("through")) as running:
        yield running


@pytest.fixture(scope="module")
def clients(backend: Backend, running: Running) -> Iterator[Clients]:
    with (
        openai.OpenAI(base_url=backend.base + "/v1", api_key="none", max_retries=0) as direct,
        openai.OpenAI(base_url=running.base + "/v1", api_key=KEY, max_retries=0) as through,
    ):
        yield direct, through


def vectors(client: openai.OpenAI, model: str, texts: str | list[str], **more: Any) -> tuple[Any, Any]:
    answer = client.embeddings.create(model=model, input=texts, **more)
    return [(each.index, each.embedding) for each in answer.data], answer.usage


def test_its_models_are_discovered(clients: Clients) -> None:
    assert {EMBEDS, RANKS, ROUTED} <= {each.id for each in clients[1].models.list()}


@pytest.mark.parametrize("model", [EMBEDS, ROUTED])
@pytest.mark.parametrize("more", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}, {"dimensions": 8}])
@pytest.mark.parametrize("texts", ["one", TEXTS, [f"text {number}" for number in range(300)]], ids=["1", "4", "300"])
def test_vectors_are_the_same_to_the_last_digit(
    texts: str | list[str], more: dict[str, Any], model: str, clients: Clients
) -> None:
    direct, usage = vectors(clients[0], EMBEDS, texts, **more)
    assert (direct, usage) == vectors(clients[1], model, texts, **more)
    assert len(direct) == (1 if texts == "one" else len(texts)) and usage.prompt_tokens > 0


def test_sixteen_callers_at_once_each_get_their_own(clients: Clients, running: Running) -> None:
    texts = [f"{'router ' * number}of caller {number}" for number in range(16)]
    direct = [vectors(clients[0], EMBEDS, each)[0][0][1] for each in texts]

    async def sixteen() -> list[list[float]]:
        async with openai.AsyncOpenAI(base_url=running.base + "/v1", api_key=KEY, max_retries=0) as client:

            async def one(text: str) -> list[float]:
                return (await client.embeddings.create(model=ROUTED, input=text)).data[0].embedding

            return await asyncio.gather(*(one(text) for text in texts))

    for found, alone in zip(asyncio.run(sixteen()), direct, strict=True):
        assert found == pytest.approx(alone, abs=1e-5)  # the server makes one batch of them, and rounds as it falls


def test_a_ranking_is_the_same(backend: Backend, running: Running) -> None:
    asked = {"model": RANKS, "query": "Which router?", "documents": TEXTS, "return_documents": True}

    def ranking(base: str) -> Any:
        answer = httpx2.post(base + "/v1/rerank", json=asked, headers=HEADERS, timeout=60).json()
        return answer["results"], answer["usage"]

    assert ranking(backend.base) == ranking(running.base)
    assert len(ranking(running.base)[0]) == len(TEXTS)


def test_what_it_refuses_is_told_in_the_callers_own_errors(clients: Clients) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="valid string"):
        clients[1].embeddings.create(model=EMBEDS, input=[[1, 2, 3]])
    with pytest.raises(openai.BadRequestError, match="nothing"):
        clients[1].embeddings.create(model="mine/nothing", input="one")
