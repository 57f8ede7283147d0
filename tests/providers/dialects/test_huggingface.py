import json

import msgspec
import pytest

from providers import sse
from providers.dialects import huggingface
from providers.spec import TEXT_GENERATION, Fault

CODEC = huggingface.DIALECT.codecs[TEXT_GENERATION]


@pytest.mark.parametrize("status", [400, 401, 404, 429, 502])
def test_an_error_is_one_string(status: int) -> None:
    assert json.loads(huggingface.DIALECT.fault(Fault(status, "code", "Why.", "inputs"))) == {"error": "Why."}


def test_an_invalid_request_is_told_apart_as_tgi_does() -> None:
    worded = json.loads(huggingface.DIALECT.fault(Fault(422, "validation", "Why.", "inputs")))
    assert worded == {"error": "Why.", "error_type": "validation"}


def test_a_loading_model_says_so_in_the_words_that_clients_look_for() -> None:
    fault = huggingface.loading("gpt2", 20.0)
    assert fault.status == 503 and fault.retry_after == 20.0
    assert json.loads(huggingface.DIALECT.fault(fault)) == {
        "error": "Model gpt2 is currently loading",
        "estimated_time": 20.0,
    }


def test_an_error_lists_what_was_tried() -> None:
    worded = json.loads(huggingface.DIALECT.fault(Fault(502, "all_failed", "All failed.", attempts=({"status": 503},))))
    assert worded["attempts"] == [{"status": 503}]


def test_a_broken_stream_ends_as_tgis_does() -> None:
    block = huggingface.DIALECT.fault_event(Fault(502, "upstream_broke", "It broke."))
    assert json.loads(sse.data(block) or b"") == {"error": "It broke.", "error_type": "incomplete_generation"}


@pytest.mark.parametrize(
    ("parameters", "texts"), [(b"{}", ["a b", "a c"]), (b'{"return_full_text": false}', [" b", " c"])]
)
def test_the_answer_is_a_list_that_begins_with_the_prompt_unless_told_otherwise(
    parameters: bytes, texts: list[str]
) -> None:
    _, want = CODEC.read({"inputs": msgspec.Raw(b'"a"'), "parameters": msgspec.Raw(parameters)})
    reply = {"choices": [{"text": " b", "finish_reason": "stop"}, {"text": " c", "finish_reason": "stop"}]}
    assert [one["generated_text"] for one in json.loads(CODEC.write(reply, want))] == texts


def test_options_are_not_the_models_business() -> None:
    canonical, _ = CODEC.read({"inputs": msgspec.Raw(b'"a"'), "options": msgspec.Raw(b'{"use_cache": false}')})
    assert "options" not in canonical


def test_the_last_event_of_a_stream_has_the_prompt_and_the_tokens_have_not() -> None:
    _, want = CODEC.read({"inputs": msgspec.Raw(b'"a"')})
    writer = CODEC.stream(want)
    event = json.loads(
        sse.data(writer.event({"choices": [{"text": " b", "finish_reason": "stop"}]}) + writer.end()) or b""
    )
    assert event["token"]["text"] == " b" and event["generated_text"] == "a b"
