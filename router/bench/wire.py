"""What the mock upstream and the load driver say to each other, as bytes made once.

A question carries in its text what it wants back, `[[stream 100]]` or `[[idle]]`, and an event carries in its text the
moment when it left, `@@` and nineteen digits of nanoseconds. Text is the one part of a request that every proxy leaves
alone, also those that parse and write anew. Nothing here opens a socket.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

MODEL: Final = "bench-model"
KEY: Final = "sk-bench-not-a-secret-0123456789"
CHAT: Final = "/v1/chat/completions"
MARK: Final = b"@@"
STAMP: Final = len(MARK) + 19  # bytes of a mark and its digits
END: Final = b"data: [DONE]\n\n"
FOREVER: Final = 10**9

QUESTION: Final = (
    "A train leaves the harbour at seven in the morning and another one leaves the mountains at eight. Please say in "
    "one short sentence where they meet, and which of the two has the better view at that moment."
)
REPLY: Final = "They meet by the lake a little after nine, and the train from the mountains has the better view of it."


def body(text: str = QUESTION, **fields: Any) -> bytes:
    """A chat body that asks `text`."""
    asked = {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}
    return json.dumps(asked, separators=(",", ":")).encode()


def request(port: int, payload: bytes, headers: Mapping[str, str]) -> bytes:
    """A whole request, ready for a socket."""
    head = {"host": f"127.0.0.1:{port}", "authorization": f"Bearer {KEY}", "content-type": "application/json"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**head, **headers}.items())
    return f"POST {CHAT} HTTP/1.1\r\n{lines}content-length: {len(payload)}\r\n\r\n".encode() + payload


def stream_body(events: int) -> bytes:
    """Asks for so many events, one at each beat of the mock."""
    return body(f"{QUESTION} [[stream {events}]]", stream=True)


def idle_body() -> bytes:
    """Asks for one event, and then nothing."""
    return body(f"{QUESTION} [[idle]]", stream=True)


def _json(payload: object, status: str = "200 OK") -> bytes:
    content = json.dumps(payload, separators=(",", ":")).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(delta: dict[str, str], **fields: Any) -> bytes:
    choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": fields.pop("finish_reason", None)}]
    about = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1700000000, "model": MODEL}
    return b"data: " + json.dumps({**about, "choices": choices, **fields}, separators=(",", ":")).encode() + b"\n\n"


USAGE: Final = {"prompt_tokens": 42, "completion_tokens": 24, "total_tokens": 66}
COMPLETION: Final[dict[str, Any]] = {
    "id": "chatcmpl-bench",
    "object": "chat.completion",
    "created": 1700000000,
    "model": MODEL,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": REPLY}, "finish_reason": "stop"}],
    "usage": USAGE,
}
ANSWER: Final = _json(COMPLETION)
LOST: Final = _json({"error": {"message": "no such path", "type": "invalid_request_error"}}, "404 Not Found")

# What gateways ask of a worker before they send it anything, SGLang's own paths among them.
FACTS: Final[Mapping[str, object]] = {
    "/health": {"status": "ok"},
    "/health_generate": {"status": "ok"},
    "/v1/models": {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "bench"}]},
    "/get_model_info": {"model_path": MODEL, "served_model_name": MODEL, "is_generation": True},
    "/model_info": {"model_path": MODEL, "served_model_name": MODEL, "is_generation": True},
    "/get_server_info": {"model_path": MODEL, "served_model_name": MODEL, "dp_size": 1, "tp_size": 1},
    "/server_info": {"model_path": MODEL, "served_model_name": MODEL, "dp_size": 1, "tp_size": 1},
    "/version": {"version": "0"},
}
FACT_ANSWERS: Final = {path.encode(): _json(fact) for path, fact in FACTS.items()}

STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_STAMPED: Final = _chunk(_event({"role": "assistant", "content": "@@" + "0" * 19})).split(b"0" * 19)
EVENT_HEAD: Final = _STAMPED[0]
EVENT_TAIL: Final = _STAMPED[1]
FINISH: Final = _chunk(_event({}, finish_reason="stop"))
FINISH_USAGE: Final = _chunk(_event({}, usage=USAGE))
STREAM_END: Final = _chunk(END) + b"0\r\n\r\n"
