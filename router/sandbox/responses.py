"""/responses: OpenAI's Responses API over the same echo, framed as the Hub's own adapter frames it.

Events are `data:` only, without `event:` lines and without `[DONE]`; each has its `type` and a rising
`sequence_number`.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any

from router.sandbox import chat, words
from router.sandbox import fields as read
from router.sandbox.exchange import EVENTS, Ask, Events, Reply, json_reply, sse

Item = dict[str, Any]


def answer(ask: Ask) -> Reply:
    fields = ask.fields
    said, prompt_tokens = _input(read.need(fields, "input"))
    said = chat.formatted(said, read.mapping(read.mapping(fields, "text"), "format"), "text.format")
    written = words.write(said, read.whole(fields, "max_output_tokens", 1, 10_000_000))
    call = chat.tool_call(ask)
    for name, least, most in (("temperature", 0, 2), ("top_p", 0, 1)):
        read.number(fields, name, least, most)
    if call:
        item: Item = {
            "type": "function_call",
            "id": f"fc_{ask.seal}",
            "call_id": call.id,
            "name": call.name,
            "arguments": "{}",
            "status": "completed",
        }
    else:
        item = {
            "type": "message",
            "id": f"msg_{ask.seal}",
            "role": "assistant",
            "status": "incomplete" if written.cut else "completed",
            "content": [{"type": "output_text", "text": written.text, "annotations": [], "logprobs": []}],
        }
    output_tokens = 1 if call else len(written.tokens)
    ended = _response(ask) | {
        "status": "incomplete" if written.cut and not call else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if written.cut and not call else None,
        "output": [item],
        "usage": {
            "input_tokens": prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt_tokens + output_tokens,
        },
    }
    if not read.flag(fields, "stream"):
        return json_reply(ended)

    def events() -> Iterator[bytes]:
        numbers = count()
        body = _call(item) if call else _message(item, written)
        for event in (*_opening(ask), *body, {"type": f"response.{ended['status']}", "response": ended}):
            yield sse(event | {"sequence_number": next(numbers)})

    return Reply(Events(7 if call else len(written.tokens) + 8, events), content_type=EVENTS)


def _input(value: Any) -> tuple[str, int]:
    """What the user said last, and the words of it all."""
    if isinstance(value, str):
        return value, words.count(value)
    if not isinstance(value, list) or not value:
        raise read.wrong_type("input", "a string or an array of items", value)
    texts, spoken = [], None
    for at, item in enumerate(value):
        if not isinstance(item, dict):
            raise read.wrong_type(f"input[{at}]", "an object", item)
        if item.get("type", "message") == "message":
            texts.append(chat.text_of(item.get("content"), f"input[{at}].content"))
            if item.get("role") == "user":
                spoken = texts[-1]
        elif item["type"] == "function_call_output":
            texts.append(str(item.get("output", "")))
    last = texts[-1] if texts else ""
    return last if spoken is None else spoken, sum(map(words.count, texts))


def _response(ask: Ask) -> Item:
    fields = ask.fields
    return {
        "id": f"resp_{ask.seal}",
        "object": "response",
        "created_at": ask.created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": fields.get("instructions"),
        "max_output_tokens": fields.get("max_output_tokens"),
        "metadata": fields.get("metadata") or {},
        "model": ask.model,
        "output": [],
        "parallel_tool_calls": False,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "temperature": fields.get("temperature", 1),
        "text": {"format": {"type": "text"}},
        "tool_choice": fields.get("tool_choice", "auto"),
        "tools": fields.get("tools") or [],
        "top_p": fields.get("top_p", 1),
        "usage": None,
    }


def _opening(ask: Ask) -> Iterator[Item]:
    for moment in ("created", "in_progress"):
        yield {"type": f"response.{moment}", "response": _response(ask)}


def _message(item: Item, written: words.Written) -> Iterator[Item]:
    whole = item["content"][0]
    part = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    yield {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": item | {"status": "in_progress", "content": []},
    }
    yield {"type": "response.content_part.added"} | part | {"part": whole | {"text": ""}}
    for token in written.tokens:
        yield {"type": "response.output_text.delta"} | part | {"delta": token, "logprobs": []}
    yield {"type": "response.output_text.done"} | part | {"text": whole["text"], "logprobs": []}
    yield {"type": "response.content_part.done"} | part | {"part": whole}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}


def _call(item: Item) -> Iterator[Item]:
    place = {"item_id": item["id"], "output_index": 0}
    opening = item | {"status": "in_progress", "arguments": ""}
    yield {"type": "response.output_item.added", "output_index": 0, "item": opening}
    yield {"type": "response.function_call_arguments.delta"} | place | {"delta": "{}"}
    yield {"type": "response.function_call_arguments.done"} | place | {"name": item["name"], "arguments": "{}"}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
