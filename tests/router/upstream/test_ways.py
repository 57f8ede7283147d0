"""How an upstream is reached and what is sent to it: TLS, a proxy's tunnel, bodies that are streamed up."""

import asyncio
import base64
import ssl
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from router.upstream.answer import Answer
from router.upstream.dial import Origin, context, proxy_of
from router.upstream.faults import Silence
from router.upstream.settings import Tls
from tests.router.upstream.played import HEAD, asked, listening, pooled, read_request, whole


async def hello(reader: Reader, writer: Writer) -> None:
    while True:
        await read_request(reader)
        writer.write(whole(b"hello"))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """The operator's `tls.ca`."""
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return Tls(ca=str(file))


def serving_tls(authority: trustme.CA, name: str) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(made)
    return made


def test_a_server_of_the_named_authority_is_trusted(authority: trustme.CA, trusting: Tls) -> None:
    async def main() -> None:
        tls = serving_tls(authority, "localhost")
        async with (
            listening(hello, ssl=tls) as server,
            pooled(server.port, scheme="https", host="localhost", context=context(trusting)) as pool,
        ):
            for _ in range(2):
                assert await (await asked(pool)).read(10) == b"hello"
            assert server.seen == 1

    asyncio.run(main())


@pytest.mark.parametrize("why", ["another name", "an unknown authority", "no TLS at all"])
def test_whom_nobody_vouches_for_is_told_nothing(why: str, authority: trustme.CA, trusting: Tls) -> None:
    async def main() -> None:
        heard = b""

        async def listens(reader: Reader, _: Writer) -> None:
            nonlocal heard
            heard += await reader.read()

        tls = (
            None
            if why == "no TLS at all"
            else serving_tls(authority, "other.example" if "name" in why else "localhost")
        )
        ours = context(Tls() if "authority" in why else trusting)
        async with (
            listening(listens, ssl=tls) as server,
            pooled(server.port, scheme="https", host="localhost", context=ours, connect=0.5) as pool,
        ):
            silence = await asked(pool)
            assert isinstance(silence, Silence) and not silence.sent
            assert silence.reason == ("connect_timeout" if tls is None else "tls")
            assert b"POST" not in heard and pool.opened == 0

    asyncio.run(main())


class Proxy:
    """A real CONNECT proxy, of the few lines that takes."""

    def __init__(self, says: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.says = says
        self.heads: list[bytes] = []

    async def __call__(self, reader: Reader, writer: Writer) -> None:
        head = await read_request(reader)
        self.heads.append(head)
        writer.write(self.says)
        if b" 200 " not in self.says:
            return
        host, port = head.split()[1].decode().rsplit(":", 1)
        there_reader, there_writer = await asyncio.open_connection(host, int(port))

        async def carry(source: Reader, sink: Writer) -> None:
            while data := await source.read(65_536):
                sink.write(data)
            sink.close()

        try:
            await asyncio.gather(carry(reader, there_writer), carry(there_reader, writer))
        finally:
            there_writer.transport.abort()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_upstream_is_reached_through_a_proxys_tunnel(scheme: str, authority: trustme.CA, trusting: Tls) -> None:
    async def main() -> None:
        proxy = Proxy()
        tls = serving_tls(authority, "localhost") if scheme == "https" else None
        async with listening(hello, ssl=tls) as server, listening(proxy) as between:
            way = {"proxy": Origin("http", "127.0.0.1", between.port), "proxy_auth": "ann:secret"}
            ours = context(trusting) if tls else None
            async with pooled(server.port, scheme=scheme, host="localhost", context=ours, **way) as pool:
                for _ in range(2):
                    assert await (await asked(pool)).read(10) == b"hello"
            assert len(proxy.heads) == 1
            assert proxy.heads[0].startswith(b"CONNECT localhost:%d HTTP/1.1\r\n" % server.port)
            assert b"proxy-authorization: Basic " + base64.b64encode(b"ann:secret") in proxy.heads[0]

    asyncio.run(main())


@pytest.mark.parametrize("says", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"nonsense\r\n\r\n", b""])
def test_a_proxy_that_refuses_is_said_by_name(says: bytes) -> None:
    async def main() -> None:
        async with listening(Proxy(says)) as between:
            way = Origin("http", "127.0.0.1", between.port)
            async with pooled(80, host="upstream.example", proxy=way) as pool:
                silence = await asked(pool)
                assert (silence.reason, silence.sent, pool.opened) == ("proxy", False, 0)

    asyncio.run(main())


