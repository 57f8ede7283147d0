"""What travels: framing of requests, the bytes of every fault, and nothing left behind."""

import asyncio
import gc
import json
import os
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from router.sandbox import FAULTS, Sandbox
from tests.router.sandbox.wire import chat, exchange, opened, port_of, request, split, unchunked, with_sandbox

CHAT = "/v1/chat/completions"


def asked(*sent: bytes) -> list[bytes]:
    """The answer to each request, one sandbox and one connection after another."""

    async def run(sandbox: Sandbox) -> list[bytes]:
        return [await exchange(sandbox, one) for one in sent]

    return with_sandbox(run)


def stream_of(fault: str, x_sandbox_delay: str = "0ms") -> bytes:
    return asked(request(CHAT, chat(f"sandbox/{fault}", stream=True), x_sandbox_delay=x_sandbox_delay))[0]


def whole_of(fault: str, x_sandbox_delay: str = "0ms") -> bytes:
    return asked(request(CHAT, chat(f"sandbox/{fault}"), x_sandbox_delay=x_sandbox_delay))[0]


# ---- requests


def test_the_same_request_gets_the_same_bytes_from_any_sandbox() -> None:
    for body in (chat(), chat(stream=True), chat(stream=True, tools=[])):
        assert asked(request(CHAT, body)) == asked(request(CHAT, body))
    for path, body in (
        ("/v1/images/generations", {"prompt": "a cat"}),
        ("/v1/embeddings", {"model": "m", "input": "a"}),
        ("/v1/responses", {"model": "m", "input": "a", "stream": True}),
        ("/generate_stream", {"inputs": "a b"}),
    ):
        assert len(set(asked(request(path, body), request(path, body)))) == 1


def test_a_body_in_chunks_fed_byte_by_byte_is_read_like_a_whole_one() -> None:
    body = json.dumps(chat()).encode()
    chunks = b"5;x=y\r\n" + body[:5] + b"\r\n%x\r\n" % (len(body) - 5) + body[5:] + b"\r\n0\r\ntrailer: x\r\n\r\n"
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"

    async def run(sandbox: Sandbox) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(sandbox))
        for byte in head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        try:
            return await reader.read(-1)
        finally:
            writer.close()

    assert with_sandbox(run) == asked(request(CHAT, body))[0]


def test_one_connection_serves_request_after_request_even_sent_ahead() -> None:
    [answer] = asked(request(CHAT, chat(), close=False) + request("/health", close=False) + request("/v1/models"))
    assert len(re.findall(rb"HTTP/1\.1 200 OK\r\n", answer)) == 3


def test_a_caller_that_waits_for_100_continue_is_told_to_go_on() -> None:
    body = json.dumps(chat()).encode()
    sent = request(CHAT, body, expect="100-continue")

    async def run(sandbox: Sandbox) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(sandbox))
        writer.write(sent[: -len(body)])
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        try:
            return await reader.read(-1)
        finally:
            writer.close()

    assert split(with_sandbox(run))[0] == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nhost: x\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\n folded: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\nbare: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nbig: " + b"a" * 70_000 + b"\r\n\r\n", 431),
    ],
)
def test_bytes_that_are_no_request_are_refused(sent: bytes, status: int) -> None:
    assert split(asked(sent)[0])[0] == status


