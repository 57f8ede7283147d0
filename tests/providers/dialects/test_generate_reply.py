import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from huggingface_hub import TextGenerationOutput, TextGenerationStreamOutput
from hypothesis import given
from hypothesis import strategies as st

from providers import sse
from providers.dialects import generate_reply
from providers.dialects.generate_request import Want

HERE = Path(__file__).parent
SCHEMAS = HERE.parents[1] / "data" / "text-generation"


def with_nulls(schema: Any) -> Any:
    """The Hub's schemas are made from OpenAPI 3.0, whose `nullable` JSON Schema does not know."""
    if isinstance(schema, list):
        return [with_nulls(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: with_nulls(part) for name, part in schema.items()}
    return {"anyOf": [inner, {"type": "null"}]} if schema.get("nullable") is True else inner


OUTPUT = with_nulls(json.loads((SCHEMAS / "output.json").read_text()))
STREAM_OUTPUT = with_nulls(json.loads((SCHEMAS / "stream_output.json").read_text()))
SNAPSHOTS = sorted((HERE / "data").glob("tgi-*.json"))
USAGE = {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}


def want(before: str = "", details: bool = True, stops: tuple[str, ...] = (), top_n: int = 0) -> Want:
    return Want(before, details, None, stops, top_n)


def answered(choice: dict[str, Any], asked: Want) -> dict[str, Any]:
    answer = generate_reply.answer({"choices": [choice], "usage": USAGE}, choice, asked)
    jsonschema.validate(answer, OUTPUT)
    return answer


def streamed(chunks: list[dict[str, Any]], asked: Want) -> list[dict[str, Any]]:
    writer = generate_reply.Stream(asked)
    splitter = sse.Splitter()
    blocks = [block for chunk in chunks for block in splitter.feed(writer.event(chunk))] + splitter.feed(writer.end())
    assert splitter.rest() == b""
    events = [json.loads(sse.data(block) or b"") for block in blocks]
    for event in events:
        jsonschema.validate(event, STREAM_OUTPUT)
        TextGenerationStreamOutput.parse_obj_as_instance(event)
    return events


def chunk(text: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": text, "finish_reason": finish, "logprobs": None} | more]}


def shape_of(value: Any) -> Any:
    """Keys and types; the options that a server leaves out are left out."""
    if isinstance(value, dict):
        return {
            name: "number or null" if name == "logprob" else "seed" if name == "seed" else shape_of(part)
            for name, part in value.items()
            if name not in ("best_of_sequences", "top_tokens")
        }
    if isinstance(value, list):
        return [shape_of(part) for part in value[:1]]
    return type(value).__name__


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda path: path.stem)
def test_an_answer_has_the_shape_and_the_meaning_of_a_real_servers(path: Path) -> None:
    real = json.loads(path.read_text())
    said = [token for token in real["details"]["tokens"] if not token["special"]]
    stop = "test" if real["details"]["finish_reason"] == "stop_sequence" else None
    text = real["generated_text"].removesuffix(stop or "")
    choice = {
        "text": text,
        "finish_reason": "length" if real["details"]["finish_reason"] == "length" else "stop",
        "stop_reason": stop,
        "logprobs": {
            "tokens": [token["text"] for token in said],
            "token_logprobs": [token["logprob"] for token in said],
        },
    }
    ours = answered(choice, want(stops=("test",)))
    assert shape_of(ours) == shape_of(real)
    assert ours["generated_text"] == real["generated_text"]
    assert ours["details"]["finish_reason"] == real["details"]["finish_reason"]
    assert [token["text"] for token in ours["details"]["tokens"]] == [token["text"] for token in said]
    parsed = TextGenerationOutput.parse_obj_as_instance(ours)
    assert parsed.details is not None and parsed.details.generated_tokens == 7


def test_details_come_only_when_asked_for() -> None:
    assert answered({"text": "a", "finish_reason": "stop"}, want(details=False)) == {"generated_text": "a"}


def test_the_prompt_stands_before_the_text_where_it_is_wanted() -> None:
    choice = {"text": " b", "finish_reason": "stop"}
    assert answered(choice, want("a"))["generated_text"] == "a b"
    assert streamed([chunk(" b", "stop")], want("a"))[-1]["generated_text"] == "a b"


@pytest.mark.parametrize(
    ("choice", "text", "reason"),
    [
        ({"text": "a", "finish_reason": "stop"}, "a", "eos_token"),
        ({"text": "a", "finish_reason": "length"}, "a", "length"),
        ({"text": "a", "finish_reason": "stop", "stop_reason": "END"}, "aEND", "stop_sequence"),
        ({"text": "aEND", "finish_reason": "stop", "stop_reason": "END"}, "aEND", "stop_sequence"),
        ({"text": "a", "finish_reason": "stop", "matched_stop": "END"}, "aEND", "stop_sequence"),
        ({"text": "aEND", "finish_reason": "stop"}, "aEND", "stop_sequence"),
        ({"text": "a", "finish_reason": "stop", "stop_reason": 128009}, "a", "eos_token"),
        ({"text": "a", "finish_reason": "stop", "stop_reason": "eos"}, "a", "eos_token"),
        ({"text": None, "finish_reason": "stop"}, "", "eos_token"),
    ],
)
def test_the_finish_is_told_in_tgis_words_and_the_stop_text_is_left_in(
    choice: dict[str, Any], text: str, reason: str
) -> None:
    answer = answered(choice, want(stops=("END", "X")))
    assert (answer["generated_text"], answer["details"]["finish_reason"]) == (text, reason)
    last = streamed([{"choices": [choice]}], want(stops=("END", "X")))[-1]
    assert (last["generated_text"], last["details"]["finish_reason"]) == (text, reason)


def test_the_likeliest_tokens_are_listed_likeliest_first() -> None:
    logprobs = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"b": -2.0, "a": -0.5, "c": -3.0}]}
    choice = {"text": "a", "finish_reason": "stop", "logprobs": logprobs}
    top = answered(choice, want(top_n=2))["details"]["top_tokens"]
    assert [[token["text"] for token in place] for place in top] == [["a", "b"]]
    first, last = streamed([chunk("a", logprobs=logprobs), chunk("", "stop")], want(top_n=2))
    assert first["top_tokens"] == top[0] and first["token"]["logprob"] == -0.5
    assert "top_tokens" not in last


