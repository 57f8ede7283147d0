"""What code that speaks httpx2 gets of our pools: its own responses and exceptions, and connections that are let go."""

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import trustme

from router.upstream.settings import Timeouts, Tls
from router.upstream.transport import PoolTransport
from tests.router.upstream.scripted import BEGUN, HELLO, End, Scripted, Step, descriptors, looped, settled


def client(upstream: Scripted, **more: object) -> httpx2.AsyncClient:
    """No proxies or other settings of the environment; ten seconds for everything unless said otherwise."""
    given = {"transport": PoolTransport(), "timeout": 10.0, **more}
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{upstream.port}", trust_env=False, **given)  # type: ignore[arg-type]


@looped
async def test_a_get_and_a_posted_json_arrive_as_they_were_meant_over_one_connection() -> None:
    async with Scripted([HELLO]) as upstream, client(upstream) as http:
        got = await http.get("/a%20b?q=1&q=%C3%A9", headers={"x-own": "yes"})
        assert (got.status_code, got.text, got.headers["content-length"]) == (200, "hello", "5")
        assert (await http.post("/v1", json={"text": "é"})).text == "hello"
        line, *lines = upstream.requests[0].split(b"\r\n")
        assert line == b"GET /a%20b?q=1&q=%C3%A9 HTTP/1.1"
        assert {each.lower() for each in lines} >= {b"x-own: yes", b"host: 127.0.0.1:%d" % upstream.port}
        assert json.loads(upstream.requests[1].partition(b"\r\n\r\n")[2]) == {"text": "é"}
        assert upstream.accepted == 1


@looped
async def test_a_body_of_unknown_length_goes_up_in_chunks_and_one_of_known_length_does_not() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one", b"", b"three"):  # an empty chunk would end the body
            yield piece

    async with Scripted([HELLO]) as upstream, client(upstream) as http:
        await http.post("/", content=pieces())
        assert upstream.requests[0].endswith(b"\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\n\r\n")
        await http.post("/", content=pieces(), headers={"content-length": "8"})
        assert upstream.requests[1].endswith(b"\r\n\r\nonethree")


@looped
async def test_headers_that_come_twice_are_both_there() -> None:
    said = HELLO.replace(b"200 OK", b"200 OK\r\nset-cookie: a=1\r\nset-cookie: b=2")
    async with Scripted([said]) as upstream, client(upstream) as http:
        assert (await http.get("/")).headers.get_list("set-cookie") == ["a=1", "b=2"]


@looped
async def test_a_compressed_answer_is_httpx2s_to_decode() -> None:
    body = gzip.compress(b"hello" * 100)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with Scripted([head + body]) as upstream, client(upstream) as http:
        assert (await http.get("/")).text == "hello" * 100


@looped
async def test_a_stream_is_given_on_as_it_comes() -> None:
    more = asyncio.Event()
    async with Scripted([BEGUN, more, b"llo"]) as upstream, client(upstream) as http, http.stream("GET", "/") as got:
        pieces = got.aiter_raw()
        assert await anext(pieces) == b"he"
        more.set()
        assert [piece async for piece in pieces] == [b"llo"]


@looped
async def test_a_stream_that_is_left_early_closes_its_connection_and_the_next_call_opens_another() -> None:
    async with Scripted([BEGUN, asyncio.Event()], [HELLO]) as upstream, client(upstream) as http:
        async with http.stream("GET", "/") as got:
            assert await anext(got.aiter_raw()) == b"he"
        await settled()
        assert upstream.live == 0
        assert (await http.get("/")).text == "hello"
        assert upstream.accepted == 2


