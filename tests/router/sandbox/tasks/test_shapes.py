"""Every task's answer against the Hub's own output schema (tests/data/tasks), and what holds of all of them."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT6

from providers.dialects.hf_tasks import MEDIA
from providers.dialects.hf_tasks import TASKS as HUB_TASKS
from providers.media import sniff
from router.sandbox.tasks import TASKS
from tests.router.sandbox.tasks.asking import answer, answers, refusal, value
from tests.router.sandbox.tasks.requests import FILM, PICTURE, PICTURE_64, RECORDING, REQUESTS, encoded

SPECS = Path(__file__).parents[3] / "data" / "tasks"
COMMON = json.loads((SPECS / "common-definitions.json").read_text())
REGISTRY: Registry[Any] = Registry().with_resource(COMMON["$id"], Resource.from_contents(COMMON, DRAFT6))

# Where the servers and both clients agree with each other and not with the schema: what of the answer is held to it.
NESTED = {"text-classification", "summarization", "translation", "image-to-text"}  # one answer for each input
ALONE = {"question-answering", "table-question-answering"}  # the one answer itself, where the schema has a list
MISSPELLED = {"generatedText": "generated_text", "tokenStr": "token_str"}  # required by a name that nobody sends


def schema_of(task: str) -> Any:
    schema = (SPECS / task / "output.json").read_text()
    for wrong, right in MISSPELLED.items():
        schema = schema.replace(f'"{wrong}"', f'"{right}"')
    return json.loads(schema)


def test_every_task_of_the_hub_is_answered() -> None:
    assert set(TASKS) == set(HUB_TASKS) == set(REQUESTS)


@pytest.mark.parametrize("task", [task for task in TASKS if task not in MEDIA and (SPECS / task).exists()])
def test_the_answer_is_as_the_hubs_schema_says(task: str) -> None:
    found = value(task, REQUESTS[task])
    found = found[0] if task in NESTED else [found] if task in ALONE else found
    errors = list(Draft7Validator(schema_of(task), registry=REGISTRY).iter_errors(found))
    assert not errors, errors


@pytest.mark.parametrize("task", sorted(MEDIA))
def test_media_are_the_file_that_they_say_they_are(task: str) -> None:
    status, headers, body = answer(task, REQUESTS[task])
    assert status == 200 and headers["content-type"] == sniff(body)
    kind = "audio" if task.endswith("speech") else task.rpartition("-")[2]
    assert headers["content-type"].startswith(f"{kind}/")


@pytest.mark.parametrize("task", TASKS)
def test_the_same_request_gets_the_same_bytes_from_any_sandbox(task: str) -> None:
    first, second = answer(task, REQUESTS[task]), answer(task, REQUESTS[task])
    assert first == second and first[1]["x-compute-type"] == "cpu"


@pytest.mark.parametrize("task", [task for task, body in REQUESTS.items() if isinstance(body, bytes)])
def test_a_file_is_the_same_as_a_body_as_base64_and_as_a_data_url(task: str) -> None:
    file = REQUESTS[task]
    assert isinstance(file, bytes)
    forms = [file, {"inputs": encoded(file)}, {"inputs": f"data:application/x;base64,{encoded(file)}"}]
    assert len({body for _, _, body in answers(*((task, form) for form in forms))}) == 1


@pytest.mark.parametrize(
    ("task", "forms"),
    [
        (
            "question-answering",
            [{"inputs": {"question": "who", "context": "Bob"}}, {"question": "who", "context": "Bob"}],
        ),
        ("table-question-answering", [{"query": "a", "table": {"a": ["1"]}}, {"question": "a", "table": {"a": ["1"]}}]),
        (
            "visual-question-answering",
            [REQUESTS["visual-question-answering"], {"inputs": {"question": "What is it doing?", "image": PICTURE_64}}],
        ),
        (
            "zero-shot-image-classification",
            [
                {"inputs": PICTURE_64, "parameters": {"candidate_labels": ["a", "b"]}},
                {"inputs": {"image": PICTURE_64}, "parameters": {"candidate_labels": "a, b"}},
                {"image": PICTURE_64, "parameters": {"candidate_labels": "a,b"}},
            ],
        ),
        ("tabular-regression", [{"table": {"a": [1]}}, {"inputs": {"a": [1]}}, {"inputs": {"data": {"a": [1]}}}]),
        ("translation", [{"inputs": "hi"}, "hi", {"inputs": ["hi"]}]),
    ],
)
def test_what_the_clients_say_in_different_forms_is_answered_the_same(task: str, forms: list[Any]) -> None:
    assert len({body for _, _, body in answers(*((task, form) for form in forms))}) == 1


@pytest.mark.parametrize(
    ("task", "body", "names"),
    [
        ("text-classification", b"{", "inputs"),
        ("text-classification", [], "an array"),
        ("text-classification", {}, "inputs"),
        ("text-classification", {"inputs": []}, "inputs"),
        ("text-classification", {"inputs": "a", "parameters": 1}, "parameters"),
        ("text-classification", {"inputs": "a", "parameters": {"top_k": 0}}, "top_k"),
        ("text-classification", {"inputs": "a", "parameters": {"function_to_apply": "x"}}, "softmax"),
        ("token-classification", {"inputs": 1}, "inputs"),
        ("token-classification", {"inputs": "a", "parameters": {"ignore_labels": "PER"}}, "ignore_labels"),
        ("token-classification", {"inputs": "a", "parameters": {"aggregation_strategy": "x"}}, "simple"),
        ("fill-mask", {"inputs": "no mask"}, "mask_token"),
        ("fill-mask", {"inputs": "[MASK]", "parameters": {"targets": [1]}}, "targets"),
        ("question-answering", {"inputs": {"context": "a"}}, "question"),
        ("question-answering", {"inputs": {"question": "a"}}, "context"),
        ("question-answering", {"inputs": [1]}, "inputs"),
        ("table-question-answering", {"inputs": {"query": "a"}}, "table"),
        ("table-question-answering", {"inputs": {"query": "a", "table": {"a": ["1"], "b": []}}}, "table"),
        ("zero-shot-classification", {"inputs": "a"}, "candidate_labels"),
        ("zero-shot-classification", {"inputs": "a", "parameters": {"candidate_labels": []}}, "candidate_labels"),
        ("translation", {"inputs": "a", "parameters": {"tgt_lang": "fr"}}, "src_lang"),
        ("summarization", {"inputs": "a", "parameters": {"truncation": "x"}}, "longest_first"),
        ("feature-extraction", {"inputs": "a", "dimensions": 0}, "dimensions"),
        ("feature-extraction", {"inputs": ""}, "inputs"),
        ("sentence-similarity", {"inputs": {"source_sentence": "a"}}, "sentences"),
        ("text-ranking", {"inputs": {"query": "a", "texts": []}}, "texts"),
        ("image-classification", {"inputs": "%"}, "inputs"),
        ("image-classification", {"inputs": ""}, "inputs"),
        ("image-classification", b"", "inputs"),
        ("object-detection", {"inputs": PICTURE_64, "parameters": {"threshold": 2}}, "threshold"),
        ("image-segmentation", {"inputs": PICTURE_64, "parameters": {"subtask": "x"}}, "panoptic"),
        ("visual-question-answering", {"inputs": PICTURE_64}, "question"),
        ("document-question-answering", {"inputs": {"question": "a"}}, "inputs"),
        ("text-to-image", {"inputs": "a", "parameters": {"width": 0}}, "width"),
        ("text-to-image", {"inputs": "a", "parameters": {"seed": "x"}}, "seed"),
        ("image-to-image", {"parameters": {"prompt": "a"}}, "inputs"),
        ("image-text-to-image", {"parameters": {}}, "prompt"),
        ("text-to-video", {"inputs": "a", "parameters": {"num_frames": 65}}, "num_frames"),
        ("automatic-speech-recognition", {"inputs": 1}, "inputs"),
        ("automatic-speech-recognition", {"inputs": "YWE", "parameters": {"return_timestamps": 1}}, "timestamps"),
        ("text-to-speech", {"inputs": "a" * 5000}, "inputs"),
        ("tabular-classification", {"table": {"a": 1}}, "table"),
    ],
)
def test_a_wrong_request_is_refused_in_the_hubs_shape_with_the_fields_name(task: str, body: Any, names: str) -> None:
    status, said = refusal(task, body)
    assert status == 400 and names in said


def test_a_body_that_is_no_json_is_refused_where_it_says_it_is() -> None:
    assert refusal("translation", b"{", content_type="application/json")[0] == 400


def test_an_unknown_task_is_not_found_and_the_known_ones_are_listed() -> None:
    status, said = refusal("mind-reading", {"inputs": "a"})
    assert status == 404 and "mind-reading" in said and "fill-mask" in said


def test_samples_are_what_they_are_called() -> None:
    assert [sniff(file) for file in (PICTURE, RECORDING, FILM)] == ["image/png", "audio/wav", "video/mp4"]
    assert b64decode(PICTURE_64) == PICTURE
