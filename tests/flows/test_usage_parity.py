"""One answer, whole and as a stream, of every kind of provider: the same was used, whoever asks in whatever shape.

Each family is one way in which upstreams say it. What they say is written out; what is read is the server's own record.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import httpx2
import pytest

from tests.flows.raw import Upstream, chunked, full, listening
from tests.running import KEY, Running, serving

SAY: Final = [{"role": "user", "content": "hi"}]
DETAILED: Final = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
ALL: Final = (11, 7, 4, 3)
PLAIN: Final = (11, 7, 0, 0)
BARE: Final = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
KIND: Final = {"id": "c", "created": 1, "model": "up", "object": "chat.completion.chunk"}
TEXTS: Final = ("one", " two", " three")

Said = list[dict[str, Any]]


def chunk(text: str | None, end: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {**KIND, "choices": [{"index": 0, "delta": delta, "finish_reason": end}], **more}


def chat(last: Said, each: Callable[[int], dict[str, Any]] = lambda _: {}) -> Said:
    return [chunk(text, None, **each(at)) for at, text in enumerate(TEXTS)] + last


def whole(**usage: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "".join(TEXTS)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {**KIND, "object": "chat.completion", "choices": [choice], "usage": usage}


def completions(**usage: Any) -> tuple[dict[str, Any], Said]:
    def one(text: str, end: str | None = None) -> dict[str, Any]:
        return {**KIND, "object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": end}]}

    last = {**KIND, "object": "text_completion", "choices": [], "usage": usage}
    return one("".join(TEXTS), "stop") | {"usage": usage}, [*map(one, TEXTS), one("", "stop"), last]


def response(kind: str, **usage: Any) -> tuple[dict[str, Any], Said]:
    made = {"id": "r", "object": "response", "status": kind, "output": [], "usage": usage}
    begins = {"type": "response.created", "response": {**made, "status": "in_progress", "usage": None}}
    deltas = [{"type": "response.output_text.delta", "delta": each} for each in TEXTS]
    return made, [begins, *deltas, {"type": f"response.{kind}", "response": made}]


def tokens() -> Said:
    """TGI's."""
    kept: dict[str, Any] = {"generated_text": None, "details": None}
    token = {"logprob": -0.5, "special": False}
    said: Said = [{"index": at, "token": {"id": at, "text": each, **token}, **kept} for at, each in enumerate(TEXTS, 1)]
    said[-1] |= {"generated_text": "".join(TEXTS)}
    said[-1]["details"] = {"finish_reason": "length", "generated_tokens": 7, "input_length": 11, "seed": None}
    return said


def usage_chunk(**usage: Any) -> dict[str, Any]:
    return {**KIND, "choices": [], "usage": usage}


END: Final = chunk(None, "stop")
DEEPSEEK: Final = {**BARE, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 7,
                   "completion_tokens_details": {"reasoning_tokens": 3}}  # fmt: skip
