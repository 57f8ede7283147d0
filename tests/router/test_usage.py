"""What upstreams say was used, in all their words; what is absurd is not said, and takes nothing with it."""

import json
from typing import Any

import msgspec
import pytest

from router import usage
from router.call import Endpoint
from router.story import Story
from router.usage import Usage
from tests.router.stories import CHAT

OPENAI = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 15},
}
SAID = [
    (OPENAI, (100, 20, 60, None, 15)),
    ({"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 5}, (9, 4, 5, None, None)),  # DeepSeek
    ({"prompt_tokens": 9, "completion_tokens": 4, "cached_tokens": 5}, (9, 4, 5, None, None)),  # Moonshot, Together
    ({"prompt_tokens": 9, "completion_tokens": 4, "num_cached_tokens": 5}, (9, 4, 5, None, None)),
    ({"prompt_tokens": 9, "completion_tokens": 4, "reasoning_tokens": 3, "total_tokens": 13}, (9, 4, None, None, 3)),
    ({"prompt_tokens": 9, "completion_tokens": 4, "reasoning_tokens": 3, "total_tokens": 16}, (9, 7, None, None, 3)),
    (
        {
            "input_tokens": 9,
            "output_tokens": 4,
            "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 1},
            "output_tokens_details": {"reasoning_tokens": 3},
        },
        (9, 4, 5, 1, 3),
    ),  # responses
    (
        {"input_tokens": 9, "output_tokens": 4, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 2},
        (16, 4, 5, 2, None),
    ),  # Anthropic: what its cache did is not in the input
    ({"billed_units": {"input_tokens": 9.0, "output_tokens": 4.0}}, (9, 4, None, None, None)),  # Cohere
    ({"billed_units": {"input_tokens": 9}, "tokens": {"input_tokens": 70}}, (9, None, None, None, None)),
    ({"total_tokens": 8}, (8, None, None, None, None)),
    ({"prompt_tokens": 3, "total_tokens": 8}, (3, 5, None, None, None)),
    ({"completion_tokens": 3, "total_tokens": 8}, (5, 3, None, None, None)),
    ({"prompt_tokens": 2, "total_tokens": 2}, (2, 0, None, None, None)),
    ({"prompt_tokens": 0, "completion_tokens": 0}, (0, 0, None, None, None)),
]  # fmt: skip


def figures(found: Usage | None) -> tuple[int | None, ...] | None:
    return None if found is None else (found.input, found.output, found.cached, found.written, found.reasoning)


@pytest.mark.parametrize(("said", "found"), SAID)
def test_every_house_has_its_own_words_for_what_was_used(said: dict[str, Any], found: tuple[int | None, ...]) -> None:
    reply = usage.of_reply(json.dumps({"choices": [{"usage": 9}], "usage": said}).encode())
    assert reply is not None and figures(reply.usage) == found
    assert figures(usage.of_value(said)) == found
    event = json.dumps({"choices": [], "usage": said}).encode()
    used, alone = usage.of_event(event)
    assert figures(used) == found and alone and usage.event(event).usage is not None


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"details": {"generated_tokens": 7, "prefill": [{"id": 1}, {"id": 2}]}}, (2, 7)),
        ({"details": {"generated_tokens": 7, "best_of_sequences": [{"generated_tokens": 5}]}}, (None, 12)),
        ([{"generated_text": "x", "details": {"generated_tokens": 7, "prefill": [{"id": 1}]}}], (1, 7)),
        ({"prompt_eval_count": 5, "eval_count": 6, "total_duration": 1}, (5, 6)),
        ({"results": [], "meta": {"billed_units": {"input_tokens": 4, "search_units": 1}}}, (4, None)),
        ({"results": [], "meta": {"tokens": {"input_tokens": 4, "output_tokens": 0}}}, (4, 0)),
        ({"choices": [], "x_groq": {"id": "r", "usage": {"prompt_tokens": 1, "completion_tokens": 2}}}, (1, 2)),
    ],
)  # fmt: skip
def test_it_stands_in_many_places_of_an_answer(body: Any, found: tuple[int | None, int | None]) -> None:
    reply = usage.of_reply(json.dumps(body).encode())
    assert reply is not None and reply.usage is not None
    assert (reply.usage.input, reply.usage.output) == found


