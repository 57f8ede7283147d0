"""Raw bytes against a real Guard on a real socket, with an app of a few lines behind it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from router.server import rules
from router.server.asgi import App, Message, Scope
from router.server.guard import Guard

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HASTY = rules.Clocks(first_byte=0.1, head=0.1, body=0.1, keep_alive=0.1, write=0.2, linger=0.1)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await scenario()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


@contextlib.asynccontextmanager
async def serving(app: App, clocks: rules.Clocks | None = None) -> AsyncIterator[int]:
    config = uvicorn.Config(app, interface="asgi3", http=Guard, ws="none", log_config=None)
    config.load()
    state = ServerState()

    usual = Guard.clocks
    Guard.clocks = clocks or usual
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Guard(config, state, {}), "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        Guard.clocks = usual
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=1)
        await asyncio.sleep(0)


async def exchange(port: int, *parts: bytes) -> bytes:
    """Send the parts, then read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        if reader.at_eof() or writer.is_closing():
            break
        writer.write(part)
        await asyncio.sleep(0.01)
    answer = await reader.read()
    writer.close()
    return answer


async def body_of(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)
        body += message["body"]
        if not message["more_body"]:
            return bytes(body)


async def answer(send: Send, body: bytes, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    await send(
        {"type": "http.response.start", "status": status, "headers": [*headers, (b"content-length", b"%d" % len(body))]}
    )
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Says what it understood: method, path and body."""
    body = await body_of(receive)
    await answer(send, f"{scope['method']} {scope['path']} ".encode() + body)


def close(*fields: bytes, line: bytes = b"GET /a HTTP/1.1", host: bytes = b"Host: h") -> bytes:
    return b"\r\n".join([line, *([host] if host else []), *fields, b"Connection: close", b"", b""])


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (close(), 200),
        (close(host=b"Host: a.b-c_d:8080"), 200),
        (close(host=b"Host: [::1]:8080"), 200),
        (close(b"under_score: 1"), 200),
        (close(line=b"GET /a HTTP/1.0", host=b""), 200),
        (close(line=b"GET http://elsewhere/a HTTP/1.1"), 200),
        (close(host=b""), 400),
        (close(b"Host: h"), 400),
        (close(host=b"Host:"), 400),
        (close(host=b"Host: x/health?"), 400),
        (close(host=b"Host: a@b"), 400),
        (close(host=b"Host: [::1"), 400),
        (close(b"X: a", b" folded"), 400),
        (close(b"X : a"), 400),
        (close(b"Content-Length: 3", b"Content-Length: 3"), 400),
        (close(b"Content-Length: 3", b"Transfer-Encoding: chunked"), 400),
        (close(b"Content-Length: +3"), 400),
        (close(b"Transfer-Encoding: gzip, chunked"), 400),
        (close(b"Transfer-Encoding: chunked", line=b"POST /a HTTP/1.0"), 400),
        (close(b"Upgrade: websocket", b"Connection: Upgrade"), 400),
        (close(line=b"CONNECT a:80 HTTP/1.1"), 400),
        (close(line=b"GET /a#b HTTP/1.1"), 400),
        (close(line=b"GET @evil HTTP/1.1"), 400),
        (close(line=b"GET /a HTTP/2.0"), 505),
        (close(line=b"GET /" + b"a" * 9000 + b" HTTP/1.1"), 414),
        (close(*[b"a: b"] * 101), 431),
        (close(b"a: " + b"b" * 70_000), 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"b" * 2_000_000, 431),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 400_000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ],
)
def test_each_request_gets_one_answer_with_the_right_status(request_bytes: bytes, status: int) -> None:
    async def scenario() -> None:
        async with serving(echo) as port:
            reply = await exchange(port, request_bytes)
            assert reply.count(b"HTTP/1.1 ") == 1
            assert reply.split(b" ", 2)[1] == b"%d" % status, reply

    run(scenario)


def test_requests_on_one_connection_are_answered_in_order_pipelined_or_not() -> None:
    async def scenario() -> None:
        async with serving(echo) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            post = b"POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok"
            for round_ in range(2):
                writer.write(b"".join(post % (round_ * 3 + i) for i in range(3)))
                for i in range(3):
                    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
                    assert await reader.readexactly(10) == b"POST /%d ok" % (round_ * 3 + i)
            writer.close()

    run(scenario)


def test_a_request_is_understood_however_its_bytes_are_cut() -> None:
    async def scenario() -> None:
        async with serving(echo) as port:
            whole = (
                close(b"Transfer-Encoding: chunked", line=b"POST /a%20b?q HTTP/1.1")
                + b"2\r\nhi\r\n0\r\nHost: trailer\r\n\r\n"
            )
            for at in range(1, len(whole), 7):
                assert (await exchange(port, whole[:at], whole[at:])).endswith(b"POST /a b hi")

    run(scenario)


def test_a_bad_request_behind_a_good_one_waits_for_the_good_ones_answer() -> None:
    async def scenario() -> None:
        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.sleep(0.05)
            await answer(send, b"first")

        async with serving(slow) as port:
            reply = await exchange(port, b"GET / HTTP/1.1\r\nHost: h\r\n\r\nnonsense\r\n\r\n")
            good, bad = reply.split(b"first")
            assert good.startswith(b"HTTP/1.1 200 ")
            assert bad.startswith(b"HTTP/1.1 400 ")

    run(scenario)


def test_an_upgrade_to_http2_is_ignored_and_its_body_kept() -> None:
    async def scenario() -> None:
        async with serving(echo) as port:
            upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n"
            first = b"POST /j HTTP/1.1\r\nHost: h\r\n" + upgrade + b"Content-Length: 4\r\n\r\njava"
            reply = await exchange(port, first, close())
            assert b"POST /j java" in reply
            assert reply.endswith(b"GET /a ")

    run(scenario)


@pytest.mark.parametrize(
    ("sent", "begins"),
    [
        (b"", b""),
        (b"GET / HT", b"HTTP/1.1 408 "),
        (b"GET / HTTP/1.1\r\nHost: h\r\n", b"HTTP/1.1 408 "),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf", b"HTTP/1.1 408 "),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"HTTP/1.1 200 "),
    ],
    ids=["silent", "half a line", "half a head", "half a body", "idle after an answer"],
)
def test_a_caller_that_stops_halfway_is_closed_in_time(sent: bytes, begins: bytes) -> None:
    async def scenario() -> None:
        async with serving(echo, HASTY) as port:
            began = asyncio.get_running_loop().time()
            reply = await exchange(port, sent)
            assert reply.startswith(begins)
            assert reply.count(b"HTTP/1.1") == (1 if begins else 0)
            assert asyncio.get_running_loop().time() - began < 0.6

    run(scenario)


def test_a_head_that_trickles_does_not_move_its_deadline() -> None:
    async def scenario() -> None:
        async with serving(echo, HASTY) as port:
            reply = await exchange(port, b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 15)
            assert reply.startswith(b"HTTP/1.1 408 ")

    run(scenario)


def test_a_body_that_trickles_is_read_to_its_end() -> None:
    async def scenario() -> None:
        async with serving(echo, HASTY) as port:
            reply = await exchange(port, close(b"Content-Length: 30", line=b"POST /s HTTP/1.1"), *[b"x"] * 30)
            assert reply.endswith(b"POST /s " + b"x" * 30)

    run(scenario)


def test_an_answer_that_takes_longer_than_every_clock_is_not_cut() -> None:
    async def scenario() -> None:
        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            await body_of(receive)
            await asyncio.sleep(0.35)
            await answer(send, b"late")

        async with serving(slow, HASTY) as port:
            assert (await exchange(port, close())).endswith(b"late")

    run(scenario)


def test_a_caller_that_reads_nothing_is_cut_and_the_app_goes_on() -> None:
    async def scenario() -> None:
        ended = asyncio.Event()

        async def flood(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while (await receive_now(receive)) != "http.disconnect":
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
            ended.set()

        async with serving(flood, HASTY) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(close())
            await ended.wait()
            writer.transport.abort()
            del reader

    run(scenario)


async def receive_now(receive: Receive) -> str:
    try:
        async with asyncio.timeout(0):
            return str((await receive())["type"])
    except TimeoutError:
        return ""


def test_the_app_is_told_at_once_when_its_caller_leaves_and_only_then() -> None:
    async def scenario() -> None:
        gone: list[str] = []
        running, ended = asyncio.Event(), asyncio.Event()

        async def waits(scope: Scope, receive: Receive, send: Send) -> None:
            turn: Any = scope["router.turn"]
            turn.on_gone = lambda: gone.append(scope["path"])
            if scope["path"] == "/quick":
                await answer(send, b"")
                return
            running.set()
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.append("disconnect")
            ended.set()

        async with serving(waits) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /quick HTTP/1.1\r\nHost: h\r\n\r\nGET /long HTTP/1.1\r\nHost: h\r\n\r\n")
            await running.wait()
            left = asyncio.get_running_loop().time()
            writer.transport.abort()
            await ended.wait()
            assert gone == ["/long", "disconnect"]
            assert asyncio.get_running_loop().time() - left < 0.1

    run(scenario)


def test_the_head_waits_for_the_body_unless_an_empty_piece_sends_it_off() -> None:
    async def scenario() -> None:
        go = asyncio.Event()

        async def streams(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            await go.wait()
            await send({"type": "http.response.body", "body": b"data", "more_body": True})
            await send({"type": "http.response.body", "body": b"y" * 20_000, "more_body": False})

        async with serving(streams) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(close())
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"transfer-encoding: chunked" in head
            go.set()
            assert await reader.read() == b"4\r\ndata\r\n4e20\r\n" + b"y" * 20_000 + b"\r\n0\r\n\r\n"
            writer.close()

    run(scenario)


@pytest.mark.parametrize(
    ("line", "status", "ends"),
    [
        (b"HEAD / HTTP/1.1", 200, b"content-length: 4\r\nconnection: close\r\n\r\n"),
        (b"GET / HTTP/1.1", 304, b"content-length: 4\r\nconnection: close\r\n\r\n"),
        (b"GET / HTTP/1.1", 529, b"\r\n\r\nbody"),
    ],
)
def test_an_answer_has_a_body_only_where_http_gives_it_one(line: bytes, status: int, ends: bytes) -> None:
    async def scenario() -> None:
        async def plain(scope: Scope, receive: Receive, send: Send) -> None:
            await answer(send, b"body", status)

        async with serving(plain) as port:
            assert (await exchange(port, close(line=line))).endswith(ends)

    run(scenario)


def test_an_http_1_0_caller_gets_a_stream_without_chunks() -> None:
    async def scenario() -> None:
        async def streams(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"one ", "more_body": True})
            await send({"type": "http.response.body", "body": b"two", "more_body": False})

        async with serving(streams) as port:
            assert (await exchange(port, b"GET / HTTP/1.0\r\n\r\n")).endswith(b"\r\n\r\none two")

    run(scenario)


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"a\0b"])
def test_an_answer_whose_header_breaks_the_line_becomes_a_500(value: bytes) -> None:
    async def scenario() -> None:
        async def injected(scope: Scope, receive: Receive, send: Send) -> None:
            await answer(send, b"", 200, (b"x", value))

        async with serving(injected) as port:
            reply = await exchange(port, close())
            assert reply.startswith(b"HTTP/1.1 500 ")
            assert b"set-cookie" not in reply

    run(scenario)


def test_an_app_that_fails_gives_a_500_before_its_head_and_a_cut_after_it() -> None:
    async def scenario() -> None:
        async def fails(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/after":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise ValueError

        async with serving(fails) as port:
            assert (await exchange(port, close())).startswith(b"HTTP/1.1 500 ")
            with contextlib.suppress(ConnectionResetError):
                assert b"\r\n0\r\n" not in await exchange(port, close(line=b"GET /after HTTP/1.1"))

    run(scenario)


def test_an_early_answer_leaves_the_connection_usable_once_the_body_has_passed() -> None:
    async def scenario() -> None:
        async def early(scope: Scope, receive: Receive, send: Send) -> None:
            await answer(send, b"no", 413)

        async with serving(early) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 1000)
            assert (await reader.readuntil(b"no")).startswith(b"HTTP/1.1 413 ")
            writer.write(b"x" * 1_999_000 + close())
            assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
            writer.close()

    run(scenario)


def test_one_who_asks_to_continue_is_told_to_and_one_who_is_refused_is_closed() -> None:
    async def scenario() -> None:
        async def choosy(scope: Scope, receive: Receive, send: Send) -> None:
            body = await body_of(receive) if scope["path"] == "/yes" else b"refused"
            await answer(send, body)

        async with serving(choosy) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            ask = b"POST %b HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
            writer.write(ask % b"/yes")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"body")
            assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 ")
            writer.write(ask % b"/no")
            refused = await reader.read()
            assert b"connection: close" in refused
            assert refused.endswith(b"refused")
            writer.close()

    run(scenario)
