"""Text generation towards servers that take it in the Hub's shape alone."""

import json
from typing import Any

import msgspec
import pytest

from providers.dialects import DIALECTS
from providers.spec import TEXT_GENERATION, Body, Fields, Reply, Unreadable, Written

ANSWER = Reply(200, {}, b'[{"generated_text":"ho","details":{"finish_reason":"length","generated_tokens":2}}]')


def asked(dialect: str, **body: Any) -> dict[str, Any]:
    """What goes up for a body in some dialect."""
    fields: Fields = msgspec.json.decode(msgspec.json.encode(body), type=Fields)
    ask, _ = DIALECTS[dialect].tasks[TEXT_GENERATION].read(Body(fields=fields))
    sent = DIALECTS["huggingface"].tasks[TEXT_GENERATION].encode(ask)
    assert sent.body is not None
    found: dict[str, Any] = json.loads(sent.body)
    return found


def answered(dialect: str, **body: Any) -> Any:
    fields: Fields = msgspec.json.decode(msgspec.json.encode(body), type=Fields)
    codec = DIALECTS[dialect].tasks[TEXT_GENERATION]
    ask, want = codec.read(Body(fields=fields))
    written = codec.write(DIALECTS["huggingface"].tasks[TEXT_GENERATION].decode(ANSWER, ask), want)
    assert isinstance(written, Written)
    return json.loads(written.body)


def test_a_completion_becomes_inputs_and_parameters() -> None:
    body = {"model": "m", "prompt": "hi", "max_tokens": 5, "temperature": 0.7, "stop": "\n", "top_p": 0.9, "seed": 7}
    assert asked("openai", **body, n=1) == {
        "inputs": "hi",
        "parameters": {
            "max_new_tokens": 5, "do_sample": True, "temperature": 0.7, "stop": ["\n"], "top_p": 0.9, "seed": 7,
            "return_full_text": False,
        },
    }  # fmt: skip


def test_no_temperature_is_no_wish_and_zero_is_greedy() -> None:
    assert asked("openai", prompt=["hi"])["parameters"] == {"return_full_text": False}
    assert asked("openai", prompt="hi", temperature=0)["parameters"]["do_sample"] is False


@pytest.mark.parametrize(
    ("field", "value"),
    [("suffix", "x"), ("echo", True), ("n", 2), ("logprobs", 3), ("best_of", 2), ("logit_bias", {"1": 2})],
)  # fmt: skip
def test_what_the_hubs_shape_has_no_word_for_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(Unreadable) as refused:
        asked("openai", prompt="hi", **{field: value})
    assert refused.value.param == field


@pytest.mark.parametrize("body", [{"prompt": ["a", "b"]}, {"prompt": [1, 2]}, {}, {"prompt": 3}])
def test_one_prompt_is_wanted(body: dict[str, Any]) -> None:
    with pytest.raises(Unreadable) as refused:
        asked("openai", **body)
    assert refused.value.param == "prompt"


def test_a_stream_is_refused() -> None:
    with pytest.raises(Unreadable) as refused:
        asked("openai", prompt="hi", stream=True)
    assert refused.value.param == "stream"


def test_each_dialect_reads_the_same_answer_in_its_own_shape() -> None:
    (choice,) = answered("openai", prompt="hi")["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("ho", "length")
    assert answered("huggingface", inputs="hi") == [{"generated_text": "hiho"}]
    assert answered("tgi", inputs="hi", parameters={"details": True})["details"]["finish_reason"] == "length"
    assert answered("ollama", model="m", prompt="hi", stream=False)["response"] == "ho"


@pytest.mark.parametrize("body", [b"[]", b"{}", b'[{"generated_text":3}]', b'"text"', b"[1]"])
def test_what_is_no_answer_is_none(body: bytes) -> None:
    codec = DIALECTS["huggingface"].tasks[TEXT_GENERATION]
    ask, _ = codec.read(Body(fields={"inputs": msgspec.Raw(b'"hi"')}))
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        codec.decode(Reply(200, {}, body), ask)
