import json

import pytest

from providers import sse
from providers.dialects import openai
from providers.spec import Fault, Unreadable


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "insufficient_quota"),
        (403, "permission_error"),
        (404, "invalid_request_error"),
        (413, "invalid_request_error"),
        (415, "invalid_request_error"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (502, "server_error"),
        (503, "server_error"),
    ],
)
def test_an_error_has_openais_four_fields(status: int, kind: str) -> None:
    worded = json.loads(openai.DIALECT.fault(Fault(status, "some_code", "What went wrong.", "model")))
    assert worded == {"error": {"message": "What went wrong.", "type": kind, "param": "model", "code": "some_code"}}


def test_an_error_lists_what_was_tried() -> None:
    attempts = ({"deployment": "groq/llama", "status": 503},)
    worded = json.loads(openai.DIALECT.fault(Fault(502, "all_failed", "All failed.", attempts=attempts)))
    assert worded["error"]["attempts"] == [{"deployment": "groq/llama", "status": 503}]
    assert worded["error"]["param"] is None


def test_a_broken_stream_ends_in_an_error_and_never_in_done() -> None:
    fault = Fault(502, "upstream_broke", "The stream\nbroke.")
    block = openai.DIALECT.fault_event(fault)
    assert sse.Splitter().feed(block) == [block]
    assert sse.data(block) == openai.DIALECT.fault(fault)
    assert b"[DONE]" not in block


def test_a_completion_becomes_a_chat_of_one_message_and_keeps_every_other_field() -> None:
    completion = {
        "prompt": "Say hi", "max_tokens": 5, "temperature": 0, "stop": ["\n"], "seed": 1, "n": 2, "stream": True,
        "stream_options": {"include_usage": True}, "min_p": 0.1,
    }  # fmt: skip
    chat = openai.chat_of(completion)
    assert chat.pop("messages") == [{"role": "user", "content": "Say hi"}]
    completion.pop("prompt")
    assert chat == completion


def test_a_list_of_one_prompt_is_that_prompt() -> None:
    assert openai.chat_of({"prompt": ["The"]})["messages"] == [{"role": "user", "content": "The"}]


@pytest.mark.parametrize(("asked", "chat"), [(0, {"logprobs": True}), (3, {"logprobs": True, "top_logprobs": 3})])
def test_logprobs_are_asked_for_as_a_chat_asks(asked: int, chat: dict[str, object]) -> None:
    turned = openai.chat_of({"prompt": "x", "logprobs": asked})
    turned.pop("messages")
    assert turned == chat


def test_what_asks_for_nothing_does_not_get_in_the_way() -> None:
    turned = openai.chat_of({"prompt": "x", "suffix": None, "echo": False, "best_of": 1, "logprobs": None})
    assert turned == {"messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", ["a", "b"]),
        ("prompt", [1, 2]),
        ("prompt", None),
        ("suffix", "end"),
        ("echo", True),
        ("best_of", 3),
        ("best_of", "3"),
    ],
)
def test_what_a_chat_cannot_do_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(Unreadable) as caught:
        openai.chat_of({"prompt": "x", field: value})
    assert caught.value.param == field
    assert f"`{field}`" in caught.value.message
    assert caught.value.status == 400


def test_a_chat_reply_becomes_a_completion() -> None:
    reply = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hi"},
                "finish_reason": "stop",
                "stop_reason": "\n",
                "logprobs": {
                    "content": [{"token": "hi", "logprob": -0.5, "top_logprobs": [{"token": "ho", "logprob": -1.0}]}]
                },
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
    assert openai.completion_of(reply) == {
        "id": "chatcmpl-1",
        "object": "text_completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "text": "hi",
                "finish_reason": "stop",
                "stop_reason": "\n",
                "logprobs": {"tokens": ["hi"], "token_logprobs": [-0.5], "top_logprobs": [{"ho": -1.0}]},
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, ""), ("", ""), ([{"type": "thinking", "thinking": []}, {"type": "text", "text": "hi"}], "hi")],
)
def test_a_chat_without_plain_content_has_a_text_all_the_same(content: object, text: str) -> None:
    turned = openai.completion_of({"choices": [{"index": 0, "message": {"content": content}, "finish_reason": "stop"}]})
    assert turned["choices"][0]["text"] == text


@pytest.mark.parametrize(
    ("delta", "text"),
    [({"role": "assistant"}, ""), ({"content": " a"}, " a"), ({}, ""), ({"content": None}, "")],
)
def test_a_chat_chunk_becomes_a_completion_chunk(delta: dict[str, object], text: str) -> None:
    chunk = {"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}], "usage": None}
    assert openai.completion_chunk_of(chunk) == {
        "id": "1",
        "object": "text_completion",
        "choices": [{"index": 0, "text": text, "logprobs": None}],
        "usage": None,
    }


def test_a_chunk_that_only_counts_stays_one() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    assert openai.completion_chunk_of({"choices": [], "usage": usage}) == {
        "object": "text_completion",
        "choices": [],
        "usage": usage,
    }
