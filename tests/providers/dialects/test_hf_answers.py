import json
from typing import Any

import msgspec
import pytest

from providers.dialects.hf_tasks import CODECS
from providers.spec import Ask, Body, Reply, Result, Written
from tests.providers.dialects.hub_tasks import ANSWER, CELLS, ENTITY, EXAMPLES, QUESTION, SCORED, TABLE

JAVASCRIPT = "@huggingface/inference/4.13.30"
PYTHON = "unknown/None; hf_hub/{}; python/3.11.7"


def body(value: dict[str, Any], agent: str = "") -> Body:
    return Body({name: msgspec.Raw(json.dumps(each).encode()) for name, each in value.items()}, agent=agent)


def decoded(task: str, answer: Any, inputs: Any = None) -> Any:
    ask = Ask(task, EXAMPLES[task].inputs if inputs is None else inputs)
    return CODECS[task].decode(Reply(200, {"content-type": "application/json"}, json.dumps(answer).encode()), ask).value


def written(task: str, value: Any, sent: dict[str, Any] | None = None, agent: str = "") -> Any:
    _, want = CODECS[task].read(body(sent or EXAMPLES[task].body, agent))
    answer = CODECS[task].write(Result(value), want)
    assert isinstance(answer, Written)
    return json.loads(answer.body)


COLUMNS = {"sequence": "hi", "labels": ["a", "b"], "scores": [0.75, 0.25]}
SUMMARY = {"summary_text": "short"}
MASKED = [[{"score": 0.5, "token": 1, "token_str": "a", "sequence": "a b"}]] * 2
RANKED = [{"index": 1, "score": 0.9}, {"index": 0, "score": 0.1}]

# What servers have answered, and what that is: hf-inference, the Inference toolkit, text-embeddings-inference.
ANSWERED: list[tuple[str, Any, Any]] = [
    ("text-classification", [SCORED], SCORED),
    ("text-classification", SCORED, SCORED),
    ("text-classification", SCORED[0], SCORED[:1]),
    ("token-classification", [], []),
    ("token-classification", [[ENTITY]], [ENTITY]),
    ("fill-mask", MASKED, MASKED),
    ("fill-mask", MASKED[:1], MASKED[0]),
    ("question-answering", ANSWER, [ANSWER]),
    ("question-answering", [ANSWER, ANSWER], [ANSWER, ANSWER]),
    ("table-question-answering", CELLS, [CELLS]),
    ("zero-shot-classification", COLUMNS, SCORED),
    ("summarization", [SUMMARY], SUMMARY),
    ("summarization", SUMMARY, SUMMARY),
    ("image-to-text", [{"generated_text": "a"}], {"generated_text": "a"}),
    ("image-to-text", {"generated_text": "a"}, {"generated_text": "a"}),
    ("visual-question-answering", {"score": 0.5, "answer": "a"}, [{"score": 0.5, "answer": "a"}]),
    ("document-question-answering", [[ANSWER]], [ANSWER]),
    ("automatic-speech-recognition", "hello", {"text": "hello"}),
    ("automatic-speech-recognition", [{"text": "hello"}], {"text": "hello"}),
    ("feature-extraction", [0.5, 0.25], [[0.5, 0.25]]),
    ("feature-extraction", [[0.5, 0.25]], [[0.5, 0.25]]),
    ("feature-extraction", [[[0.5], [0.25]]], [[[0.5], [0.25]]]),
    ("feature-extraction", {"embeddings": [[0.5]]}, [[0.5]]),
    ("sentence-similarity", {"similarities": [0.5, 1]}, [0.5, 1]),
    ("text-ranking", [{"index": 0, "score": 0.1, "text": "a"}, {"index": 1, "score": 0.9}], RANKED),
    ("text-ranking", {"scores": [0.1, 0.9]}, RANKED),
    ("text-ranking", [0.1, 0.9], RANKED),
]


