import json

import msgspec
import pytest

from providers import sse
from providers.dialects import tgi
from providers.spec import TEXT_GENERATION, Fault

CODEC = tgi.DIALECT.codecs[TEXT_GENERATION]


@pytest.mark.parametrize(
    ("status", "error_type"),
    [
        (422, "validation"),
        (400, "validation"),
        (424, "generation"),
        (429, "overloaded"),
        (503, "overloaded"),
        (500, "generation"),
        (401, "some_code"),
        (404, "some_code"),
    ],
)
def test_an_error_is_a_string_and_a_type(status: int, error_type: str) -> None:
    worded = json.loads(tgi.DIALECT.fault(Fault(status, "some_code", "What went wrong.", "inputs")))
    assert worded == {"error": "What went wrong.", "error_type": error_type}


def test_an_error_lists_what_was_tried() -> None:
    worded = json.loads(tgi.DIALECT.fault(Fault(502, "all_failed", "All failed.", attempts=({"status": 503},))))
    assert worded["attempts"] == [{"status": 503}]


@pytest.mark.parametrize(("status", "kind"), [(502, "incomplete_generation"), (429, "overloaded"), (422, "validation")])
def test_a_broken_stream_ends_in_an_error_event(status: int, kind: str) -> None:
    block = tgi.DIALECT.fault_event(Fault(status, "upstream_broke", "It broke."))
    assert json.loads(sse.data(block) or b"") == {"error": "It broke.", "error_type": kind}


def test_generate_answers_an_object_without_the_prompt() -> None:
    canonical, want = CODEC.read({"inputs": msgspec.Raw(b'"a"')})
    assert canonical["prompt"] == "a"
    reply = {"choices": [{"text": " b", "finish_reason": "stop"}]}
    assert json.loads(CODEC.write(reply, want)) == {"generated_text": " b"}


def test_a_stream_has_no_done() -> None:
    _, want = CODEC.read({"inputs": msgspec.Raw(b'"a"'), "parameters": msgspec.Raw(b'{"return_full_text": true}')})
    writer = CODEC.stream(want)
    written = writer.event({"choices": [{"text": " b", "finish_reason": "length"}]}) + writer.end()
    assert written.startswith(b"data: {") and written.endswith(b"}\n\n") and b"DONE" not in written
    assert json.loads(sse.data(written) or b"")["generated_text"] == "a b"