def test_the_environments_proxy_is_used_but_never_for_loopback() -> None:
    env = {"HTTPS_PROXY": "http://ann:p%40ss@proxy.example:3128", "NO_PROXY": "inside.example"}
    found = proxy_of(Origin.of("https://api.example/v1"), "", env)
    assert found == (Origin("http", "proxy.example", 3128), "ann:p@ss")
    for url in ("https://inside.example", "http://api.example", "https://127.0.0.1:8000", "https://localhost"):
        assert proxy_of(Origin.of(url), "", env) == (None, "")
    assert proxy_of(Origin.of("http://127.0.0.1"), "http://other:1", {})[0] == Origin("http", "other", 1)


# Bodies that are streamed up

UPLOAD = HEAD.replace(b"content-length: 0", b"transfer-encoding: chunked")


def test_a_body_is_sent_piece_by_piece_as_it_comes() -> None:
    async def main() -> None:
        heard: asyncio.Queue[bytes] = asyncio.Queue()

        async def listens(reader: Reader, writer: Writer) -> None:
            await read_request(reader)
            while (piece := await reader.readuntil(b"\r\n")) != b"0\r\n":
                heard.put_nowait((await reader.readexactly(int(piece, 16) + 2))[:-2])
            await reader.readuntil(b"\r\n")
            writer.write(whole(b"thanks"))

        async def pieces() -> AsyncIterator[bytes]:
            for word in (b"one", b"two"):
                yield b"%x\r\n%b\r\n" % (len(word), word)
                assert await asyncio.wait_for(heard.get(), 5) == word  # it is there before the next one is asked for
            yield b"0\r\n\r\n"

        async with listening(listens) as server, pooled(server.port) as pool:
            answer = await pool.open(UPLOAD, pieces(), first=5, deadline=1e9, replay=False)
            assert isinstance(answer, Answer) and await answer.read(10) == b"thanks"

    asyncio.run(main())


def test_an_upstream_that_answers_early_ends_the_upload_and_loses_its_connection() -> None:
    async def main() -> None:
        asked_for = 0

        async def refuses(reader: Reader, writer: Writer) -> None:
            await read_request(reader)
            writer.write(whole(b"too large").replace(b"200 OK", b"413 Content Too Large"))
            await reader.read()

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal asked_for
            while asked_for < 1000:
                asked_for += 1
                yield b"1\r\nx\r\n"
                await asyncio.sleep(0.001)

        async with listening(refuses) as server, pooled(server.port) as pool:
            answer = await pool.open(UPLOAD, pieces(), first=5, deadline=1e9, replay=False)
            assert isinstance(answer, Answer) and (answer.status, await answer.read(100)) == (413, b"too large")
            assert asked_for < 1000
            await asyncio.wait_for(server.closed.wait(), 5)
            assert pool.opened == 0

    asyncio.run(main())


def test_a_caller_who_breaks_off_leaves_no_half_request_that_could_be_answered() -> None:
    async def main() -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"1\r\nx\r\n"
            raise EOFError

        async def listens(reader: Reader, writer: Writer) -> None:
            await reader.read()

        async with listening(listens) as server, pooled(server.port) as pool:
            silence = await pool.open(UPLOAD, pieces(), first=5, deadline=1e9, replay=False)
            assert silence == Silence("upload", sent=True)
            await asyncio.wait_for(server.closed.wait(), 5)
            assert pool.opened == 0

    asyncio.run(main())


def test_an_upstream_that_does_not_read_stops_the_upload() -> None:
    async def main() -> None:
        given = 0

        async def deaf(reader: Reader, _: Writer) -> None:
            await asyncio.Event().wait()

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal given
            while True:
                given += 65_536
                yield b"10000\r\n" + b"x" * 65_536 + b"\r\n"

        async with listening(deaf, limit=65_536) as server, pooled(server.port) as pool:
            task = asyncio.create_task(pool.open(UPLOAD, pieces(), first=60, deadline=1e9, replay=False))
            before = -1
            while before != given:
                before = given
                await asyncio.sleep(0.1)
            assert given < 32 * 1024 * 1024
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def test_a_client_certificate_is_shown_where_one_is_set(authority: trustme.CA, trusting: Tls, tmp_path: Path) -> None:
    async def main() -> None:
        mine = tmp_path / "mine.pem"
        authority.issue_cert("router.example").private_key_and_cert_chain_pem.write_to_path(mine)
        tls = serving_tls(authority, "localhost")
        tls.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(tls)
        shown = context(Tls(ca=trusting.ca, cert=str(mine)))
        async with listening(hello, ssl=tls) as server:
            async with pooled(server.port, scheme="https", host="localhost", context=shown) as pool:
                assert await (await asked(pool)).read(10) == b"hello"
            async with pooled(server.port, scheme="https", host="localhost", context=context(trusting)) as pool:
                assert isinstance(await asked(pool), Silence)

    asyncio.run(main())
