"""/chat/completions: the answer is the last user message, word by word, in exactly OpenAI's shapes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from router.sandbox import fields as read
from router.sandbox import words
from router.sandbox.exchange import DONE, EVENTS, Ask, Events, Reply, Wrong, json_reply, sse

ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
FINGERPRINT: Final = "fp_sandbox"


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    forced: bool  # by name

    def whole(self) -> dict[str, Any]:
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": "{}"}}


@dataclass(frozen=True, slots=True)
class Chat:
    """What both forms of the answer are made of."""

    ask: Ask
    written: words.Written
    call: ToolCall | None
    choices: int
    logprobs: bool
    top: int
    prompt_tokens: int

    @property
    def finish(self) -> str:
        if self.call:
            return "stop" if self.call.forced else "tool_calls"  # a function called by name ends as any answer does
        return "length" if self.written.cut else "stop"

    def envelope(self, kind: str) -> dict[str, Any]:
        ask = self.ask
        return {"id": f"chatcmpl-{ask.seal[:24]}", "object": kind, "created": ask.created, "model": ask.model}

    def usage(self) -> dict[str, Any]:
        return usage(self.prompt_tokens, self.choices * (1 if self.call else len(self.written.tokens)))


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def answer(ask: Ask) -> Reply:
    chat = _read(ask)
    if not read.flag(ask.fields, "stream"):
        if ask.fields.get("stream_options") is not None:
            raise read.invalid("stream_options", "only allowed when 'stream' is true.")
        return json_reply(_completion(chat))
    with_usage = read.flag(read.mapping(ask.fields, "stream_options"), "include_usage")
    return stream_reply(_chunks(chat), with_usage, _length(chat))


def stream_reply(chunks: Iterator[dict[str, Any]], with_usage: bool, count: int) -> Reply:
    """Chunks as OpenAI sends them; the last one made is the usage chunk, and goes only to those who asked.

    To them every other chunk says `"usage": null`.
    """

    def events() -> Iterator[bytes]:
        for chunk in chunks:
            if "usage" not in chunk:
                yield sse(chunk | {"usage": None} if with_usage else chunk)
            elif with_usage:
                yield sse(chunk)
        yield DONE

    return Reply(Events(count + with_usage + 1, events), content_type=EVENTS, headers=(("cache-control", "no-cache"),))


def text_of(content: Any, name: str) -> str:
    """The text of a message: a string, or its text parts one after the other."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise read.wrong_type(name, "a string or an array of objects", content)
    texts = []
    for at, part in enumerate(content):
        if not isinstance(part, dict):
            raise read.wrong_type(f"{name}[{at}]", "an object", part)
        if not isinstance(part.get("type"), str):
            raise read.missing(f"{name}[{at}].type")
        if part["type"] in ("text", "input_text", "output_text"):
            if not isinstance(part.get("text"), str):
                raise read.missing(f"{name}[{at}].text")
            texts.append(part["text"])
    return " ".join(texts)


def formatted(text: str, response_format: dict[str, Any], name: str = "response_format") -> str:
    """As JSON where JSON was asked for; TGI's own names for it included."""
    kind = response_format.get("type", "text")
    if kind in ("json_object", "json_schema", "json"):
        return msgspec.json.encode({"echo": text}).decode()
    if kind not in ("text", "regex"):
        raise read.invalid(f"{name}.type", f"expected text, json_object or json_schema, but got {kind!r} instead.")
    return text