@looped
async def test_a_redirect_is_not_followed_by_the_transport() -> None:
    said = b"HTTP/1.1 307 Away\r\nlocation: http://elsewhere.example/\r\ncontent-length: 0\r\n\r\n"
    async with Scripted([said]) as upstream, client(upstream) as http:
        assert (await http.post("/", content=b"prompt")).status_code == 307
        assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("script", "raised"),
    [
        ([asyncio.Event()], httpx2.ReadTimeout),
        ([BEGUN, asyncio.Event()], httpx2.ReadTimeout),
        ([BEGUN, End.CLOSE], httpx2.RemoteProtocolError),
        ([BEGUN, End.RESET], httpx2.RemoteProtocolError),
        ([End.CLOSE], httpx2.RemoteProtocolError),
        ([b"not HTTP\r\n\r\n"], httpx2.RemoteProtocolError),
    ],
    ids=["silent", "silent in the body", "cut off", "reset", "closed unanswered", "not HTTP"],
)
@looped
async def test_what_fails_is_raised_as_httpx2s_own_exception(
    script: list[Step], raised: type[httpx2.TransportError]
) -> None:
    async with Scripted(script) as upstream, client(upstream, timeout=0.05) as http:
        with pytest.raises(raised) as caught:
            await http.get("/")
        assert caught.value.request.url.port == upstream.port
        await settled()
        assert upstream.live == 0


@looped
async def test_who_cannot_be_reached_is_a_connect_error() -> None:
    async with Scripted([HELLO]) as upstream:
        pass
    async with client(upstream) as http:
        with pytest.raises(httpx2.ConnectError, match="refused"):
            await http.get("/")
        with pytest.raises(httpx2.ConnectError, match="dns"):
            await http.get("http://no-such-host.invalid/")


@looped
async def test_the_clocks_for_a_place_and_for_connecting_are_exceptions_of_their_own() -> None:
    short = Timeouts(connect=0.05, queue=0.05)
    async with Scripted([asyncio.Event()]) as upstream:
        async with client(upstream, transport=PoolTransport(short, connections=1)) as http:
            busy = asyncio.create_task(http.get("/"))
            await upstream.until(lambda: len(upstream.requests) == 1)
            with pytest.raises(httpx2.PoolTimeout):
                await http.get("/")
            busy.cancel()
            await asyncio.gather(busy, return_exceptions=True)
        async with client(upstream, transport=PoolTransport(short)) as http:
            with pytest.raises(httpx2.ConnectTimeout):  # it waits for a handshake that it does not know
                await http.get(f"https://127.0.0.1:{upstream.port}/")


@looped
async def test_the_total_ends_a_call_whose_client_has_no_clock() -> None:
    transport = PoolTransport(Timeouts(total=0.05))
    async with (
        Scripted([BEGUN, asyncio.Event()]) as upstream,
        client(upstream, transport=transport, timeout=None) as http,
    ):
        with pytest.raises(httpx2.ReadTimeout, match="deadline"):
            await http.get("/")


@pytest.mark.parametrize("method", ["HEAD", "CONNECT"])
@looped
async def test_methods_whose_answers_have_no_body_of_their_own_are_refused_before_anything_is_sent(method: str) -> None:
    async with Scripted([HELLO]) as upstream, client(upstream) as http:
        with pytest.raises(httpx2.UnsupportedProtocol, match=method):
            await http.request(method, "/")
        assert upstream.accepted == 0


@pytest.mark.parametrize(("method", "sent"), [("GET", 3), ("POST", 2)])
@looped
async def test_the_keep_alive_race_is_run_again_for_a_get_and_told_for_a_post(method: str, sent: int) -> None:
    async with Scripted([HELLO], [End.CLOSE], [HELLO]) as upstream, client(upstream) as http:
        await http.get("/")
        if method == "GET":
            assert (await http.get("/")).text == "hello"
        else:
            with pytest.raises(httpx2.RemoteProtocolError):
                await http.post("/", content=b"paid for")
        assert len(upstream.requests) == sent


@looped
async def test_tls_is_verified_against_the_configured_authority(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    async with Scripted([HELLO], tls=tls) as upstream:
        url = f"https://127.0.0.1:{upstream.port}/"
        async with client(upstream, transport=PoolTransport(tls=Tls(ca=str(tmp_path / "ca.pem")))) as http:
            assert (await http.get(url)).text == "hello"
        async with client(upstream) as http:
            with pytest.raises(httpx2.ConnectError, match="tls"):
                await http.get(url)


@looped
async def test_calls_cancelled_at_any_turn_leave_nothing_when_the_client_is_closed() -> None:
    async with Scripted([BEGUN, b"llo"]) as upstream:
        before = descriptors()
        async with client(upstream) as http:
            for turns in range(60):
                call = asyncio.create_task(http.get("/"))
                await settled(turns)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
            assert (await http.get("/")).text == "hello"
        await settled()
        assert upstream.live == 0
        assert descriptors() == before
