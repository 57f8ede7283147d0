"""huggingface_hub's own client in front of the codecs.

What it sends is read, and sent on as its helper for hf-inference does; what is written, it takes for the answer.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import msgspec
import numpy
import pytest
from huggingface_hub import InferenceClient, set_client_factory
from huggingface_hub.inference._providers import PROVIDERS
from huggingface_hub.utils import _http
from PIL.Image import Image

from providers.dialects.hf_tasks import CODECS
from providers.spec import Ask, Blob, Body, Result, Send, Written
from tests.providers.dialects.hub_tasks import EXAMPLES, PNG, TABLE, WAV

Asked = Callable[[InferenceClient], Any]

CALLS: list[tuple[str, Asked]] = [
    ("audio-classification", lambda hub: hub.audio_classification(WAV)),
    ("audio-classification", lambda hub: hub.audio_classification(WAV, top_k=2, function_to_apply="softmax")),
    ("audio-to-audio", lambda hub: hub.audio_to_audio(WAV)),
    ("automatic-speech-recognition", lambda hub: hub.automatic_speech_recognition(WAV)),
    (
        "automatic-speech-recognition",
        lambda hub: hub.automatic_speech_recognition(WAV, extra_body={"return_timestamps": True}),
    ),
    (
        "document-question-answering",
        lambda hub: hub.document_question_answering(PNG, "who?", word_boxes=["a", [0.5]]),
    ),
    ("feature-extraction", lambda hub: hub.feature_extraction("a")),
    ("feature-extraction", lambda hub: hub.feature_extraction(["a", "b"], normalize=True, truncation_direction="left")),
    ("fill-mask", lambda hub: hub.fill_mask("Paris is [MASK].", targets=["big"], top_k=1)),
    ("image-classification", lambda hub: hub.image_classification(PNG)),
    ("image-classification", lambda hub: hub.image_classification(PNG, top_k=2)),
    ("image-segmentation", lambda hub: hub.image_segmentation(PNG, threshold=0.5)),
    ("image-to-image", lambda hub: hub.image_to_image(PNG)),
    ("image-to-image", lambda hub: hub.image_to_image(PNG, "a dog", guidance_scale=7.5)),
    ("image-to-text", lambda hub: hub.image_to_text(PNG)),
    ("object-detection", lambda hub: hub.object_detection(PNG, threshold=0.5)),
    ("question-answering", lambda hub: hub.question_answering("who?", "Bob did")),
    ("question-answering", lambda hub: hub.question_answering("who?", "Bob did", top_k=2)),
    ("sentence-similarity", lambda hub: hub.sentence_similarity("a", ["b", "c"])),
    ("summarization", lambda hub: hub.summarization("long", generate_parameters={"max_new_tokens": 5})),
    ("table-question-answering", lambda hub: hub.table_question_answering(TABLE, "How many?", sequential=True)),
    ("tabular-classification", lambda hub: hub.tabular_classification(TABLE)),
    ("text-classification", lambda hub: hub.text_classification("great", top_k=2)),
    ("text-to-image", lambda hub: hub.text_to_image("a cat", seed=42, extra_body={"style": "ink"})),
    ("text-to-speech", lambda hub: hub.text_to_speech("hi", temperature=0.5)),
    ("token-classification", lambda hub: hub.token_classification("Elon")),
    ("token-classification", lambda hub: hub.token_classification("Elon", aggregation_strategy="max")),
    ("translation", lambda hub: hub.translation("hi", src_lang="en", tgt_lang="de")),
    ("visual-question-answering", lambda hub: hub.visual_question_answering(PNG, "what?", top_k=2)),
    ("zero-shot-classification", lambda hub: hub.zero_shot_classification("hi", ["a", "b"], multi_label=True)),
    ("zero-shot-image-classification", lambda hub: hub.zero_shot_image_classification(PNG, ["a", "b"])),
]
each_call = pytest.mark.parametrize(
    ("task", "asked"), CALLS, ids=[f"{task}-{at}" for at, (task, _) in enumerate(CALLS)]
)


class Front:
    """A server that answers each call with its task's example, through the codec."""

    def __init__(self) -> None:
        self.task = ""
        self.request: httpx2.Request | None = None
        self.ask: Ask | None = None

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        codec = CODECS[self.task]
        headers = request.headers
        json_said = headers.get("content-type") == "application/json"
        content = request.read()
        fields = msgspec.json.decode(content, type=dict[str, msgspec.Raw]) if json_said else {}
        file = None if json_said else Blob(content, headers.get("content-type", ""))
        ask, want = codec.read(Body(fields, file, accept=headers["accept"], agent=headers["user-agent"]))
        self.request, self.ask = request, ask
        answer = codec.write(Result(EXAMPLES[self.task].value), want)
        assert isinstance(answer, Written | Blob)
        content = answer.body if isinstance(answer, Written) else answer.data
        return httpx2.Response(200, headers={"content-type": answer.mime}, content=content)


