"""What huggingface_hub's client has a method for, asked of a server that is the sandbox or stands before it."""

import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
from huggingface_hub import AsyncInferenceClient

from tests.router.sandbox.tasks.requests import COLUMNS, PICTURE, RECORDING, STARS

Clients = Callable[[str], AsyncInferenceClient]
"""A task → a client of a model that does it."""
Check = Callable[[Clients], Awaitable[None]]

# How the client hands its own files to httpx2.
BYTES_AS_DATA = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


async def checked(check: Check, url: str, token: str = "hf_x", headers: dict[str, str] | None = None) -> None:
    """`url`: where a task's model answers, with `{task}` in it."""
    made: list[AsyncInferenceClient] = []

    def client(task: str) -> AsyncInferenceClient:
        made.append(AsyncInferenceClient(model=url.format(task=task), token=token, headers=headers))
        return made[-1]

    try:
        await check(client)
    finally:
        for each in made:
            await each.close()  # type: ignore[no-untyped-call]


async def texts(client: Clients) -> None:
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


async def questions(client: Clients) -> None:
    asks = client("question-answering")
    one = await asks.question_answering(question="What's my name?", context="My name is Clara.")
    assert not isinstance(one, list) and (one.answer, one.start, one.end) == ("Clara", 11, 16)
    two = await asks.question_answering(question="What's my name?", context="My name is Clara.", top_k=2)
    assert isinstance(two, list) and len(two) == 2
    cell = await client("table-question-answering").table_question_answering(query="stars of transformers", table=STARS)
    assert (cell.answer, cell.coordinates) == ("36542", [[0, 1]])
    seen = await client("visual-question-answering").visual_question_answering(PICTURE, question="What?")
    assert seen[0].answer
    read = await client("document-question-answering").document_question_answering(PICTURE, question="How long?")
    assert read[0].answer == f"{len(PICTURE)} bytes"


async def vectors(client: Clients) -> None:
    vectors = await client("feature-extraction").feature_extraction(["one", "two"], normalize=True, dimensions=16)
    assert vectors.shape == (2, 16) and math.isclose(float((vectors[0] ** 2).sum()), 1, rel_tol=1e-5)
    same, other = await client("sentence-similarity").sentence_similarity("one", other_sentences=["one", "two"])
    assert same == pytest.approx(1) and other < 0.5


async def pictures(client: Clients) -> None:
    with NamedTemporaryFile(suffix=".png") as file:
        file.write(PICTURE)
        file.flush()
        by_path = await client("image-segmentation").image_segmentation(Path(file.name))
    seen = await client("image-classification").image_classification(PICTURE)
    assert len(seen) == 5 and seen[0].score > seen[4].score
    assert len(await client("image-classification").image_classification(PICTURE, top_k=1)) == 1
    found = await client("object-detection").object_detection(PICTURE, threshold=0.0)
    assert [each.box.xmax for each in found] == [40, 80]
    masks = await client("image-segmentation").image_segmentation(PICTURE)
    assert [(each.mask.mode, each.mask.size) for each in masks] == [("L", (80, 60))] * len(by_path)  # type: ignore[attr-defined]
    said = await client("image-to-text").image_to_text(PICTURE)
    assert said.generated_text == "a picture of 80 by 60 pixels"
    labels = await client("zero-shot-image-classification").zero_shot_image_classification(
        PICTURE, candidate_labels=["dog", "cat"]
    )
    assert sum(each.score for each in labels) == pytest.approx(1)
    painted = await client("text-to-image").text_to_image("a cat", width=96, height=64, guidance_scale=9, seed=4)
    assert (painted.format, painted.size) == ("PNG", (96, 64))
    assert (await client("image-to-image").image_to_image(PICTURE, prompt="blue")).size == (80, 60)


async def sound(client: Clients) -> None:
    assert (await client("text-to-speech").text_to_speech("hello"))[:4] == b"RIFF"
    heard = client("automatic-speech-recognition")
    assert (await heard.automatic_speech_recognition(RECORDING)).text == f"heard {len(RECORDING)} bytes"
    chunked = await heard.automatic_speech_recognition(RECORDING, extra_body={"return_timestamps": True})
    assert chunked.chunks and chunked.chunks[0].timestamp == [0, 1]
    assert (await client("audio-classification").audio_classification(RECORDING, top_k=1))[0].score < 1
    [same] = await client("audio-to-audio").audio_to_audio(RECORDING)
    assert same.blob == RECORDING and same.content_type == "audio/wav"


async def tables(client: Clients) -> None:
    assert len(await client("tabular-classification").tabular_classification(COLUMNS)) == 3


CHECKS: tuple[Check, ...] = (texts, questions, vectors, pictures, sound, tables)
