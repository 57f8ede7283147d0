import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects.hf_tasks import CODECS, TASKS
from providers.spec import Ask, Blob, Body, Link, Unreadable
from tests.providers.dialects.hub_tasks import AUDIO, EXAMPLES, IMAGE, PNG, QUESTION, TABLE, WAV, b64


def body(value: dict[str, Any]) -> Body:
    return Body({name: msgspec.Raw(json.dumps(each).encode()) for name, each in value.items()})


def read(task: str, value: dict[str, Any]) -> Ask:
    return CODECS[task].read(body(value))[0]


def refusal(task: str, request: Body) -> Unreadable:
    with pytest.raises(Unreadable) as refused:
        CODECS[task].read(request)
    return refused.value


CANDIDATES = {"candidate_labels": ["a", "b"]}
SENTENCES = {"source_sentence": "a", "sentences": ["b", "c"]}
RANKED = {"query": "q", "texts": ["a", "b"]}
LOOKED_AT = {"question": "what?", "image": b64(PNG)}

# Every form that some client has sent: task, body, the Ask's inputs and parameters.
FORMS: list[tuple[str, dict[str, Any], Any, dict[str, Any]]] = [
    ("text-classification", {"inputs": "a", "parameters": None}, "a", {}),
    ("text-classification", {"inputs": "a", "parameters": {"top_k": None}}, "a", {}),
    ("text-classification", {"inputs": "a", "options": {"wait_for_model": True}}, "a", {}),
    ("text-classification", {"inputs": {"text": "a", "text_pair": "b"}}, {"text": "a", "text_pair": "b"}, {}),
    ("text-classification", {"inputs": ["a", "b"]}, ["a", "b"], {}),
    ("token-classification", {"inputs": "a"}, "a", {"aggregation_strategy": "simple"}),
    (
        "token-classification",
        {"inputs": "a", "parameters": {"aggregation_strategy": "none"}},
        "a",
        {"aggregation_strategy": "none"},
    ),
    ("question-answering", QUESTION, QUESTION, {}),
    ("question-answering", {"inputs": None, "parameters": {}, **QUESTION}, QUESTION, {}),
    ("question-answering", {"inputs": [QUESTION, QUESTION]}, [QUESTION, QUESTION], {}),
    ("table-question-answering", {"query": "q", "table": TABLE}, {"query": "q", "table": TABLE}, {}),
    ("table-question-answering", {"inputs": {"question": "q", "table": TABLE}}, {"query": "q", "table": TABLE}, {}),
    ("table-question-answering", {"inputs": {"query": "q"}, "table": TABLE}, {"query": "q", "table": TABLE}, {}),
    (
        "table-question-answering",
        {"inputs": {"query": "q", "table": TABLE}, "parameters": {"model": "google/tapas", "sequential": True}},
        {"query": "q", "table": TABLE},
        {"sequential": True},
    ),
    ("zero-shot-classification", {"inputs": "a", "parameters": {"candidate_labels": "a, b"}}, "a", CANDIDATES),
    ("sentence-similarity", {"inputs": None, "parameters": {}, **SENTENCES}, SENTENCES, {}),
    ("text-ranking", RANKED, RANKED, {}),
    ("text-ranking", {"query": "q", "documents": ["a", "b"], "truncate": True}, RANKED, {"truncate": True}),
    ("feature-extraction", {"inputs": "a", "truncate": True, "dimensions": 4, "prompt_name": None}, "a",
     {"truncate": True, "dimensions": 4}),
    ("feature-extraction", {"inputs": ["a"], "parameters": {"normalize": True}}, ["a"], {"normalize": True}),
    ("image-classification", {"inputs": f"data:image/png;base64,{b64(PNG)}"}, IMAGE, {}),
    ("image-classification", {"inputs": "https://example.com/a.png"}, Link("https://example.com/a.png"), {}),
    ("image-classification", {"image": b64(PNG)}, IMAGE, {}),
    ("image-classification", {"image": b64(PNG), "parameters": {"top_k": 1}}, IMAGE, {"top_k": 1}),
    ("zero-shot-image-classification", {"inputs": b64(PNG), "parameters": CANDIDATES}, IMAGE, CANDIDATES),
    ("zero-shot-image-classification", {"inputs": {"image": b64(PNG)}, "parameters": CANDIDATES}, IMAGE, CANDIDATES),
    ("zero-shot-image-classification", {"image": b64(PNG), "parameters": {"candidate_labels": "a,b"}}, IMAGE,
     CANDIDATES),
    ("visual-question-answering", {"inputs": LOOKED_AT}, {"question": "what?", "image": IMAGE}, {}),
    ("visual-question-answering", LOOKED_AT, {"question": "what?", "image": IMAGE}, {}),
    ("visual-question-answering", {"inputs": b64(PNG), "parameters": {"top_k": 2}, **LOOKED_AT},
     {"question": "what?", "image": IMAGE}, {"top_k": 2}),
    ("visual-question-answering", {"inputs": b64(PNG), "question": "what?"},
     {"question": "what?", "image": IMAGE}, {}),
    ("document-question-answering", {"inputs": LOOKED_AT, "parameters": {"lang": "en"}},
     {"question": "what?", "image": IMAGE}, {"lang": "en"}),
    ("automatic-speech-recognition", {"inputs": b64(WAV), "parameters": {"return_timestamps": "word"}}, AUDIO,
     {"return_timestamps": "word"}),
    ("image-text-to-image", {"inputs": b64(PNG), "parameters": {"prompt": "a"}}, IMAGE, {"prompt": "a"}),
    ("image-text-to-image", {"inputs": None, "parameters": {"prompt": "a"}}, None, {"prompt": "a"}),
    ("tabular-classification", {"parameters": {}, "table": {"a": ["1"]}}, {"data": {"a": ["1"]}}, {}),
    ("tabular-regression", {"inputs": {"data": {"a": ["1"]}}}, {"data": {"a": ["1"]}}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("task", "sent", "inputs", "parameters"), FORMS)
def test_every_form_that_clients_send_is_read(
    task: str, sent: dict[str, Any], inputs: Any, parameters: dict[str, Any]
) -> None:
    assert read(task, sent) == Ask(task, inputs, parameters)


@pytest.mark.parametrize(
    ("raw", "inputs"),
    [
        (b"I like it", "I like it"),
        ("schön".encode(), "schön"),
        (b'"quoted"', "quoted"),
        (b'["a", "b"]', ["a", "b"]),
        (b"42", "42"),
        (b"{no json", "{no json"),
        (b'{"inputs": "a", "options": {}}', "a"),
        (b' {"inputs": "a"}', "a"),
    ],
)
def test_a_text_may_be_the_body_and_json_may_be_called_anything(raw: bytes, inputs: Any) -> None:
    ask, _ = CODECS["text-classification"].read(Body(file=Blob(raw, "application/x-www-form-urlencoded")))
    assert ask.inputs == inputs


def test_a_file_in_json_that_is_called_a_form_is_read() -> None:
    raw = json.dumps({"inputs": b64(PNG), "parameters": {"top_k": 1}}).encode()
    ask, _ = CODECS["image-classification"].read(Body(file=Blob(raw)))
    assert (ask.inputs, ask.parameters) == (IMAGE, {"top_k": 1})


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("text-classification", {}, "inputs"),
    ("text-classification", {"inputs": None}, "inputs"),
    ("text-classification", {"inputs": ["a", 1]}, "inputs[1]"),
    ("text-classification", {"inputs": "a", "parameters": []}, "parameters"),
    ("text-to-image", {"inputs": ["a"]}, "inputs"),
    ("image-classification", {}, "inputs"),
    ("image-classification", {"inputs": "cat.png"}, "inputs"),
    ("image-classification", {"inputs": ""}, "inputs"),
    ("image-classification", {"inputs": 5}, "inputs"),
    ("image-classification", {"inputs": "data:image/png;base64,?"}, "inputs"),
    ("question-answering", {"inputs": "who?"}, "inputs"),
    ("question-answering", {"question": "who?"}, "inputs.context"),
    ("question-answering", {"inputs": [QUESTION, {"question": "who?"}]}, "inputs[1].context"),
    ("visual-question-answering", {"inputs": b64(PNG)}, "inputs.question"),
    ("document-question-answering", {"inputs": {"question": "a", "image": "?"}}, "inputs.image"),
    ("sentence-similarity", {"inputs": {"source_sentence": "a", "sentences": "b"}}, "inputs.sentences"),
    ("tabular-regression", {"inputs": {"data": []}}, "inputs.data"),
    ("zero-shot-classification", {"inputs": "a"}, "parameters.candidate_labels"),
    ("zero-shot-classification", {"inputs": "a", "parameters": {"candidate_labels": " ,"}},
     "parameters.candidate_labels"),
    ("zero-shot-image-classification", {"inputs": b64(PNG), "parameters": {"candidate_labels": [1]}},
     "parameters.candidate_labels"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "sent", "param"), REFUSED)
