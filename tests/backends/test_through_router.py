"""The router before real model servers of its own kind: every shape, real input, tiny models made on the spot."""

import base64
import io
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import numpy
import PIL.Image
import pytest
from huggingface_hub import InferenceClient
from openai import OpenAI

from tests.backends.installed import Backend
from tests.backends.test_own_backend import serving, until_ready, wav
from tests.running import Running
from tests.running import serving as routing

pytestmark = pytest.mark.backends

TASKS = {  # upstream's name → task; each is a server of one model
    "painter": "text-to-image",
    "critic": "text-classification",
    "finder": "token-classification",
    "judge": "zero-shot-classification",
    "ears": "automatic-speech-recognition",
    "voice": "text-to-speech",
}
ALIKE = ["A man is eating food.", "A man eats a meal.", "The sky is blue today."]


@pytest.fixture(scope="module")
def servers(
    programs: Path, models: Path, minilm: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Backend]]:
    place = tmp_path_factory.mktemp("servers")
    with ExitStack() as stack:
        started: dict[str, Backend] = {}
        for name, task in TASKS.items():
            below = place / name
            below.mkdir()
            started[name] = stack.enter_context(serving(programs, models / task, task, below, "--preload"))
        below = place / "minilm"
        below.mkdir()
        started["minilm"] = stack.enter_context(serving(programs, minilm, "feature-extraction", below, "--preload"))
        for each in started.values():
            until_ready(each)
        yield started


@pytest.fixture(scope="module")
def running(servers: dict[str, Backend], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    lines = ["upstreams:"]
    for name, backend in servers.items():
        kind = "diffusers" if name == "painter" else "transformers"
        lines.append(f'  {name}: {{provider: {kind}, base_url: "{backend.base}"}}')
    lines.append("models:")
    for name in servers:
        task = TASKS.get(name, "feature-extraction")
        lines.append(f"  org/{name}: {{task: {task}, deployments: [{{upstream: {name}}}]}}")
    with routing("\n".join(lines), tmp_path_factory.mktemp("router")) as running:
        yield running


def client(running: Running, model: str) -> InferenceClient:
    return InferenceClient(model=f"{running.base}/models/org/{model}", timeout=60)


def similar(vectors: Any) -> tuple[float, float]:
    one, two, other = (numpy.array(each) / numpy.linalg.norm(each) for each in vectors)
    return float(one @ two), float(one @ other)


def test_sentences_that_are_alike_come_out_alike_in_either_shape(running: Running) -> None:
    openai = OpenAI(base_url=running.base + "/v1", api_key="none")
    made = openai.embeddings.create(model="org/minilm", input=ALIKE, encoding_format="float")
    near, far = similar([each.embedding for each in made.data])
    assert near > 0.8 and far < 0.2
    hub = client(running, "minilm").feature_extraction(ALIKE)
    assert similar(hub) == pytest.approx((near, far), abs=1e-5)
    based = openai.embeddings.create(model="org/minilm", input=ALIKE[0])  # as base64
    assert numpy.allclose(based.data[0].embedding, made.data[0].embedding, atol=1e-6)


def test_texts_are_compared_and_ranked_by_a_model_that_only_embeds(running: Running) -> None:
    body = {"inputs": {"source_sentence": ALIKE[0], "sentences": ALIKE[1:]}}
    path = f"{running.base}/models/org/minilm/pipeline/sentence-similarity"
    compared = httpx2.post(path, json=body, timeout=60).json()
    assert isinstance(compared, list), compared
    near, far = compared
    assert near > 0.8 > far
    ranked = httpx2.post(
        f"{running.base}/v1/rerank",
        json={"model": "org/minilm", "query": ALIKE[0], "documents": [ALIKE[2], ALIKE[1]], "top_n": 1},
        timeout=60,
    ).json()
    assert [each["index"] for each in ranked["results"]] == [1]


def test_one_painter_answers_every_shape(running: Running) -> None:
    image = client(running, "painter").text_to_image("a cat", width=64, height=32, num_inference_steps=2, seed=1)
    assert image.size == (64, 32)
    made = OpenAI(base_url=running.base + "/v1", api_key="none").images.generate(
        model="org/painter",
        prompt="a cat",
        size="64x32",
        response_format="b64_json",
        extra_body={"num_inference_steps": 2, "seed": 1},
    )
    (picture,) = made.data or []
    other = PIL.Image.open(io.BytesIO(base64.b64decode(picture.b64_json or "")))
    assert other.size == (64, 32)


def test_a_parameter_that_the_painter_cannot_take_is_named(running: Running) -> None:
    body = {"inputs": "a cat", "parameters": {"num_inference_steps": -1}}
    answer = httpx2.post(f"{running.base}/models/org/painter", json=body, timeout=60)
    assert answer.status_code == 400 and "num_inference_steps" in answer.json()["error"]


def test_texts_are_classed(running: Running) -> None:
    assert {each.label for each in client(running, "critic").text_classification("fine")} == {"NEGATIVE", "POSITIVE"}
    found = client(running, "judge").zero_shot_classification("a goal", ["politics", "football"])
    assert {each.label for each in found} == {"politics", "football"}
    for each in client(running, "finder").token_classification("my name is Ann"):
        assert each.entity_group and each.start is not None


def test_speech_is_heard_and_spoken(running: Running) -> None:
    assert isinstance(client(running, "ears").automatic_speech_recognition(wav()).text, str)
    openai = OpenAI(base_url=running.base + "/v1", api_key="none")
    assert isinstance(openai.audio.transcriptions.create(model="org/ears", file=("a.wav", wav())).text, str)
    spoken = client(running, "voice").text_to_speech("hello")
    assert spoken[:4] in (b"RIFF", b"fLaC")
    said = openai.audio.speech.create(model="org/voice", input="hello", voice="alloy", response_format="wav").read()
    assert said[:4] == b"RIFF"