@pytest.mark.parametrize(("task", "answer", "value"), ANSWERED)
def test_what_servers_answer_becomes_one_form(task: str, answer: Any, value: Any) -> None:
    assert decoded(task, answer) == value


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ("text-classification", "great"),
        ("zero-shot-classification", {"labels": ["a", "b"], "scores": [0.5]}),
        ("summarization", []),
        ("summarization", ["short"]),
        ("automatic-speech-recognition", {"text": None}),
        ("automatic-speech-recognition", {"words": []}),
        ("feature-extraction", "[]"),
        ("feature-extraction", {}),
        ("sentence-similarity", ["near"]),
        ("text-ranking", [{"index": 0}]),
        ("text-ranking", ["a"]),
        ("depth-estimation", "far"),
    ],
)
def test_what_is_no_answer_is_not_taken_for_one(task: str, answer: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError)):
        decoded(task, answer)


@pytest.mark.parametrize("answer", [SCORED, [SCORED], {"labels": ["a"], "scores": [1]}])
def test_there_must_be_as_many_answers_as_inputs(answer: Any) -> None:
    with pytest.raises(ValueError):
        decoded("text-classification", answer, ["a", "b", "c"])


def test_answers_to_a_list_are_each_read_as_one() -> None:
    assert decoded("text-classification", SCORED, ["a", "b"]) == [SCORED[:1], SCORED[1:]]
    assert decoded("zero-shot-classification", [COLUMNS, COLUMNS], ["a", "b"]) == [SCORED, SCORED]
    assert decoded("summarization", [SUMMARY, SUMMARY], ["a", "b"]) == [SUMMARY, SUMMARY]


# Which shape a client gets


@pytest.mark.parametrize(("top_k", "several"), [(None, False), (1, False), (2, True), ("2", False)])
def test_a_question_has_one_answer_unless_more_are_asked_for(top_k: Any, several: bool) -> None:
    sent = {"inputs": QUESTION, "parameters": {"top_k": top_k}}
    assert written("question-answering", [ANSWER], sent) == ([ANSWER] if several else ANSWER)


def test_a_question_that_has_no_answer_is_answered_with_none() -> None:
    assert written("question-answering", []) == []


def test_each_of_several_questions_has_its_answer() -> None:
    assert written("question-answering", [[ANSWER], [ANSWER]], {"inputs": [QUESTION, QUESTION]}) == [ANSWER, ANSWER]


@pytest.mark.parametrize("agent", ["", JAVASCRIPT, PYTHON.format("2.4.0"), PYTHON.format("1.2.0"), "curl/7.88.1"])
def test_zero_shot_is_answered_label_by_label(agent: str) -> None:
    assert written("zero-shot-classification", SCORED, agent=agent) == SCORED


@pytest.mark.parametrize("version", ["0.24.7", "0.29.3", "0.36.2", "1.1.9"])
def test_an_old_hub_gets_zero_shot_in_two_columns(version: str) -> None:
    assert written("zero-shot-classification", SCORED, agent=PYTHON.format(version)) == COLUMNS


def test_zero_shot_of_a_list_is_told_apart_by_the_sequence() -> None:
    sent = {"inputs": ["hi", "ho"], "parameters": {"candidate_labels": ["a", "b"]}}
    assert written("zero-shot-classification", [SCORED, SCORED], sent) == [COLUMNS, COLUMNS | {"sequence": "ho"}]


def test_a_caption_is_an_object_to_huggingface_js_and_a_list_to_all_others() -> None:
    assert written("image-to-text", {"generated_text": "a"}, agent=JAVASCRIPT) == {"generated_text": "a"}
    assert written("image-to-text", {"generated_text": "a"}, agent=PYTHON.format("2.4.0")) == [{"generated_text": "a"}]


TOKEN = {"entity": "I-PER", "score": 0.9, "index": 1, "word": "El", "start": 0, "end": 2}