def test_what_is_missing_or_wrong_is_named(task: str, sent: dict[str, Any], param: str) -> None:
    refused = refusal(task, body(sent))
    assert (refused.param, refused.status) == (param, 400)
    assert refused.message.startswith(f"`{param}` ")


@pytest.mark.parametrize(
    ("task", "raw", "param"),
    [
        ("text-classification", b"", "inputs"),
        ("image-classification", b"", "inputs"),
        ("text-classification", b"\xff\xfe", "inputs"),
        ("question-answering", b"who?", "inputs"),
        ("zero-shot-image-classification", PNG, "parameters.candidate_labels"),
        ("text-classification", b'{"inputs": ' + b"[" * 100_000 + b"}", "inputs"),
    ],
)
def test_a_body_that_cannot_be_the_inputs_is_refused(task: str, raw: bytes, param: str) -> None:
    assert refusal(task, Body(file=Blob(raw))).param == param


@pytest.mark.parametrize("name", ["inputs", "parameters"])
def test_what_is_nested_too_deep_or_no_json_is_refused_by_name(name: str) -> None:
    deep = Body({"inputs": msgspec.Raw(b'"a"'), name: msgspec.Raw(b"[" * 50_000 + b"]" * 50_000)})
    assert refusal("text-classification", deep).param == name
    broken = Body({"inputs": msgspec.Raw(b'"a"'), name: msgspec.Raw(b'"\xff"')})
    assert refusal("text-classification", broken).param == name