def test_a_stream_is_token_events_and_a_last_one_with_everything() -> None:
    events = streamed([chunk("He"), chunk("llo"), chunk("", "stop"), {"choices": [], "usage": USAGE}], want())
    assert events == [
        {
            "index": 1,
            "token": {"id": 0, "text": "He", "logprob": 0.0, "special": False},
            "generated_text": None,
            "details": None,
        },
        {
            "index": 2,
            "token": {"id": 0, "text": "llo", "logprob": 0.0, "special": False},
            "generated_text": None,
            "details": None,
        },
        {
            "index": 3,
            "token": {"id": 0, "text": "", "logprob": 0.0, "special": True},
            "generated_text": "Hello",
            "details": {"finish_reason": "eos_token", "generated_tokens": 7, "seed": None, "input_length": 3},
        },
    ]


def test_an_event_is_written_as_soon_as_its_chunk_is_there() -> None:
    writer = generate_reply.Stream(want())
    assert b'"text":"a"' in writer.event(chunk("a"))


def test_text_in_the_finishing_chunk_is_the_last_token() -> None:
    events = streamed([chunk("a"), chunk("b", "length") | {"usage": USAGE}], want())
    assert [event["token"]["text"] for event in events] == ["a", "b"]
    assert events[-1]["generated_text"] == "ab" and events[-1]["token"]["special"] is False


def test_a_stop_text_that_the_upstream_cut_off_is_the_last_token() -> None:
    events = streamed([chunk("a"), chunk("b", "stop", stop_reason="\n")], want(stops=("\n",)))
    assert [event["token"]["text"] for event in events] == ["a", "b", "\n"]
    assert [event["index"] for event in events] == [1, 2, 3]
    assert events[-1]["generated_text"] == "ab\n"


def test_a_chunk_of_several_tokens_is_several_events_where_the_logprobs_tell_them_apart() -> None:
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [-1.0, None]}
    events = streamed([chunk("ab", logprobs=logprobs), chunk("", "stop")], want())
    assert [(event["token"]["text"], event["token"]["logprob"]) for event in events] == [
        ("a", -1.0),
        ("b", 0.0),
        ("", 0.0),
    ]


def test_logprobs_that_do_not_spell_the_text_do_not_change_it() -> None:
    events = streamed([chunk("é", logprobs={"tokens": ["bytes:\\xc3", "bytes:\\xa9"]}), chunk("", "stop")], want())
    assert events[0]["token"]["text"] == "é"


def test_chunks_with_nothing_to_say_are_silent_and_tgis_empty_finish_reason_is_none() -> None:
    writer = generate_reply.Stream(want())
    assert writer.event(chunk("")) == b""
    assert writer.event(chunk("", "")) == b""
    assert writer.event({"choices": []}) == b""
    assert writer.event({"choices": None}) == b""


def test_no_finish_is_made_up() -> None:
    writer = generate_reply.Stream(want())
    writer.event(chunk("a"))
    assert writer.end() == b""


def test_without_usage_the_events_are_counted() -> None:
    last = streamed([chunk("a"), chunk("b"), chunk("", "stop")], want())[-1]
    assert last["details"]["generated_tokens"] == 3 and last["details"]["input_length"] == 0


@given(st.lists(st.text(max_size=4), max_size=8), st.booleans(), st.sampled_from([None, "END", "\n"]))
def test_a_text_cut_anywhere_is_the_same_text(parts: list[str], finish_apart: bool, stop: str | None) -> None:
    whole = "".join(parts)
    chunks = [chunk(part) for part in parts]
    last = chunk("" if finish_apart or not parts else parts[-1], "stop", stop_reason=stop)
    chunks = [*(chunks if finish_apart else chunks[:-1]), last]
    asked = want(stops=("END", "\n"))
    events = streamed(chunks, asked)
    one_go = answered({"text": whole, "finish_reason": "stop", "stop_reason": stop}, asked)
    assert events[-1]["generated_text"] == one_go["generated_text"]
    assert events[-1]["details"]["finish_reason"] == one_go["details"]["finish_reason"]
    assert "".join(event["token"]["text"] for event in events) == one_go["generated_text"]
    assert [event["index"] for event in events] == list(range(1, len(events) + 1))
    assert all(event["details"] is None for event in events[:-1])
