"""What is passed on of a stream that carries on another: nothing twice, nothing left out, never two answers as one."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import openai, spec, tgi
from router import splice
from router.routing import Candidate, Deployment, Row
from router.splice import SHAPES, Diverged, Seam, Told

CHAT = SHAPES["conversational", "openai"]
TEXT = SHAPES["text-generation", "openai"]
TOKENS = SHAPES["text-generation", "tgi"]
PIECES = st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=12)


def chat(text: str | None = None, finish: str | None = None, name: str = "first", **more: Any) -> bytes:
    delta = {"role": "assistant", "content": ""} if text is None else {"content": text}
    choice = {"index": 0, "delta": {**delta, **more}, "finish_reason": finish}
    return json.dumps({"id": name, "created": 1, "model": name, "choices": [choice]}).encode()


def completion(text: str) -> bytes:
    return json.dumps({"id": "c", "choices": [{"index": 0, "text": text, "finish_reason": None}]}).encode()


def token(text: str, index: int, whole: str | None = None) -> bytes:
    value = {"id": index, "text": text, "logprob": -0.1, "special": False}
    details = {"finish_reason": "length", "generated_tokens": index} if whole is not None else None
    return json.dumps({"index": index, "token": value, "generated_text": whole, "details": details}).encode()


def had(*payloads: bytes, shape: splice.Shape = CHAT) -> Told:
    found = splice.told(payloads, shape)
    assert found is not None
    return found


def follow(seam: Seam, *payloads: bytes) -> list[dict[str, Any]]:
    return [json.loads(found) for each in payloads if (found := seam.follow(each)) is not None]


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(each["choices"][0]["delta"].get("content") or "" for each in chunks if each["choices"])


@given(pieces=PIECES, others=st.data())
def test_an_answer_said_anew_in_other_pieces_is_passed_on_from_where_the_first_broke(
    pieces: list[str], others: st.DataObject
) -> None:
    text = "".join(pieces)
    cut = others.draw(st.integers(0, len(pieces)))
    edges = sorted({0, len(text), *others.draw(st.lists(st.integers(0, len(text)), max_size=6))})
    anew = [text[start:end] for start, end in itertools.pairwise(edges)]
    so_far = had(chat(), *map(chat, pieces[:cut]))
    new = [chat(name="second"), *(chat(each, name="second") for each in anew), chat("", "stop", name="second")]
    passed = follow(Seam(CHAT, so_far, continues=False), *new)
    assert so_far.text + text_of(passed) == text
    assert passed[-1]["choices"][0]["finish_reason"] == "stop"
    assert {(each["id"], each["created"], each["model"]) for each in passed} == {("first", 1, "second")}
    assert not any("role" in each["choices"][0]["delta"] for each in passed)


@given(pieces=PIECES, other=st.text(min_size=1, max_size=20))
def test_what_is_not_a_repeat_is_never_passed_on(pieces: list[str], other: str) -> None:
    so_far = had(chat(), *map(chat, pieces))
    seam = Seam(CHAT, so_far, continues=False)
    if so_far.text.startswith(other):
        assert follow(seam, chat(other)) == []
        with pytest.raises(Diverged):  # it ends before it has said what the caller has
            follow(seam, chat("", "stop"), *([chat("!")] if so_far.text == other else []), b"no json")
    elif other.startswith(so_far.text):
        assert so_far.text + text_of(follow(seam, chat(other))) == other
    else:
        with pytest.raises(Diverged):
            follow(seam, chat(other))


def test_a_continuation_is_passed_on_whole_and_its_figures_count_both_parts() -> None:
    so_far = had(chat(), chat("Good "), chat("day"))
    usage = json.dumps({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}})
    seam = Seam(CHAT, so_far, continues=True)
    passed = follow(seam, chat(), chat(", you"), chat("", "stop"), usage.encode())
    assert text_of(passed) == ", you"
    assert passed[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


@pytest.mark.parametrize("continues", [True, False])
def test_tokens_of_tgi_are_carried_on_with_their_count_and_the_whole_text(continues: bool) -> None:
    so_far = had(token("Good ", 1), token("day", 2), shape=TOKENS)
    anew = [] if continues else [token("Good ", 1), token("day", 2)]
    first = 0 if continues else 2
    last = "!" if continues else "Good day!"
    passed = follow(Seam(TOKENS, so_far, continues), *anew, token("!", first + 1, last))
    assert [each["token"]["text"] for each in passed] == ["!"]
    assert passed[-1]["generated_text"] == "Good day!"
    assert (passed[-1]["index"], passed[-1]["details"]["generated_tokens"]) == (3, 3)


def test_thoughts_are_repeated_exactly_until_there_is_text_and_then_dropped() -> None:
    thinking = had(chat(), chat("", reasoning_content="hm, "))
    assert follow(Seam(CHAT, thinking, continues=False), chat("", reasoning_content="hm, ")) == []
    with pytest.raises(Diverged):
        follow(Seam(CHAT, thinking, continues=False), chat("", reasoning_content="well"))
    speaking = had(chat(), chat("", reasoning_content="hm, "), chat("Good "))
    passed = follow(Seam(CHAT, speaking, continues=False), chat("", reasoning_content="well"), chat("Good day"))
    assert text_of(passed) == "day" and "reasoning_content" not in str(passed[-1])


@pytest.mark.parametrize(
    "payload",
    [
        chat("x", "stop"),
        chat("", tool_calls=[{"index": 0}]),
        chat("", audio={"id": "a"}),
        json.dumps({"choices": [{"index": 1, "delta": {"content": "x"}}]}).encode(),
        json.dumps({"choices": [{"index": 0, "delta": {}}, {"index": 1, "delta": {}}]}).encode(),
        json.dumps({"choices": [{"index": 0, "delta": {"content": "x"}, "logprobs": {"content": []}}]}).encode(),
        b"[]",
        b"{",
    ],
)
def test_what_cannot_be_carried_on_is_known_as_such(payload: bytes) -> None:
    assert splice.told([chat(), chat("a"), payload], CHAT) is None


def candidate(task: str, dialect: str, provider: spec.Provider = openai.PROVIDER, *can: str) -> Candidate:
    deployment = Deployment("up", "m", Row("m"), can=frozenset(can))
    return Candidate(deployment, provider, provider.adapters[task, dialect], dialect, task)


def test_a_prompt_is_always_continued_and_a_chat_only_where_it_is_said_so() -> None:
    so_far = had(chat(), chat("a"))
    assert splice.can_continue(candidate("text-generation", "openai"), so_far)
    assert splice.can_continue(candidate("conversational", "openai", tgi.PROVIDER), so_far)
    assert splice.can_continue(candidate("conversational", "openai", openai.PROVIDER, "prefill"), so_far)
    assert not splice.can_continue(candidate("conversational", "openai"), so_far)
    assert not splice.can_continue(candidate("text-generation", "openai"), had(chat()))
    thinking = had(chat(), chat("", reasoning="hm"))
    assert not splice.can_continue(candidate("conversational", "openai", tgi.PROVIDER), thinking)


def asked(**fields: Any) -> spec.Fields:
    return {name: spec.raw(value) for name, value in fields.items()}


def read(fields: spec.Fields) -> dict[str, Any]:
    return {name: spec.value_of(fields, name) for name in fields}


def test_the_rest_is_asked_for_with_what_is_left_of_the_limit() -> None:
    so_far = had(completion("Good "), completion("day"), shape=TEXT)
    told = splice.continued(asked(prompt="Say: ", max_tokens=5), candidate("text-generation", "openai"), so_far)
    assert read(told) == {"prompt": "Say: Good day", "max_tokens": 3}
    ours = splice.continued(
        asked(inputs="Say: ", parameters={"max_new_tokens": 2, "seed": 1}),
        candidate("text-generation", "tgi", tgi.PROVIDER),
        so_far,
    )
    assert read(ours) == {"inputs": "Say: Good day", "parameters": {"max_new_tokens": 1, "seed": 1}}
    said = splice.continued(
        asked(messages=[{"role": "user", "content": "Hi"}], max_completion_tokens=9),
        candidate("conversational", "openai", openai.PROVIDER, "prefill"),
        so_far,
    )
    rest = read(said)
    assert rest["messages"][-1] == {"role": "assistant", "content": "Good day"}
    assert rest["max_completion_tokens"] == 7 and rest["continue_final_message"] is True