NAMES = ("inputs", "parameters", "image", "question", "context", "query", "table", "texts", "data", "source_sentence")
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([b64(PNG), "data:,", "http://a"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner)
)


def read_at_all(task: str, request: Body) -> None:
    try:
        ask, want = CODECS[task].read(request)
    except Unreadable:
        return
    hash(want)
    CODECS[task].encode(ask)


@given(st.sampled_from(TASKS), st.dictionaries(st.sampled_from(NAMES), values))
def test_any_json_is_read_or_refused(task: str, fields: dict[str, Any]) -> None:
    read_at_all(task, body(fields))


@given(st.sampled_from(TASKS), st.dictionaries(st.sampled_from(NAMES), st.binary()))
def test_any_bytes_in_a_field_are_read_or_refused(task: str, fields: dict[str, bytes]) -> None:
    read_at_all(task, Body({name: msgspec.Raw(value) for name, value in fields.items()}))


@given(st.sampled_from(TASKS), st.binary() | values.map(lambda value: json.dumps(value).encode()), st.text())
def test_any_body_is_read_or_refused(task: str, raw: bytes, mime: str) -> None:
    read_at_all(task, Body(file=Blob(raw, mime), accept=mime, agent=mime))


@given(
    st.sampled_from(TASKS), st.dictionaries(st.sampled_from(["top_k", "aggregation_strategy", "return_text"]), values)
)
def test_any_parameters_are_read_or_refused(task: str, parameters: dict[str, Any]) -> None:
    read_at_all(task, body(EXAMPLES[task].body | {"parameters": EXAMPLES[task].parameters | parameters}))
