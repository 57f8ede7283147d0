import pytest

from router import usage
from router.usage import Usage


def test_usage_is_read_and_everything_else_skipped() -> None:
    reply = usage.of_reply(b'{"choices":[{"usage":9}],"usage":{"prompt_tokens":3,"completion_tokens":4,"more":{}}}')
    assert reply is not None and reply.usage is not None
    assert reply.usage.tokens() == (3, 4, 0)


def test_an_error_inside_an_answer_is_seen() -> None:
    reply = usage.of_reply(b'{"error":{"message":"no"}}')
    assert reply is not None and reply.error == {"message": "no"}
    assert usage.of_reply(b"{}").error is None  # type: ignore[union-attr]


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a":', b"{}x"])
def test_what_is_not_json_is_no_answer(body: bytes) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        usage.of_reply(body)


def test_json_of_another_shape_has_no_usage() -> None:
    assert usage.of_reply(b'[{"generated_text":"x"}]') is None


@pytest.mark.parametrize(
    ("payload", "found", "alone"),
    [
        (b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}', (1, 2), True),
        (b'{"choices":[{}],"usage":{"prompt_tokens":1,"completion_tokens":2}}', (1, 2), False),
        (b'{"choices":[{}],"usage":null}', None, False),
        (b'{"type":"response.completed","response":{"usage":{"input_tokens":5,"output_tokens":6}}}', (5, 6), False),
        (b'{"token":{},"details":{"generated_tokens":7,"input_length":8}}', (8, 7), False),
        (b'{"content":"\\"usage\\""}', None, False),
    ],
)
def test_an_event_says_what_was_used(payload: bytes, found: tuple[int, int] | None, alone: bool) -> None:
    used, by_itself = usage.of_event(payload)
    assert by_itself is alone
    assert (None if used is None else used.tokens()[:2]) == found


def test_counts_are_never_negative() -> None:
    assert Usage(prompt_tokens=-5).tokens() == (0, 0, 0)