def test_tokens_are_named_as_groups_unless_they_were_asked_for() -> None:
    grouped = {"entity_group": "PER", "score": 0.9, "index": 1, "word": "El", "start": 0, "end": 2}
    assert written("token-classification", [TOKEN]) == [grouped]
    assert written("token-classification", [[TOKEN], []], {"inputs": ["a", "b"]}) == [[grouped], []]
    asked = {"inputs": "Elon", "parameters": {"aggregation_strategy": "none"}}
    assert written("token-classification", [TOKEN], asked) == [TOKEN]


def test_a_table_is_answered_with_an_aggregator_always() -> None:
    bare = {name: value for name, value in CELLS.items() if name != "aggregator"}
    assert written("table-question-answering", [bare]) == bare | {"aggregator": "NONE"}
    assert written("table-question-answering", []) == []
    asked = {"inputs": {"query": ["a", "b"], "table": TABLE}}
    assert written("table-question-answering", [CELLS, CELLS], asked) == [CELLS, CELLS]


@pytest.mark.parametrize("name", ["return_text", "return_documents"])
def test_ranked_texts_are_said_again_where_that_is_asked_for(name: str) -> None:
    sent = {"query": "q", "texts": ["a", "b"], name: True}
    assert CODECS["text-ranking"].read(body(sent))[0].parameters == {}
    assert written("text-ranking", RANKED, sent) == [RANKED[0] | {"text": "b"}, RANKED[1] | {"text": "a"}]
    assert written("text-ranking", RANKED, sent | {name: False}) == RANKED


# huggingface.js, packages/inference/src/providers/hf-inference.ts: what each task's answer is checked for


def fields(answer: Any, kinds: dict[str, Any]) -> bool:
    return isinstance(answer, dict) and all(isinstance(answer.get(name), kind) for name, kind in kinds.items())


NUMBER = (int, float)
labelled = {"label": str, "score": NUMBER}
spanned = {"answer": str, "score": NUMBER, "start": NUMBER, "end": NUMBER}
ELEMENTS: dict[str, dict[str, Any]] = {
    "audio-classification": labelled,
    "audio-to-audio": {"label": str, "content-type": str, "blob": str},
    "document-question-answering": spanned,
    "fill-mask": {"score": NUMBER, "sequence": str, "token": NUMBER, "token_str": str},
    "image-classification": labelled,
    "image-segmentation": {"label": str, "mask": str, "score": NUMBER},
    "object-detection": labelled | {"box": dict},
    "summarization": {"summary_text": str},
    "token-classification": {"entity_group": str, "score": NUMBER, "word": str, "start": NUMBER, "end": NUMBER},
    "translation": {"translation_text": str},
    "visual-question-answering": {"answer": str, "score": NUMBER},
    "zero-shot-classification": labelled,
    "zero-shot-image-classification": labelled,
}
OBJECTS: dict[str, dict[str, Any]] = {
    "automatic-speech-recognition": {"text": str},
    "image-to-text": {"generated_text": str},
    "question-answering": spanned,
    "table-question-answering": {"aggregator": str, "answer": str, "cells": list, "coordinates": list},
}


@pytest.mark.parametrize("task", sorted(ELEMENTS))
def test_huggingface_js_gets_a_list_whose_elements_it_takes(task: str) -> None:
    answer = written(task, EXAMPLES[task].value, agent=JAVASCRIPT)
    assert isinstance(answer, list) and answer and all(fields(each, ELEMENTS[task]) for each in answer)


@pytest.mark.parametrize("task", sorted(OBJECTS))
def test_huggingface_js_gets_an_object_that_it_takes(task: str) -> None:
    assert fields(written(task, EXAMPLES[task].value, agent=JAVASCRIPT), OBJECTS[task])


def test_huggingface_js_gets_labels_of_a_text_in_a_list_of_lists() -> None:
    [inner] = written("text-classification", SCORED, agent=JAVASCRIPT)
    assert all(fields(each, labelled) for each in inner)


@pytest.mark.parametrize("task", ["sentence-similarity", "tabular-classification", "tabular-regression"])
def test_huggingface_js_gets_numbers_alone(task: str) -> None:
    assert all(isinstance(each, NUMBER) for each in written(task, EXAMPLES[task].value, agent=JAVASCRIPT))
