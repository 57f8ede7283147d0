"""Every method of huggingface_hub's client that has a task, pointed straight at the sandbox."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from huggingface_hub import AsyncInferenceClient
from huggingface_hub.errors import BadRequestError, HfHubHTTPError

from router.sandbox import Sandbox
from tests.router.sandbox.tasks.requests import COLUMNS, PICTURE, RECORDING, STARS
from tests.router.sandbox.wire import opened

# How the client hands its own files to httpx2.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

Test = Callable[[Callable[[str], AsyncInferenceClient]], Awaitable[None]]


def with_clients(test: Test, **headers: str) -> None:
    """`test` is given what makes a client of a task; each is closed behind it."""

    async def run() -> None:
        async with opened() as sandbox:
            made = [client_of(sandbox, "text-classification", headers)]

            def client(task: str) -> AsyncInferenceClient:
                made.append(client_of(sandbox, task, headers))
                return made[-1]

            try:
                await asyncio.wait_for(test(client), 20)
            finally:
                for each in made:
                    await each.close()  # type: ignore[no-untyped-call]

    asyncio.run(run())


def client_of(sandbox: Sandbox, task: str, headers: dict[str, str]) -> AsyncInferenceClient:
    return AsyncInferenceClient(model=f"{sandbox.base_url}/pipeline/{task}", token="hf_x", headers=headers)


def test_texts() -> None:
    async def run(client: Callable[[str], AsyncInferenceClient]) -> None:
        feelings = await client("text-classification").text_classification("I like you")
        assert sum(each.score for each in feelings) == pytest.approx(1)
        names = await client("token-classification").token_classification("Clara lives in New York")
        assert [(each.word, each.start, each.end) for each in names] == [("Clara", 0, 5), ("New York", 15, 23)]
        assert all(each.entity_group for each in names)
        filled = await client("fill-mask").fill_mask("life is <mask>.", top_k=2)
        assert [each.sequence for each in filled] == [f"life is {each.token_str.strip()}." for each in filled]
        assert (await client("summarization").summarization("One. Two.")).summary_text == "One."
        assert (await client("translation").translation("hello")).translation_text == "hello"
        found = await client("zero-shot-classification").zero_shot_classification("a refund", ["legal", "refund"])
        assert [each.label for each in found] == ["refund", "legal"]

    with_clients(run)


def test_questions() -> None:
    async def run(client: Callable[[str], AsyncInferenceClient]) -> None:
        asks = client("question-answering")
        one = await asks.question_answering(question="What's my name?", context="My name is Clara.")
        assert not isinstance(one, list) and (one.answer, one.start, one.end) == ("Clara", 11, 16)
        two = await asks.question_answering(question="What's my name?", context="My name is Clara.", top_k=2)
        assert isinstance(two, list) and len(two) == 2
        cell = await client("table-question-answering").table_question_answering(
            query="stars of transformers", table=STARS
        )
        assert (cell.answer, cell.coordinates) == ("36542", [[0, 1]])
        seen = await client("visual-question-answering").visual_question_answering(PICTURE, question="What?")
        assert seen[0].answer
        read = await client("document-question-answering").document_question_answering(PICTURE, question="How long?")
        assert read[0].answer == f"{len(PICTURE)} bytes"

    with_clients(run)


def test_vectors() -> None:
    async def run(client: Callable[[str], AsyncInferenceClient]) -> None:
        vectors = await client("feature-extraction").feature_extraction(["one", "two"], normalize=True, dimensions=16)
        assert vectors.shape == (2, 16) and math.isclose(float((vectors[0] ** 2).sum()), 1, rel_tol=1e-5)
        same, other = await client("sentence-similarity").sentence_similarity("one", other_sentences=["one", "two"])
        assert same == pytest.approx(1) and other < 0.5

    with_clients(run)


def test_pictures_by_path_and_bytes(tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(PICTURE)

    async def run(client: Callable[[str], AsyncInferenceClient]) -> None:
        seen = await client("image-classification").image_classification(file)
        assert len(seen) == 5 and seen[0].score > seen[4].score
        assert len(await client("image-classification").image_classification(PICTURE, top_k=1)) == 1
        found = await client("object-detection").object_detection(PICTURE, threshold=0.0)
        assert [each.box.xmax for each in found] == [40, 80]
        masks = await client("image-segmentation").image_segmentation(file)
        assert [(each.mask.mode, each.mask.size) for each in masks] == [("L", (80, 60))] * 2  # type: ignore[attr-defined]
        said = await client("image-to-text").image_to_text(PICTURE)
        assert said.generated_text == "a picture of 80 by 60 pixels"
        labels = await client("zero-shot-image-classification").zero_shot_image_classification(
            PICTURE, candidate_labels=["dog", "cat"]
        )
        assert sum(each.score for each in labels) == pytest.approx(1)
        painted = await client("text-to-image").text_to_image("a cat", width=96, height=64, guidance_scale=9, seed=4)
        assert (painted.format, painted.size) == ("PNG", (96, 64))
        assert (await client("image-to-image").image_to_image(PICTURE, prompt="blue")).size == (80, 60)

    with_clients(run)


def test_sound() -> None:
    async def run(client: Callable[[str], AsyncInferenceClient]) -> None:
        assert (await client("text-to-speech").text_to_speech("hello"))[:4] == b"RIFF"
        heard = client("automatic-speech-recognition")
        assert (await heard.automatic_speech_recognition(RECORDING)).text == f"heard {len(RECORDING)} bytes"
        chunked = await heard.automatic_speech_recognition(RECORDING, extra_body={"return_timestamps": True})
        assert chunked.chunks and chunked.chunks[0].timestamp == [0, 1]
        assert (await client("audio-classification").audio_classification(RECORDING, top_k=1))[0].score < 1
        [same] = await client("audio-to-audio").audio_to_audio(RECORDING)
        assert same.blob == RECORDING and same.content_type == "audio/wav"

    with_clients(run)


def test_tables() -> None:
    async def run(client: Callable[[str], AsyncInferenceClient]) -> None:
        assert len(await client("tabular-classification").tabular_classification(COLUMNS)) == 3

    with_clients(run)


def test_refusals_reach_the_client_as_its_own_exceptions() -> None:
    async def run(client: Callable[[str], AsyncInferenceClient]) -> None:
        with pytest.raises(BadRequestError, match="mask_token"):
            await client("fill-mask").fill_mask("no mask")

    with_clients(run)

    async def load(client: Callable[[str], AsyncInferenceClient]) -> None:
        with pytest.raises(HfHubHTTPError, match="is currently loading"):
            await client("text-to-image").text_to_image("a cat")

    with_clients(load, **{"x-sandbox-fault": "503-loading"})