@pytest.mark.parametrize(
    ("path", "body", "status", "names"),
    [
        (CHAT, b"{", 400, "JSON"),
        (CHAT, [], 400, "an array"),
        (CHAT, {"messages": []}, 400, "model"),
        (CHAT, {"model": "m"}, 400, "messages"),
        (CHAT, {"model": "m", "messages": [{"role": "x"}]}, 400, "messages[0].role"),
        (CHAT, {"model": "m", "messages": [{"role": "user", "content": 1}]}, 400, "messages[0].content"),
        (CHAT, chat(temperature=3), 400, "temperature"),
        (CHAT, chat(stream="yes"), 400, "stream"),
        (CHAT, chat(stop=["a"] * 5), 400, "stop"),
        (CHAT, chat(tool_choice="required"), 400, "tool_choice"),
        (CHAT, chat(stream_options={"include_usage": True}), 400, "stream_options"),
        ("/v1/embeddings", {"model": "m", "input": []}, 400, "input"),
        ("/v1/embeddings", {"model": "m", "input": "a", "dimensions": 0}, 400, "dimensions"),
        ("/v1/images/generations", {"prompt": "a", "size": "9x"}, 400, "size"),
        ("/v1/audio/speech", {"model": "m", "input": "a"}, 400, "voice"),
        ("/v1/audio/transcriptions", {"model": "m"}, 415, "multipart"),
        ("/v1/rerank", {"model": "m", "query": "q", "documents": [1]}, 400, "documents[0]"),
        ("/v1/nothing", {}, 404, "/v1/nothing"),
        ("/health", {}, 405, "POST"),
        ("/generate", b"{", 400, "parse"),
        ("/generate", {}, 422, "missing field `inputs`"),
        ("/generate", {"inputs": 1}, 422, "inputs"),
        ("/generate", {"inputs": ""}, 422, "cannot be empty"),
        ("/generate", {"inputs": "a", "parameters": {"top_p": 1}}, 422, "top_p"),
        ("/generate", {"inputs": "a", "parameters": {"temperature": 0}}, 422, "temperature"),
        ("/generate", {"inputs": "a", "parameters": {"max_new_tokens": 0}}, 422, "max_new_tokens"),
        ("/generate", {"inputs": "a", "parameters": {"stop": ["a"] * 5}}, 422, "stop"),
        ("/generate_stream", {"inputs": "a", "parameters": {"best_of": 2}}, 422, "best_of"),
    ],
)
def test_a_wrong_body_is_refused_in_the_words_of_its_path(path: str, body: Any, status: int, names: str) -> None:
    got, headers, said = split(asked(request(path, body))[0])
    assert (got, names in said.decode()) == (status, True)
    if headers["content-type"] == "application/json":
        error = json.loads(said)["error"]
        assert isinstance(error, dict if path.startswith("/v1") or path == "/health" else str)


def test_tgi_paths_answer_in_the_shapes_of_tgi() -> None:
    root, plain, tokens, info, health, streamed = asked(
        request("/", {"inputs": "a b"}),
        request("/generate", {"inputs": "a b", "parameters": {"details": True, "top_n_tokens": 1}}),
        request("/tokenize", {"inputs": "a bc"}),
        request("/info"),
        request("/health"),
        request("/", {"inputs": "a b", "stream": True}),
    )
    assert json.loads(split(root)[2]) == [{"generated_text": "a ba b"}]
    _, headers, body = split(plain)
    answer = json.loads(body)
    assert answer["generated_text"] == "a b" and answer["details"]["finish_reason"] == "eos_token"
    assert [token["text"] for token in answer["details"]["tokens"]] == ["a", " b"]
    assert headers["x-generated-tokens"] == "2" and headers["x-compute-type"] == "cpu"
    spans = [(token["start"], token["stop"]) for token in json.loads(split(tokens)[2])]
    assert spans == [(0, 1), (1, 4)]
    assert json.loads(split(info)[2])["model_id"] == "sandbox/echo"
    assert split(health)[0] == 200 and split(health)[2] == b""
    events = [json.loads(event.removeprefix(b"data: ")) for event in unchunked(split(streamed)[2])]
    assert [event["index"] for event in events] == [1, 2] and events[-1]["generated_text"] == "a ba b"


def test_paths_work_without_the_prefix_too() -> None:
    for path in ("chat/completions", "completions", "embeddings", "rerank", "moderations", "responses"):
        body = chat(prompt="a", input="a", query="a", documents=["b", {"text": "a"}])
        one, other = asked(request(f"/v1/{path}", body), request(f"/{path}", body))
        assert split(one)[0] == split(other)[0] == 200


