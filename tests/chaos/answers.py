"""What a well-behaved upstream says, byte for byte, and the pieces of which the misbehaving ones are made."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

CHAT_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"
WORDS = [f"token{number} " for number in range(60)]
TEXT = "".join(WORDS)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def delta(model: str, *, finish: str | None = None, **says: Any) -> bytes:
    choice = {"index": 0, "delta": says, "finish_reason": finish}
    head = {"id": f"chatcmpl-{model}", "object": "chat.completion.chunk", "created": 1700000000, "model": model}
    return event({**head, "choices": [choice]})


def usage(model: str, prompt: int, completion: int) -> bytes:
    spent = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return event({"id": f"chatcmpl-{model}", "model": model, "choices": [], "usage": spent})


def events(model: str, words: Sequence[str] = WORDS) -> Iterator[bytes]:
    """A whole chat, event by event, `[DONE]` and all; the first says only who speaks."""
    yield delta(model, role="assistant", content="")
    for word in words:
        yield delta(model, content=word)
    yield delta(model, finish="stop")
    yield usage(model, 7, len(words))
    yield DONE


def stream(model: str, words: Sequence[str] = WORDS, pace: float = 0.0) -> Iterator[bytes | float]:
    """The steps of a chat that goes well."""
    yield CHAT_HEAD
    for each in events(model, words):
        yield chunk(each)
        if pace:
            yield pace
    yield LAST


def whole(model: str, text: str = TEXT) -> bytes:
    """The same, not streamed."""
    message = {"role": "assistant", "content": text}
    spent = {"prompt_tokens": 7, "completion_tokens": 60, "total_tokens": 67}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": model}
    return answer(200, {**body, "choices": [choice], "usage": spent})


def answer(status: int, body: Any, *headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", "content-type: application/json", f"content-length: {len(data)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + data


def error(status: int, message: str = "no", code: str | None = None, *headers: str) -> bytes:
    return answer(status, {"error": {"message": message, "type": "invalid_request_error", "code": code}}, *headers)
