"""/completions: the answer is the prompt, word by word; one choice a prompt and `n`."""

from collections.abc import Iterator, Sequence
from typing import Any

from router.sandbox import fields as read
from router.sandbox import words
from router.sandbox.chat import FINGERPRINT, formatted, stream_reply
from router.sandbox.exchange import Ask, Reply, json_reply


def prompts_of(value: Any, name: str) -> list[str]:
    """Texts from a text, several, a list of token ids, or several. A token id reads as its number."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(isinstance(item, str) for item in value):
            return value
        if _ids(value):
            return [_spelled(value)]
        if all(isinstance(item, list) and item and _ids(item) for item in value):
            return [_spelled(item) for item in value]
    raise read.wrong_type(name, "a string, an array of strings or arrays of token ids", value)


def _ids(value: Sequence[Any]) -> bool:
    return all(type(item) is int for item in value)  # bool is no id


def _spelled(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))


def answer(ask: Ask) -> Reply:
    fields = ask.fields
    prompts = prompts_of(read.need(fields, "prompt"), "prompt")
    most = read.whole(fields, "max_tokens", 0, 10_000_000)
    for name, least, highest in (("temperature", 0, 2), ("top_p", 0, 1), ("frequency_penalty", -2, 2)):
        read.number(fields, name, least, highest)
    stops = read.stops(fields)
    times = read.whole(fields, "n", 1, 128) or 1
    wanted = read.mapping(fields, "response_format")
    written = [words.write(formatted(prompt, wanted), most, stops) for prompt in prompts for _ in range(times)]
    opening = [prompt for prompt in prompts for _ in range(times)] if read.flag(fields, "echo") else [""] * len(written)
    logprobs = read.whole(fields, "logprobs", 0, 5)
    envelope = {
        "id": f"cmpl-{ask.seal[:24]}",
        "object": "text_completion",
        "created": ask.created,
        "model": ask.model,
        "system_fingerprint": FINGERPRINT,
    }
    prompt_tokens = sum(map(words.count, prompts))
    completion_tokens = sum(len(one.tokens) for one in written)
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    if not read.flag(fields, "stream"):
        if fields.get("stream_options") is not None:
            raise read.invalid("stream_options", "only allowed when 'stream' is true.")
        choices = [
            {
                "text": opening[index] + one.text,
                "index": index,
                "logprobs": None if logprobs is None else _logprobs(one.tokens, len(opening[index]), logprobs),
                "finish_reason": _finish(one),
            }
            for index, one in enumerate(written)
        ]
        return json_reply(envelope | {"choices": choices, "usage": usage})

    def chunks() -> Iterator[dict[str, Any]]:
        for index, one in enumerate(written):
            offset = len(opening[index])
            for token in ([opening[index]] if opening[index] else []) + list(one.tokens):
                scores = None if logprobs is None else _logprobs([token], offset, logprobs)
                choice = {"text": token, "index": index, "logprobs": scores, "finish_reason": None}
                yield envelope | {"choices": [choice]}
                offset += len(token)
            last = {"text": "", "index": index, "logprobs": None, "finish_reason": _finish(one)}
            yield envelope | {"choices": [last]}
        yield envelope | {"choices": [], "usage": usage}

    count = completion_tokens + len(written) + sum(map(bool, opening))
    return stream_reply(chunks(), read.flag(read.mapping(fields, "stream_options"), "include_usage"), count)


def _finish(written: words.Written) -> str:
    return "length" if written.cut else "stop"


def _logprobs(tokens: Sequence[str], offset: int, top: int) -> dict[str, Any]:
    scores = [words.log_probability(token) for token in tokens]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return {
        "tokens": list(tokens),
        "token_logprobs": scores,
        "top_logprobs": [{token: score} for token, score in zip(tokens, scores, strict=True)] if top else None,
        "text_offset": offsets,
    }