TOGETHER: Final = {**BARE, "cached_tokens": 4, "reasoning_tokens": 3}
MOONSHOT: Final = chunk(None, "stop")
MOONSHOT["choices"][0]["usage"] = {**BARE, "cached_tokens": 4}
VLLM: Final = {**BARE, "num_cached_tokens": 4}
TIMES: Final = {**DETAILED, "queue_time": 0.01, "total_time": 0.5}
CEREBRAS: Final = {"time_info": {"queue_time": 0.1}, "system_fingerprint": "fp"}
ODD: Final = {
    **DETAILED,
    "total_tokens": "eighteen",
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": "-"},
}
RESPONDED: Final = {"input_tokens": 11, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 7,
                    "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 18}  # fmt: skip
CHAT: Final = ("/v1/chat/completions", {"messages": SAY})
TEXT: Final = ("/v1/completions", {"prompt": "hi"})
RESPOND: Final = ("/v1/responses", {"input": "hi"})
HUB: Final = ("/models/{model}", {"inputs": "hi"})
TGI: Final = ("/tgi/{model}/generate", {"inputs": "hi"})
OLLAMA: Final = ("/api/generate", {"prompt": "hi"})
HEAD: Final = b"x-prompt-tokens: 11\r\nx-generated-tokens: 7\r\nx-compute-characters: 2\r\n"


@dataclass(frozen=True)
class Family:
    provider: str
    asked: tuple[str, dict[str, Any]]
    full: Any
    events: Said
    used: tuple[int, int, int, int] = ALL
    head: bytes = b""


FAMILIES: Final[dict[str, Family]] = {
    "openai-last-chunk": Family("openai", CHAT, whole(**DETAILED), chat([END, usage_chunk(**DETAILED)])),
    "openai-with-the-end": Family("openai", CHAT, whole(**DETAILED), chat([{**END, "usage": DETAILED}])),
    "first-chunk": Family("openai", CHAT, whole(**DETAILED), chat([END], lambda at: {} if at else {"usage": DETAILED})),
    "every-chunk": Family(
        "openai", CHAT, whole(**DETAILED),
        chat([{**END, "usage": DETAILED}], lambda at: {"usage": {**DETAILED, "completion_tokens": at + 1}}),
    ),
    "null-until-the-last": Family(
        "openai", CHAT, whole(**DETAILED),
        chat([{**END, "usage": None}, usage_chunk(**DETAILED)], lambda _: {"usage": None}),
    ),
    "deepseek": Family("novita", CHAT, whole(**DEEPSEEK), chat([{**END, "usage": DEEPSEEK}])),
    "together": Family("together", CHAT, whole(**TOGETHER), chat([{**END, "usage": TOGETHER}])),
    "moonshot": Family("openai", CHAT, whole(**BARE, cached_tokens=4), chat([MOONSHOT]), (11, 7, 4, 0)),
    "groq": Family("groq", CHAT, whole(**TIMES), chat([{**END, "x_groq": {"id": "r", "usage": TIMES}}])),
    "cerebras": Family("cerebras", CHAT, whole(**DETAILED) | CEREBRAS, chat([END, usage_chunk(**DETAILED) | CEREBRAS])),
    "vllm": Family("openai", CHAT, whole(**VLLM), chat([END, usage_chunk(**VLLM)]), (11, 7, 4, 0)),
    "cohere": Family("cohere", CHAT, whole(**DETAILED), chat([{**END, "usage": DETAILED}])),
    "of-odd-types": Family("openai", CHAT, whole(**ODD), chat([END, usage_chunk(**ODD)])),
    "completions": Family("openai", TEXT, *completions(**DETAILED)),
    "completions-by-chat": Family("groq", TEXT, whole(**DETAILED), chat([END, usage_chunk(**DETAILED)])),
    "responses": Family("openai", RESPOND, *response("completed", **RESPONDED)),
    "responses-cut-short": Family("openai", RESPOND, *response("incomplete", **RESPONDED)),
    "tgi": Family("tgi", TGI, {"generated_text": "one two three"}, tokens(), PLAIN, HEAD),
    "tgi-details": Family(
        "tgi", TGI, {"generated_text": "x", "details": {"generated_tokens": 7, "prefill": [{}] * 11}}, tokens(), PLAIN
    ),
    "tgi-in-the-hubs-shape": Family("tgi", HUB, [{"generated_text": "hi one two three"}], tokens(), PLAIN, HEAD),
    "tgi-chat": Family("tgi", CHAT, whole(**BARE), chat([END, usage_chunk(**BARE)]), PLAIN),
    "hub-by-completions": Family("openai", HUB, *completions(**DETAILED)),
    "hub-by-chat": Family("groq", HUB, whole(**DETAILED), chat([END, usage_chunk(**DETAILED)])),
    "tgi-by-completions": Family("openai", TGI, *completions(**DETAILED)),
    "ollama-by-completions": Family("openai", OLLAMA, *completions(**DETAILED)),
    "ollama-by-chat": Family("groq", OLLAMA, whole(**DETAILED), chat([END, usage_chunk(**DETAILED)])),
    "nothing-said-chat": Family("openai", CHAT, whole() | {"usage": None}, chat([END])),
}  # fmt: skip
SILENT: Final = {"nothing-said-chat"}


def events(said: Said) -> list[bytes]:
    blocks = [b"data: " + json.dumps(each).encode() + b"\n\n" for each in said]
    return chunked(blocks if "token" in said[0] else [*blocks, b"data: [DONE]\n\n"])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    upstream = Upstream()

    def answer(_: str, head: bytes) -> list[bytes]:
        family = FAMILIES[head.split(b" ")[1].split(b"/")[1].decode()]
        path, body = head.split(b" ")[1], json.loads(upstream.seen[-1][1])
        if path.endswith(b"/generate_stream") or body.get("stream"):
            return events(family.events)
        return [full(200, json.dumps(family.full).encode(), family.head)]

    upstream.answer = answer
    with listening(upstream):
        config: dict[str, Any] = {"virtual_keys": [{"name": "alice", "key": KEY}], "upstreams": {}, "models": {}}
        for name, family in FAMILIES.items():
            base = f"http://127.0.0.1:{upstream.port}/{name}"
            config["upstreams"][name] = {"provider": family.provider, "base_url": base, "keys": ["sk-canary-000000000"]}
            config["models"][name] = {"deployments": [{"upstream": name, "provider_id": "up"}]}
        with serving(json.dumps(config), tmp_path_factory.mktemp("parity")) as running:
            with httpx2.Client(base_url=running.base, timeout=10) as client:
                for name in FAMILIES:
                    ask(client, name, False)
                    ask(client, name, True)
            yield running


def ask(client: httpx2.Client, name: str, stream: bool) -> None:
    path, body = FAMILIES[name].asked
    asked = {**body, "model": name, "stream": stream}
    if path.startswith("/tgi"):
        asked, path = body, path + ("_stream" if stream else "")
    headers = {"authorization": f"Bearer {KEY}", "x-request-id": f"{name}-{stream}"}
    answer = client.post(path.format(model=name), json=asked, headers=headers)
    assert answer.status_code == 200, answer.text


def used(running: Running, name: str, stream: bool) -> tuple[dict[str, Any], tuple[Any, ...]]:
    record: dict[str, Any] = running.record(f"{name}-{stream}")
    assert record["outcome"] == "ok", record
    names = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
    return record, tuple(record[each] for each in names)


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - SILENT))
def test_a_stream_used_what_its_whole_answer_used(running: Running, name: str) -> None:
    family = FAMILIES[name]
    record, whole_answer = used(running, name, False)
    streamed_record, streamed = used(running, name, True)
    print(f"{name}: {streamed} = {whole_answer}")
    assert streamed == whole_answer == family.used
    assert not record["estimated"] and not streamed_record["estimated"]


@pytest.mark.parametrize("name", sorted(SILENT))
def test_where_nobody_says_it_is_estimated_and_marked(running: Running, name: str) -> None:
    record, (read, written, _, _) = used(running, name, False)
    assert record["estimated"] and read > 0 and written > 0
