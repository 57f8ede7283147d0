import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects import ollama
from providers.spec import TEXT_GENERATION, Fault, Unreadable

CODEC = ollama.DIALECT.codecs[TEXT_GENERATION]
WANT = ollama.Want("codellama:7b")
USAGE = {"prompt_tokens": 3, "completion_tokens": 7}


def read(**body: Any) -> dict[str, Any]:
    body = {"model": "codellama:7b", "prompt": "def f"} | body
    canonical, want = CODEC.read({name: msgspec.Raw(json.dumps(value).encode()) for name, value in body.items()})
    assert want == WANT
    return canonical


def refusal(**body: Any) -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        read(**body)
    assert caught.value.status == 400
    return caught.value


def test_what_llm_ls_sends_is_mapped() -> None:
    assert read(stream=False, options={"num_predict": 60, "temperature": 0.2, "top_p": 0.95}) == {
        "prompt": "def f", "max_tokens": 60, "temperature": 0.2, "top_p": 0.95, "stream": False,
    }  # fmt: skip


def test_it_streams_unless_told_not_to() -> None:
    assert read()["stream"] is True
    assert read(stream=None)["stream"] is True
    assert read(stream=False)["stream"] is False


def test_every_option_that_shapes_the_answer_is_mapped() -> None:
    assert read(suffix="\n", options={"repeat_penalty": 1.1, "stop": ["x"], "seed": 1, "top_k": 3, "min_p": None}) == {
        "prompt": "def f", "max_tokens": 1024, "suffix": "\n", "repetition_penalty": 1.1, "stop": ["x"], "seed": 1,
        "top_k": 3, "stream": True,
    }  # fmt: skip


def test_to_the_end_is_a_number_that_a_completions_api_takes() -> None:
    assert read(options={"num_predict": -1})["max_tokens"] == 1024


def test_how_the_machine_runs_it_is_left_out() -> None:
    assert read(options={"num_ctx": 4096, "num_gpu": 1}, keep_alive="5m", raw=True) == read()


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("json", {"type": "json_object"}),
        (
            {"type": "object"},
            {"type": "json_schema", "json_schema": {"name": "format", "schema": {"type": "object"}, "strict": True}},
        ),
    ],
)
def test_a_format_becomes_a_response_format(given: Any, canonical: dict[str, Any]) -> None:
    assert read(format=given)["response_format"] == canonical


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"options": []}, "options"),
        ({"format": "xml"}, "format"),
        ({"system": "Be brief."}, "system"),
        ({"template": "{{ .Prompt }}"}, "template"),
        ({"context": [1, 2]}, "context"),
        ({"images": ["…"]}, "images"),
        ({"think": True}, "think"),
        ({"options": {"mirostat": 1}}, "options.mirostat"),
        ({"options": {"prompt": "another"}}, "options.prompt"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    fault = refusal(**body)
    assert fault.param == param
    assert f"`{param}`" in fault.message


def test_bytes_that_are_no_json_text_name_their_field() -> None:
    with pytest.raises(Unreadable) as caught:
        CODEC.read({"prompt": msgspec.Raw(b'"\xff"')})
    assert caught.value.param == "prompt"


@given(st.dictionaries(st.sampled_from(["prompt", "model", "suffix", "stream", "options", "format"]), st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.dictionaries(st.text(max_size=3), st.integers()),
)))  # fmt: skip
def test_any_json_at_all_is_read_or_refused(body: dict[str, Any]) -> None:
    try:
        canonical, _ = CODEC.read({name: msgspec.Raw(json.dumps(value).encode()) for name, value in body.items()})
    except Unreadable:
        return
    assert canonical["prompt"] == body["prompt"]


def test_an_answer_has_ollamas_fields() -> None:
    reply = {"created": 0, "model": "x", "choices": [{"text": "(x)", "finish_reason": "length"}], "usage": USAGE}
    assert json.loads(CODEC.write(reply, WANT)) == {
        "model": "codellama:7b",
        "created_at": "1970-01-01T00:00:00Z",
        "response": "(x)",
        "done": True,
        "done_reason": "length",
        "prompt_eval_count": 3,
        "eval_count": 7,
    }


@pytest.mark.parametrize("reply", [{"choices": [{"text": None, "finish_reason": None}]}])
def test_an_answer_without_a_text_or_a_reason_is_done_all_the_same(reply: dict[str, Any]) -> None:
    answer = json.loads(CODEC.write(reply, WANT))
    assert (answer["response"], answer["done"], answer["done_reason"]) == ("", True, "stop")


@given(st.lists(st.text(min_size=1, max_size=3), max_size=5))
def test_a_stream_is_lines_that_spell_the_text_and_a_last_one_that_counts(parts: list[str]) -> None:
    writer = CODEC.stream(WANT)
    written = b"".join(writer.event({"created": 1, "choices": [{"index": 0, "text": part}]}) for part in parts)
    written += writer.event({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
    written += writer.event({"created": 1, "choices": [], "usage": USAGE}) + writer.end()
    assert written.endswith(b"\n")
    lines = [json.loads(line) for line in written.split(b"\n")[:-1]]
    assert "".join(line["response"] for line in lines) == "".join(parts)
    assert [line["done"] for line in lines] == [False] * len(parts) + [True]
    assert (lines[-1]["done_reason"], lines[-1]["eval_count"], lines[-1]["prompt_eval_count"]) == ("stop", 7, 3)


def test_no_finish_is_made_up() -> None:
    writer = CODEC.stream(WANT)
    writer.event({"choices": [{"text": "a"}]})
    assert writer.end() == b""


def test_an_error_is_one_string_and_ends_a_stream_as_a_line() -> None:
    fault = Fault(502, "upstream_broke", "It broke.")
    assert json.loads(ollama.DIALECT.fault(fault)) == {"error": "It broke."}
    assert ollama.DIALECT.fault_event(fault) == ollama.DIALECT.fault(fault) + b"\n"