def test_rerank_puts_the_document_with_the_asked_words_first() -> None:
    body = {"model": "m", "query": "red car", "documents": ["a tree", "a red car", "red"], "top_n": 2}
    results = json.loads(split(asked(request("/v1/rerank", body | {"return_documents": True}))[0])[2])["results"]
    assert [(result["index"], result["relevance_score"]) for result in results] == [(1, 1.0), (2, 0.5)]
    assert results[0]["document"] == {"text": "a red car"}


def test_the_root_page_lists_every_fault() -> None:
    page = split(asked(request("/"))[0])[2].decode()
    assert all(f"\n{name} " in page for name in FAULTS)


# ---- faults


def test_a_fault_is_named_by_the_header_or_the_model_and_an_unknown_one_is_refused() -> None:
    by_header, by_model_header, unknown, listed = asked(
        request("/generate", {"inputs": "a"}, x_sandbox_fault="429"),
        request("/generate", {"inputs": "a"}, x_sandbox_model="sandbox/429"),
        request("/generate", {"inputs": "a"}, x_sandbox_fault="nonesuch"),
        request("/v1/models", x_sandbox_fault="503"),
    )
    assert by_header == by_model_header
    assert split(by_header)[0] == 429 and json.loads(split(by_header)[2])["error_type"] == "overloaded"
    assert split(unknown)[0] == 400 and split(listed)[0] == 503


def test_every_fault_leaves_the_sandbox_serving() -> None:
    async def run(sandbox: Sandbox) -> None:
        for name in FAULTS:
            for stream in (True, False):
                sent = request(CHAT, chat(f"sandbox/{name}", stream=stream), x_sandbox_delay="1ms")
                try:
                    await asyncio.wait_for(exchange(sandbox, sent), 0.05 if name == "silent" else 5)
                except (TimeoutError, ConnectionResetError):
                    assert name in ("silent", "reset", "reset-once", "reset-late")
        assert split(await exchange(sandbox, request(CHAT, chat())))[0] == 200

    with_sandbox(run)


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("429", 429, "rate_limit_exceeded"),
        ("500", 500, None),
        ("503", 503, None),
        ("unauthorized", 401, "invalid_api_key"),
        ("model-not-found", 404, "model_not_found"),
        ("context-length", 400, "context_length_exceeded"),
        ("content-filter", 400, "content_policy_violation"),
    ],
)
def test_a_refusing_fault_has_the_status_and_code_of_the_real_one(name: str, status: int, code: str | None) -> None:
    for answer in (whole_of(name), stream_of(name)):
        got, headers, body = split(answer)
        assert (got, json.loads(body)["error"]["code"]) == (status, code)
        assert headers.get("retry-after") == ("2" if name == "429" else None)


def test_loading_says_how_long_it_takes() -> None:
    assert json.loads(split(whole_of("503-loading"))[2]) == {
        "error": "Model sandbox/503-loading is currently loading",
        "estimated_time": 20.0,
    }


def test_a_redirect_and_a_page_of_html_are_what_they_say() -> None:
    status, headers, _ = split(whole_of("redirect"))
    assert status == 307 and headers["location"].startswith("https://elsewhere.invalid/")
    assert split(whole_of("502-html"))[2].startswith(b"<html>")


def test_once_faults_fail_on_odd_calls_only() -> None:
    for name, status in (("429-once", 429), ("500-once", 500)):
        sent = request(CHAT, chat(f"sandbox/{name}"))
        assert [split(answer)[0] for answer in asked(sent, sent, sent, sent)] == [status, 200, status, 200]


def test_flaky_fails_every_third_call_in_three_ways() -> None:
    sent = request(CHAT, chat("sandbox/flaky"))

    async def outcome(sandbox: Sandbox) -> str:
        try:
            status, headers, body = split(await exchange(sandbox, sent))
        except ConnectionResetError:
            return "reset"
        return str(status) if len(body) == int(headers["content-length"]) else "cut"

    async def run(sandbox: Sandbox) -> list[str]:
        return [await outcome(sandbox) for _ in range(9)]

    assert with_sandbox(run) == ["200", "200", "503", "200", "200", "reset", "200", "200", "cut"]


