"""What a call may come to, and what it came to where nobody says: near enough, and marked as no more than that."""

import base64
import timeit
from typing import Any

import msgspec
import pytest

from providers.dialects import DIALECTS
from router import estimates
from router.call import Endpoint
from router.estimates import completed, estimate_input, most_output, streamed, tokens_of
from router.story import Story
from router.usage import Usage
from tests.router.stories import call_of, candidate

SAY = [{"role": "user", "content": "x" * 400}]


def test_four_bytes_of_a_prompt_are_a_token() -> None:
    assert 100 <= estimate_input(call_of({"messages": SAY})) <= 110
    one = estimate_input(call_of({"prompt": "x" * 400, "temperature": 0.5, "model": "m" * 400}, "text-generation"))
    assert 100 <= one <= 102
    assert estimate_input(call_of({"inputs": "한국어" * 10}, "text-generation", "huggingface")) == 23
    more = call_of({"messages": SAY, "tools": [{"type": "function", "function": {"name": "f" * 400}}]})
    assert estimate_input(more) > 200


def test_a_picture_in_a_prompt_counts_as_one_and_not_by_its_size() -> None:
    url = "data:image/png;base64," + base64.b64encode(bytes(300_000)).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "what is it?"}]
    counted = estimate_input(call_of({"messages": [{"role": "user", "content": content}]}))
    assert estimates.PICTURE < counted < estimates.PICTURE + 60


def test_what_is_no_prompt_has_no_tokens() -> None:
    assert estimate_input(call_of({"inputs": "x" * 4000}, "text-to-image", "huggingface")) == 0
    assert most_output(call_of({"inputs": "x"}, "text-to-image", "huggingface"), candidate()) == 0
    assert most_output(call_of({"input": ["x"]}, "feature-extraction"), candidate()) == 0


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({"max_tokens": 50}, 50),
        ({"max_completion_tokens": 40, "max_tokens": 50}, 50),
        ({"max_tokens": 50, "n": 3}, 150),
        ({"max_tokens": 50, "n": 2, "best_of": 5}, 250),
        ({"max_tokens": 50, "prompt": ["a", "b", "c"]}, 150),
        ({"max_tokens": 50, "prompt": [1, 2, 3]}, 50),
        ({"max_tokens": 50, "prompt": [[1], [2, 3]]}, 100),
        ({"max_tokens": 10**9}, 8192),  # no more than there is room for
        ({"max_tokens": -1}, 8192),
        ({"max_tokens": "50"}, 8192),
        ({"n": 10**12}, 10**9),
        ({}, 8192),
    ],
)
def test_the_most_that_an_answer_may_have(body: dict[str, Any], most: int) -> None:
    assert most_output(call_of(body), candidate(context=8192)) == most


def test_each_shape_has_its_own_word_for_it() -> None:
    assert most_output(call_of({"max_output_tokens": 60}, "responses"), candidate()) == 60
    own = candidate("tgi", "text-generation", "huggingface")
    hub = {"inputs": "x", "parameters": {"max_new_tokens": 30, "best_of": 2}}
    assert most_output(call_of(hub, "text-generation", "huggingface"), own) == 60
    several = {"inputs": "x", "parameters": {"max_new_tokens": 30, "num_return_sequences": 4}}
    assert most_output(call_of(several, "text-generation", "huggingface"), own) == 120
    ollama = {"prompt": "x", "options": {"num_predict": 20}}
    assert most_output(call_of(ollama, "text-generation", "ollama"), candidate()) == 20


def test_where_nothing_says_it_there_is_a_default_or_what_is_asked_for_in_its_place() -> None:
    assert most_output(call_of({}), candidate()) == 4096
    hub = call_of({"inputs": "x", "parameters": "broken"}, "text-generation", "huggingface")
    assert most_output(hub, candidate("tgi", "text-generation", "huggingface")) == 4096
    assert most_output(hub, candidate("groq", "conversational", "openai")) == 1024


def chunk(text: str, name: str = "content") -> bytes:
    return msgspec.json.encode({"id": "c", "choices": [{"index": 0, "delta": {name: text}, "finish_reason": None}]})


END = msgspec.json.encode({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})


def test_a_stream_is_counted_by_its_events_with_text_and_by_that_text() -> None:
    one_each = [chunk(""), *[chunk("word")] * 100, END]
    assert tokens_of(one_each, 102) == 100
    assert tokens_of([chunk("four words of text that came")] * 100, 100) == 700
    assert tokens_of([chunk("hm", "reasoning_content")] * 50 + [chunk("ah")] * 10, 60) == 60
    both = msgspec.json.encode({"choices": [{"delta": {"reasoning_content": "x" * 40, "reasoning": "x" * 40}}]})
    assert tokens_of([both], 1) == 10
    assert tokens_of([b"{", b"3", b"[]"], 3) == 0


def test_a_stream_of_another_shape_is_counted_by_what_it_says_once() -> None:
    token = msgspec.json.encode({"index": 1, "token": {"id": 1, "text": " word"}, "generated_text": None})
    last = msgspec.json.encode({"index": 1, "token": {"id": 1, "text": " word"}, "generated_text": "x" * 4000})
    assert tokens_of([token, last], 2) == 2
    delta = msgspec.json.encode({"type": "response.output_text.delta", "delta": "word"})
    done = msgspec.json.encode({"type": "response.output_text.done", "text": "x" * 4000})
    assert tokens_of([delta, delta, done], 3) == 2


