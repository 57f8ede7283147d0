"""What a call may come to, and what it came to where nobody says: near enough, and marked as no more than that."""

import base64
import random
import timeit
from typing import Any

import pytest

from router import estimates
from router.call import Endpoint
from router.estimates import Meter, completed, estimate_input, most_output, streamed
from router.story import Story
from router.usage import Usage
from tests.router.stories import CHAT, call_of, candidate

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
        ({"max_completion_tokens": 40, "max_tokens": 50}, 40),
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


def chunk(text: str) -> int:
    return len(
        '{"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":""}}]}' + text
    )


def test_a_stream_counts_its_events_and_what_they_have_beyond_the_smallest() -> None:
    one_each, bundled = Meter(), Meter()
    for _ in range(100):
        one_each.event(chunk("word"))
        bundled.event(chunk("four words of text that came at once " + "x" * random.Random(1).randrange(9)))
    bundled.event(chunk(""))
    assert one_each.tokens(True) == 100
    assert 800 < bundled.tokens(True) < 1200
    assert bundled.tokens(False) == 101
    assert Meter().tokens(True) == 0


def left(usage: Usage | None, events: int, after: int, whole: bool) -> Story:
    """A stream of so many events, and so many behind the one that said what was used."""
    story, meter = Story("r", Endpoint(CHAT, "conversational"), 0.0), Meter()
    for _ in range(events):
        meter.event(chunk("word"))
    if usage is not None:
        story.use(usage)
        meter.restart()
    for _ in range(after):
        meter.event(chunk("word"))
    streamed(story, call_of({"messages": SAY}), meter, whole)
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


def test_what_the_meter_and_the_reservation_take() -> None:
    meter, call, at = Meter(), call_of({"messages": SAY, "max_tokens": 50, "stream": True, "model": "m"}), candidate()
    size = 200
    took = [
        min(timeit.repeat(each, number=20_000, repeat=5)) / 20_000 * 1e6
        for each in (lambda: meter.event(size), lambda: estimate_input(call), lambda: most_output(call, at))
    ]
    print("Meter.event {:.3f} µs, estimate_input {:.2f} µs, most_output {:.2f} µs".format(*took))
    assert took[0] < 2