def tool_call(ask: Ask) -> ToolCall | None:
    """The call of the function that was named, or of the first one where any is required."""
    offered = ask.fields.get("tools")
    chosen = ask.fields.get("tool_choice")
    if not offered:
        if chosen is not None and chosen != "none":
            raise Wrong("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
        return None
    if not isinstance(offered, list):
        raise read.wrong_type("tools", "an array of objects", offered)
    names = []
    for at, tool in enumerate(offered):
        function = tool.get("function", tool) if isinstance(tool, dict) else None  # /responses has no inner object
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise read.missing(f"tools[{at}].function.name")
        names.append(function["name"])
    call_id = f"call_{ask.seal[24:48]}"
    if chosen == "required":
        return ToolCall(call_id, names[0], forced=False)
    if isinstance(chosen, dict):
        function = chosen.get("function", chosen)
        name = function.get("name") if isinstance(function, dict) else None
        if name not in names:
            raise Wrong(f"Tool choice {name!r} not found in 'tools' parameter.", "tool_choice", "invalid_value")
        return ToolCall(call_id, str(name), forced=True)
    if chosen not in (None, "auto", "none"):
        raise read.invalid("tool_choice", f"expected none, auto, required or a function, but got {chosen!r} instead.")
    return None


def _read(ask: Ask) -> Chat:
    fields = ask.fields
    messages = read.need(fields, "messages")
    if not isinstance(messages, list):
        raise read.wrong_type("messages", "an array of objects", messages)
    if not messages:
        raise Wrong(
            "Invalid 'messages': empty array. Expected an array with minimum length 1.", "messages", "empty_array"
        )
    texts, spoken = [], None
    for at, message in enumerate(messages):
        if not isinstance(message, dict):
            raise read.wrong_type(f"messages[{at}]", "an object", message)
        if message.get("role") not in ROLES:
            raise read.invalid(f"messages[{at}].role", f"expected one of {', '.join(ROLES)}.")
        texts.append(text_of(message.get("content"), f"messages[{at}].content"))
        if message["role"] == "user":
            spoken = texts[-1]
    for name, least, most in (("temperature", 0, 2), ("top_p", 0, 1), ("frequency_penalty", -2, 2)):
        read.number(fields, name, least, most)
    most_tokens = read.whole(fields, "max_completion_tokens", 1, 10_000_000)
    if most_tokens is None:
        most_tokens = read.whole(fields, "max_tokens", 1, 10_000_000)
    text = texts[-1] if spoken is None else spoken
    text = formatted(text, read.mapping(fields, "response_format"))
    return Chat(
        ask,
        words.write(text, most_tokens, read.stops(fields)),
        tool_call(ask),
        read.whole(fields, "n", 1, 128) or 1,
        read.flag(fields, "logprobs"),
        read.whole(fields, "top_logprobs", 0, 20) or 0,
        sum(map(words.count, texts)),
    )


def _completion(chat: Chat) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": chat.written.text, "refusal": None, "annotations": []}
    if chat.call:
        message |= {"content": None, "tool_calls": [chat.call.whole()]}
    logprobs = _logprobs(chat, chat.written.tokens) if chat.logprobs and not chat.call else None
    choice = {"message": message, "logprobs": logprobs, "finish_reason": chat.finish}
    return chat.envelope("chat.completion") | {
        "choices": [{"index": index} | choice for index in range(chat.choices)],
        "usage": chat.usage(),
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }


def _deltas(chat: Chat) -> Iterator[tuple[dict[str, Any], Any, str | None]]:
    """(delta, logprobs, finish_reason) of one choice."""
    if chat.call:
        opening = chat.call.whole() | {"index": 0, "function": {"name": chat.call.name, "arguments": ""}}
        yield {"role": "assistant", "content": None, "tool_calls": [opening], "refusal": None}, None, None
        yield {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}, None, None
    else:
        yield {"role": "assistant", "content": "", "refusal": None}, None, None
        for token in chat.written.tokens:
            yield {"content": token}, _logprobs(chat, [token]) if chat.logprobs else None, None
    yield {}, None, chat.finish


def _length(chat: Chat) -> int:
    return chat.choices * (3 if chat.call else len(chat.written.tokens) + 2)


def _chunks(chat: Chat) -> Iterator[dict[str, Any]]:
    envelope = chat.envelope("chat.completion.chunk") | {"service_tier": "default", "system_fingerprint": FINGERPRINT}
    for delta, logprobs, finish in _deltas(chat):
        for index in range(chat.choices):
            choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
            yield envelope | {"choices": [choice]}
    yield envelope | {"choices": [], "usage": chat.usage()}


def _logprobs(chat: Chat, tokens: Any) -> dict[str, Any]:
    content = []
    for token in tokens:
        entry = {
            "token": token,
            "logprob": words.log_probability(token),
            "bytes": list(token.encode("utf-8", "surrogatepass")),
        }
        content.append(entry | {"top_logprobs": [entry] if chat.top else []})
    return {"content": content, "refusal": None}