def test_of_a_long_stream_the_last_events_speak_for_all() -> None:
    assert tokens_of([chunk("word")] * 1024, 5000) == 5000
    assert tokens_of([chunk("x" * 40)] * 4, 5000) == 50_000
    assert tokens_of([], 7) == 7


def left(usage: Usage | None, events: int, after: int, whole: bool) -> Story:
    """A stream of so many events, and so many behind the one that said what was used."""
    story = Story("r", Endpoint(DIALECTS["openai"], "conversational"), 0.0)
    story.events = events
    if usage is not None:
        story.use(usage)
    story.events += after
    streamed(story, call_of({"messages": SAY}), [chunk("word")] * (events + after), whole)
    return story


@pytest.mark.parametrize(
    ("usage", "events", "after", "whole", "output", "estimated"),
    [
        (Usage(7, 50), 50, 0, True, 50, False),
        (Usage(7, 50), 50, 2, True, 50, False),  # the end came behind the usage
        (Usage(7, 50), 1, 60, True, 50, False),  # it was said first of all
        (Usage(7, 0), 1, 60, True, 60, True),  # it said nothing
        (Usage(7, 0), 3, 0, True, 0, False),  # and a 0 that is one stays
        (None, 50, 0, True, 50, True),
        (None, 50, 0, False, 50, True),  # left
        (Usage(7, 20), 20, 5, False, 25, True),  # counted as it went, then left
        (Usage(7, 20), 20, 0, False, 20, False),
        (None, 0, 0, False, 0, True),
    ],
)
def test_what_a_stream_came_to(
    usage: Usage | None, events: int, after: int, whole: bool, output: int, estimated: bool
) -> None:
    record = left(usage, events, after, whole).record
    assert (record.output_tokens, record.estimated) == (output, estimated)
    assert record.input_tokens == (7 if usage else estimate_input(call_of({"messages": SAY})))


def test_a_whole_answer_that_says_nothing_is_counted_by_its_texts() -> None:
    call, at = call_of({"messages": SAY}), candidate()
    body = b'{"id":"%b","choices":[{"message":{"role":"assistant","content":"%b"}}]}' % (b"i" * 900, b"x" * 200)
    used = completed(call, at, None, {}, body)
    assert used is not None and used.estimated and used.output == 50 and used.input == estimate_input(call)
    assert completed(call, at, None, {b"x-prompt-tokens": b"3", b"x-generated-tokens": b"4"}, body) == Usage(3, 4)
    told = Usage(3, 4, 1, None, 2)
    assert completed(call, at, told, {}, body) is told
    assert completed(call, at, Usage(3), {}, b"{") == Usage(3, 0, estimated=True)


def test_what_estimates_take() -> None:
    call, at = call_of({"messages": SAY, "max_tokens": 50, "stream": True, "model": "m"}), candidate()
    payloads = [chunk("word")] * 1000
    took = [
        min(timeit.repeat(each, number=200, repeat=5)) / 200 * 1e6
        for each in (lambda: estimate_input(call), lambda: most_output(call, at), lambda: tokens_of(payloads, 1000))
    ]
    print("estimate_input {:.2f} µs, most_output {:.2f} µs, a stream that was left {:.0f} µs".format(*took))
    assert took[0] < 20


DELTAS: list[dict[str, Any]] = [
    {},
    {"role": "assistant", "content": ""},
    {"content": "hello"},
    {"content": "grüß dich, 세계"},
    {"content": None, "refusal": None},
    {"content": "a", "reasoning_content": "because"},
    {"content": "a", "reasoning_content": "because", "reasoning": "because"},
    {"reasoning": "why"},
    {"refusal": "no"},
    {"content": None, "tool_calls": [{"index": 0, "function": {"name": "f", "arguments": '{"a": 1}'}}]},
    {"function_call": {"arguments": "{}"}},
    {"content": [{"type": "text", "text": "in parts"}]},
    {"content": "a", "text": "b"},
    {"thinking": "hm"},
    {"content": "a", "thinking_blocks": [{"thinking": "hm"}]},
    {"content": 5},
]


@pytest.mark.parametrize("delta", DELTAS, ids=str)
@pytest.mark.parametrize("kind", ["chat.completion.chunk", "other", None])
def test_a_usual_chunk_is_counted_as_every_event_is(delta: dict[str, Any], kind: str | None) -> None:
    choice = {"index": 0, "delta": delta, "logprobs": {"content": [{"token": "t", "bytes": None}]}}
    event = {"id": "c", "choices": [choice, choice], "usage": None} | ({"object": kind} if kind else {})
    payload = msgspec.json.encode(event)
    usual = estimates._of_chunk(payload)
    assert usual in (-1, estimates._said_by(payload))
    if kind == "chat.completion.chunk" and set(delta) <= {"role", "content", "reasoning_content"}:
        assert usual >= 0 or not isinstance(delta.get("content", ""), str | None)