@pytest.fixture
def front() -> Iterator[Front]:
    front = Front()
    set_client_factory(lambda: httpx2.Client(transport=httpx2.MockTransport(front)))
    yield front
    set_client_factory(_http.default_client_factory)


HUB = InferenceClient("http://router.test/models/org/model", token="hf_a")  # a URL: nothing is looked up on the Hub


def test_every_task_that_the_hubs_helper_for_hf_inference_knows_is_called() -> None:
    texts = {"conversational", "text-generation"}  # other codecs
    assert set(PROVIDERS["hf-inference"]) - texts == {task for task, _ in CALLS}


# Where it differs from the helper, with reason.
DIFFERENT = {
    # The helper sends its image twice, with the question at the root. This is the specification's form, and
    # huggingface.js's; the only one that pipelines can take.
    "visual-question-answering",
    # The helper's `table` at the root is no server's: the community server's is `inputs.data`, and huggingface.js's.
    "tabular-classification",
}


@each_call
def test_what_the_client_sends_is_sent_on_as_its_helper_sends_it(task: str, asked: Asked, front: Front) -> None:
    front.task = task
    asked(HUB)
    assert front.ask is not None and front.request is not None
    send = CODECS[task].encode(front.ask)
    sent = front.request.read()
    accept = front.request.headers["accept"]
    assert send.headers == ({} if accept == "*/*" else {"accept": accept})
    if send.mime != "application/json":
        assert send.body == sent
        return
    body = json.loads(send.body or b"")
    if task == "token-classification":  # what the Hub's API does unasked is said, for servers that do otherwise
        assert json.loads(sent)["parameters"] in ({}, body["parameters"])
        body["parameters"] = json.loads(sent)["parameters"]
    assert (body == json.loads(sent)) is (task not in DIFFERENT)


def test_the_helpers_pictures_with_questions_and_tables_go_up_as_the_hub_specifies(front: Front) -> None:
    for task in sorted(DIFFERENT):
        front.task = task
        next(asked for name, asked in CALLS if name == task)(HUB)
        assert front.ask is not None and front.request is not None
        ours: dict[str, Any] = json.loads(CODECS[task].encode(front.ask).body or b"")
        helpers: dict[str, Any] = json.loads(front.request.read())
        if task == "tabular-classification":
            assert ours == {"inputs": {"data": helpers["table"]}, "parameters": {}}
        else:
            inputs = {"question": helpers["question"], "image": helpers["inputs"]}
            assert ours == {"inputs": inputs, "parameters": helpers["parameters"]}


def same(found: Any, expected: Any) -> bool:
    """The client's types have what is missing as None, and names of their own for what Python cannot spell."""
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, dict):
        return all(same(getattr(found, name.replace("-", "_")), value) for name, value in expected.items())
    return bool(found == expected)


@each_call
def test_what_is_written_the_client_takes_for_the_answer(task: str, asked: Asked, front: Front) -> None:
    front.task = task
    found = asked(HUB)
    value = EXAMPLES[task].value
    match task:
        case "text-to-image" | "image-to-image":
            assert isinstance(found, Image) and found.size == (1, 1)
        case "text-to-speech":
            assert found == WAV
        case "feature-extraction":
            assert numpy.array_equal(found, numpy.array(value, dtype="float32"))
        case "image-segmentation":
            assert found[0].label == "cat" and found[0].mask.size == (1, 1)
        case "audio-to-audio":
            assert (found[0].label, found[0].content_type, found[0].blob) == ("label_0", "audio/wav", WAV)
        case "question-answering":
            assert same(found if isinstance(found, list) else [found], value)
        case "table-question-answering":
            assert same([found], value)
        case _:
            assert same(found, value)


def test_the_client_asks_for_png(front: Front) -> None:
    front.task = "text-to-image"
    HUB.text_to_image("a cat")
    assert front.ask is not None
    assert CODECS["text-to-image"].encode(front.ask) == Send(
        "", b'{"inputs":"a cat","parameters":{}}', headers={"accept": "image/png"}
    )