def test_reset_is_a_reset_and_not_an_end() -> None:
    with pytest.raises(ConnectionResetError):
        whole_of("reset")
    with pytest.raises(ConnectionResetError):
        stream_of("reset-late")


def test_cut_ends_after_two_fifths_of_the_events_or_of_the_body() -> None:
    whole = unchunked(split(stream_of("echo"))[2])  # role, eight words, the end, [DONE]
    assert len(whole) == 11
    body = split(stream_of("cut"))[2]
    assert body.count(b"data: ") == 4 and not body.endswith(b"0\r\n\r\n")
    _, headers, short = split(whole_of("cut"))
    assert len(short) == int(headers["content-length"]) * 2 // 5


def test_cut_in_chunk_ends_inside_one() -> None:
    for answer in (stream_of("cut-in-chunk"), whole_of("cut-in-chunk")):
        _, headers, body = split(answer)
        assert headers["transfer-encoding"] == "chunked"
        *_, size, data = re.split(rb"(?:^|\r\n)([0-9a-f]+)\r\n", body)
        assert 0 < len(data) < int(size, 16)


def test_no_done_differs_from_echo_by_the_last_event_only() -> None:
    events = unchunked(split(stream_of("no-done"))[2])
    assert b'"finish_reason":"stop"' in events[-1] and len(events) == 10


def test_malformed_breaks_the_third_event_or_the_whole_body() -> None:
    events = unchunked(split(stream_of("malformed"))[2])
    broken = []
    for at, event in enumerate(events[:-1]):
        try:
            json.loads(event.removeprefix(b"data: "))
        except ValueError:
            broken.append(at)
    assert broken == [2] and events[-1] == b"data: [DONE]\n\n"
    status, _, body = split(whole_of("malformed"))
    assert status == 200
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(body)


def test_comments_stand_before_events_that_end_in_crlf() -> None:
    events = unchunked(split(stream_of("comments"))[2])
    assert events[0] == b": keep-alive\r\n\r\n" and events[-1] == b"data: [DONE]\r\n\r\n"


def test_an_error_event_ends_a_stream_without_done() -> None:
    events = unchunked(split(stream_of("error-event"))[2])
    assert len(events) == 4 and "error" in json.loads(events[-1].removeprefix(b"data: "))
    assert split(whole_of("error-event"))[0] == 500


def test_faults_of_framing_are_framed_as_they_say() -> None:
    assert unchunked(split(stream_of("empty"))[2]) == [] and split(whole_of("empty"))[2] == b""
    assert not {"content-length", "transfer-encoding"} & set(split(stream_of("unframed"))[1])
    assert split(stream_of("unframed"))[2].endswith(b"data: [DONE]\n\n")
    assert split(stream_of("early-close"))[0] == 200 and split(stream_of("early-close"))[2] == b""
    assert whole_of("no-head") == b""
    assert not whole_of("garbage").startswith(b"HTTP/")
    assert b"\r\nzz\r\n" in stream_of("bad-chunk") and b"\r\nzz\r\n" in whole_of("bad-chunk")
    assert b"0\r\n\r\nHTTP/1.1 200 OK" in stream_of("after-the-end")
    assert len(split(whole_of("huge-header"))[1]["x-huge"]) == 128 * 1024


def test_stall_is_silent_after_five_events_and_then_closes() -> None:
    body = split(stream_of("stall", x_sandbox_delay="10ms"))[2]
    assert body.count(b"data: ") == 5
    _, headers, half = split(whole_of("stall", x_sandbox_delay="10ms"))
    assert len(half) == int(headers["content-length"]) // 2


