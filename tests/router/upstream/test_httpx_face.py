"""The pools behind httpx2's face: what an httpx2 client sees of answers, failures and clocks."""

import asyncio
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import AsyncIterator

import httpx2
import pytest

from router.upstream.transport import PoolTransport
from tests.router.upstream.played import listening, read_request, whole


async def mirror(reader: Reader, writer: Writer) -> None:
    """Answers with the request's head and body."""
    while True:
        head = await read_request(reader)
        body = b""
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                body = await reader.readexactly(int(line.split(b":")[1]))
            if line.startswith(b"transfer-encoding:"):
                while not body.endswith(b"0\r\n\r\n"):
                    body += await reader.read(1000)
        writer.write(whole(head + body, b"set-cookie: a=1", b"set-cookie: b=2"))


def test_a_client_gets_and_posts_over_one_connection() -> None:
    async def main() -> None:
        async with listening(mirror) as server, httpx2.AsyncClient(transport=PoolTransport()) as client:
            url = f"http://127.0.0.1:{server.port}/path?q=1"
            got = await client.get(url)
            assert got.status_code == 200 and got.text.startswith("GET /path?q=1 HTTP/1.1\r\n")
            assert got.headers.get_list("set-cookie") == ["a=1", "b=2"]
            posted = await client.post(url, json={"a": 1})
            assert posted.text.startswith("POST /path?q=1") and posted.text.endswith('{"a":1}')

            async def pieces() -> AsyncIterator[bytes]:
                yield b"one"
                yield b"two"

            streamed = await client.post(url, content=pieces())
            assert streamed.text.endswith("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
            assert server.seen == 1

    asyncio.run(main())


def test_a_stream_that_is_left_closes_its_connection() -> None:
    async def main() -> None:
        async def endless(reader: Reader, writer: Writer) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
            await reader.read()

        async with (
            listening(endless) as server,
            httpx2.AsyncClient(transport=PoolTransport()) as client,
            client.stream("GET", f"http://127.0.0.1:{server.port}/") as answer,
        ):
            assert await anext(answer.aiter_raw()) == b"x"
        await asyncio.wait_for(server.closed.wait(), 5)

    asyncio.run(main())


def test_failures_are_httpx2s_own() -> None:
    async def main() -> None:
        async def mute(reader: Reader, _: Writer) -> None:
            await reader.read()

        async def short(reader: Reader, writer: Writer) -> None:
            await read_request(reader)
            writer.write(whole(b"half")[:-1])

        transport = PoolTransport()
        async with (
            listening(mute) as silent,
            listening(short) as broken,
            httpx2.AsyncClient(transport=transport) as client,
        ):
            with pytest.raises(httpx2.ReadTimeout):
                await client.get(f"http://127.0.0.1:{silent.port}/", timeout=0.05)
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.get(f"http://127.0.0.1:{broken.port}/")
            port = broken.port
        async with httpx2.AsyncClient(transport=PoolTransport()) as client:
            with pytest.raises(httpx2.ConnectError):
                await client.get(f"http://127.0.0.1:{port}/")
            with pytest.raises(httpx2.UnsupportedProtocol):
                await client.head(f"http://127.0.0.1:{port}/")

    asyncio.run(main())