@pytest.mark.parametrize(
    ("payload", "found", "alone"),
    [
        ({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}, (1, 2), True),
        ({"choices": [{}], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}, (1, 2), False),
        ({"choices": [{}], "usage": None}, None, False),
        ({"choices": [{"index": 0, "usage": {"prompt_tokens": 1, "completion_tokens": 2}}]}, (1, 2), False),
        ({"choices": [{}], "x_groq": {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}}, (1, 2), False),
        ({"type": "response.completed", "response": {"usage": {"input_tokens": 5, "output_tokens": 6}}}, (5, 6), False),
        ({"type": "response.incomplete", "response": {"usage": {"output_tokens": 6}}}, (None, 6), False),
        ({"type": "response.failed", "response": {"usage": {"input_tokens": 5, "output_tokens": 0}}}, (5, 0), False),
        ({"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}}, (5, 1), False),
        ({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 6}}, (None, 6), False),
        ({"delta": {"usage": {"billed_units": {"input_tokens": 5, "output_tokens": 6}}}}, (5, 6), False),
        ({"token": {}, "details": {"generated_tokens": 7, "input_length": 8}}, (8, 7), False),
        ({"content": '"usage" "prompt_tokens": 5'}, None, False),
    ],
)  # fmt: skip
def test_an_event_says_what_was_used_and_is_seen_to(
    payload: dict[str, Any], found: tuple[int | None, int | None] | None, alone: bool
) -> None:
    for text in (json.dumps(payload), json.dumps(payload, separators=(",", ":"))):
        used, by_itself = usage.of_event(text.encode())
        assert by_itself is alone
        assert (None if used is None else (used.input, used.output)) == found
        seen = usage.event(text.encode())
        assert (seen.usage or seen.details or seen.response) is not None or found is None


@pytest.mark.parametrize("absurd", [-5, 10**9 + 1, 1.5, "7", True, [], {}, None])
def test_what_is_absurd_counts_as_not_said_and_takes_nothing_with_it(absurd: Any) -> None:
    said = {"prompt_tokens": absurd, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 1}}
    reply = usage.of_reply(json.dumps({"usage": said}).encode())
    assert reply is not None and figures(reply.usage) == (None, 4, 1, None, None)
    said = {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": absurd, "total_tokens": absurd}
    used, _ = usage.of_event(json.dumps({"choices": [{}], "usage": said}).encode())
    assert figures(used) == (3, 4, None, None, None)


@pytest.mark.parametrize("odd", ["x", 5, ["y"]])
@pytest.mark.parametrize("name", ["details", "meta", "x_groq", "eval_count", "choices", "response", "message", "delta"])
def test_a_neighbour_of_the_wrong_type_loses_no_usage(name: str, odd: Any) -> None:
    body = json.dumps({name: odd, "usage": {"prompt_tokens": 3, "completion_tokens": 4}}).encode()
    reply = usage.of_reply(body)
    assert reply is not None and figures(reply.usage) == (3, 4, None, None, None)
    used, _ = usage.of_event(body)
    assert figures(used) == (3, 4, None, None, None)


def test_an_error_inside_an_answer_is_seen_whatever_stands_beside_it() -> None:
    reply = usage.of_reply(b'{"error":{"message":"no"}}')
    assert reply is not None and reply.error == {"message": "no"}
    assert usage.of_reply(b"{}").error is None  # type: ignore[union-attr]
    assert usage.says_error(b'{"error":"no","usage":"none","details":"of it"}')


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a":', b"{}x", b"[" * 100_000])
def test_what_is_not_json_is_no_answer(body: bytes) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        usage.of_reply(body)


@pytest.mark.parametrize("body", [b'[{"generated_text":"x"}]', b"[[0.1]]", b"[]", b'"x"', b"3", b"null"])
def test_json_of_another_shape_has_no_usage(body: bytes) -> None:
    reply = usage.of_reply(body)
    assert reply is None or reply.usage is None


def test_the_head_says_it_where_the_body_does_not() -> None:
    tgi = {b"x-prompt-tokens": b"3", b"x-generated-tokens": b"4", b"x-compute-characters": b"99"}
    assert usage.of_head(tgi) == Usage(3, 4)
    assert usage.of_head({b"x-compute-tokens": b"5"}) == Usage(5)  # TEI
    assert usage.of_head({b"x-compute-characters": b"9"}) == Usage(3, estimated=True)
    for odd in (b"-1", b"x", b"", b"1" * 40, b"1.5"):
        assert usage.of_head({b"x-prompt-tokens": odd, b"x-compute-characters": odd}) is None


def test_what_one_leaves_out_the_other_says() -> None:
    assert usage.both(Usage(1), Usage(5, 6, estimated=True)) == Usage(1, 6, estimated=True)
    assert usage.both(Usage(1, 2, 0, 0, 0, 0, 0.0, 0), Usage(5, 6, estimated=True)) == Usage(1, 2, 0, 0, 0, 0, 0.0, 0)
    assert usage.both(None, None) is None


def story() -> Story:
    return Story("r", Endpoint(CHAT, "conversational"), 0.0)


def test_the_last_word_stands_and_nothing_is_summed() -> None:
    told = story()
    for written in (1, 5, 9):
        told.use(Usage(7, written, 3))
    assert (told.record.input_tokens, told.record.output_tokens, told.record.cached_tokens) == (7, 9, 3)


def test_a_later_word_takes_back_only_what_it_speaks_of() -> None:
    told = story()
    told.use(Usage(16, 1, 5, 2))
    told.use(Usage(None, 9))
    record = told.record
    assert (record.input_tokens, record.output_tokens, record.cached_tokens, told.written) == (16, 9, 5, 2)
    assert not record.estimated and told.read and told.wrote


def test_any_bytes_either_give_a_usage_or_none() -> None:
    value: Any = {"usage": {"prompt_tokens": 1}}
    for _ in range(40):
        value = {"usage": value, "choices": [value], "x_groq": value, "meta": value, "details": value}
        if len(msgspec.json.encode(value)) > 100_000:
            break
        found, _alone = usage.of_event(msgspec.json.encode(value))
        assert found is None or isinstance(found, Usage)