def test_slow_first_sends_the_head_at_once_and_the_events_later() -> None:
    async def run(sandbox: Sandbox) -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(sandbox))
        writer.write(request(CHAT, chat("sandbox/slow-first", stream=True), x_sandbox_delay="80ms"))
        await reader.readuntil(b"\r\n\r\n")
        began = asyncio.get_running_loop().time()
        await reader.read(-1)
        writer.close()
        return asyncio.get_running_loop().time() - began

    assert with_sandbox(run) > 0.06


def test_the_pace_comes_from_the_header_or_the_body() -> None:
    async def run(sandbox: Sandbox) -> list[float]:
        took = []
        for sent in (
            request(CHAT, chat(stream=True), x_sandbox_delay="10ms"),
            request(CHAT, chat(stream=True) | {"x-sandbox-delay": 0.01}),
        ):
            began = asyncio.get_running_loop().time()
            await exchange(sandbox, sent)
            took.append(asyncio.get_running_loop().time() - began)
        return took

    assert min(with_sandbox(run)) > 0.1  # eleven events
    assert split(asked(request(CHAT, chat(), x_sandbox_delay="soon"))[0])[0] == 400


# ---- what is left behind


def open_sockets() -> int:
    return sum(os.readlink(fd).startswith("socket:") for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts sockets in /proc")
def test_close_leaves_no_socket_whatever_was_going_on() -> None:
    async def run() -> tuple[int, int]:
        before = open_sockets()
        async with opened() as sandbox:
            streams = [await asyncio.open_connection("127.0.0.1", port_of(sandbox)) for _ in range(20)]
            for at, (_, writer) in enumerate(streams):
                names = ("silent", "slow", "stall", "slow-first", "echo")
                writer.write(request(CHAT, chat(f"sandbox/{names[at % 5]}", stream=True), close=False))
            await asyncio.sleep(0.05)
        for _, writer in streams:
            writer.close()
        await asyncio.sleep(0.05)
        gc.collect()
        return before, open_sockets()

    before, after = asyncio.run(run())
    assert before == after


def test_a_caller_that_leaves_ends_its_answer() -> None:
    async def run(sandbox: Sandbox) -> int:
        for _ in range(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(sandbox))
            writer.write(request(CHAT, chat("sandbox/slow", stream=True)))
            await reader.readuntil(b"\r\n\r\n")
            writer.close()
        await asyncio.sleep(0.05)
        return sandbox.connections

    assert with_sandbox(run) == 0


def test_a_caller_that_reads_slowly_gets_all_of_a_long_stream() -> None:
    async def run(sandbox: Sandbox) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(sandbox), limit=1024)
        writer.write(request("/v1/completions", {"model": "m", "prompt": "word " * 9000, "stream": True}))
        await asyncio.sleep(0.1)
        try:
            return await reader.read(-1)
        finally:
            writer.close()

    assert len(unchunked(split(with_sandbox(run))[2])) == 9002


def test_a_long_prompt_stalls_nobody() -> None:
    async def ticks(gaps: list[float]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(0.001)
            gaps.append(loop.time() - began)

    async def run(sandbox: Sandbox) -> float:
        gaps: list[float] = []
        sent = request(CHAT, chat(text="word " * 200_000, stream=True))
        ticking = asyncio.create_task(ticks(gaps))
        await exchange(sandbox, sent)
        ticking.cancel()
        return sorted(gaps)[-3]

    assert with_sandbox(run) < 0.2


def test_the_same_works_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)

    async def main() -> None:
        async with opened() as sandbox:
            assert split(await exchange(sandbox, request(CHAT, chat(stream=True))))[0] == 200
            with pytest.raises(ConnectionResetError):
                await exchange(sandbox, request(CHAT, chat("sandbox/reset")))
            assert split(await exchange(sandbox, b"hello\r\n\r\n"))[0] == 400
            two = request("/health", close=False) + request("/health")
            assert (await exchange(sandbox, two)).count(b"200 OK") == 2

    run(main())
