"""How an upstream is reached: TLS that trusts whom it is told to, and a proxy's tunnel, which may fail anywhere."""

import asyncio
import base64
import ssl
from pathlib import Path

import pytest
import trustme
import uvloop

from router.upstream.answer import Answer
from router.upstream.dial import Dialer, Origin, context, proxy_of
from router.upstream.faults import Silence
from router.upstream.pool import Pool
from router.upstream.settings import Tls
from tests.router.upstream.scripted import (
    GET,
    HELLO,
    End,
    Script,
    Scripted,
    Whole,
    answered,
    begun,
    looped,
    run,
    settled,
    silenced,
    whole,
)

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
AUTHORITY = trustme.CA()
STRANGER = trustme.CA()
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(file)
    return Tls(ca=str(file))


def shown(authority: trustme.CA = AUTHORITY, name: str = "localhost") -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(made)
    return made


def reaching(
    port: int,
    tls: Tls | None = None,
    proxy: int = 0,
    auth: str = "",
    *,
    host: str = "localhost",
    connect: float = 5.0,
    limit: int = 2,
) -> Pool:
    origin = Origin("http" if tls is None else "https", host, port)
    through = Origin("http", "127.0.0.1", proxy) if proxy else None
    dialer = Dialer(origin, None if tls is None else context(tls), through, auth)
    return Pool(dialer, limit=limit, connect=connect, queue=1, idle=10)


class Proxy(Scripted):
    """A CONNECT proxy: it says what its script says, and where that was 200, carries bytes until one side ends."""

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if not await super()._exchange(reader, writer) or self.scripts[-1] != [ESTABLISHED]:
            return False
        host, _, port = self.requests[-1].split()[1].decode().rpartition(":")
        inner_reader, inner_writer = await asyncio.open_connection(host.strip("[]"), int(port))

        async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                sink.write(data)

        ways = [asyncio.ensure_future(carry(*each)) for each in ((reader, inner_writer), (inner_reader, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            inner_writer.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        return False


# TLS


@pytest.mark.parametrize("loop", LOOPS)
def test_an_upstream_of_the_configured_authority_is_trusted_and_its_connection_kept(trusting: Tls, loop: str) -> None:
    async def story() -> None:
        async with Scripted([HELLO], tls=shown()) as upstream:
            pool = reaching(upstream.port, trusting)
            for _ in range(3):
                assert await (await answered(pool)).read(9) == b"hello"
            assert (upstream.accepted, pool.opened) == (1, 1)
            await pool.close()
            await settled(50)

    run(story(), LOOPS[loop])


@pytest.mark.parametrize(
    ("name", "issuer", "detail"),
    [
        ("other.example", AUTHORITY, "Hostname mismatch"),
        ("localhost", STRANGER, "unable to get local issuer"),
    ],
    ids=["another name", "an unknown authority"],
)
@looped
async def test_a_certificate_nobody_vouches_for_is_refused_before_a_word_is_sent(
    name: str, issuer: trustme.CA, detail: str, trusting: Tls
) -> None:
    async with Scripted([HELLO], tls=shown(issuer, name)) as upstream:
        pool = reaching(upstream.port, trusting)
        silence = await silenced(pool)
        assert (silence.reason, silence.sent) == ("tls", False)
        assert detail in silence.detail
        await settled()
        assert (upstream.requests, pool.opened) == ([], 0)


@looped
async def test_a_private_authority_is_trusted_only_where_it_is_configured() -> None:
    async with Scripted([HELLO], tls=shown()) as upstream:
        silence = await silenced(reaching(upstream.port, Tls()))
        assert (silence.reason, silence.sent, upstream.requests) == ("tls", False, [])


@looped
async def test_an_upstream_that_answers_a_handshake_in_plain_http_is_a_tls_failure(trusting: Tls) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        pool = reaching(server.sockets[0].getsockname()[1], trusting)
        silence = await silenced(pool)
        assert (silence.reason, silence.sent, pool.opened) == ("tls", False, 0)
        await settled()


@looped
async def test_a_client_certificate_is_shown_where_one_is_configured(trusting: Tls, tmp_path: Path) -> None:
    mine = tmp_path / "mine.pem"
    AUTHORITY.issue_cert("router.example").private_key_and_cert_chain_pem.write_to_path(mine)
    wants = shown()
    wants.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.configure_trust(wants)
    async with Scripted([HELLO], tls=wants) as upstream:
        pool = reaching(upstream.port, Tls(ca=trusting.ca, cert=str(mine)))
        assert await (await answered(pool)).read(9) == b"hello"
        await pool.close()
        assert not isinstance(
            await reaching(upstream.port, trusting).open(
                GET, b"", first=5, deadline=asyncio.get_running_loop().time() + 5, replay=False
            ),
            Answer,
        )
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_that_closes_while_it_is_handed_over_is_not_used(trusting: Tls, loop: str) -> None:
    """In TLS an answer and the closing behind it are read at once: before the first in line wakes."""

    async def story() -> None:
        gate = asyncio.Event()
        async with Scripted([gate, HELLO, End.CLOSE], [HELLO], tls=shown()) as upstream:
            pool = reaching(upstream.port, trusting, limit=1)
            holder = asyncio.create_task(whole(pool))
            await upstream.until(lambda: len(upstream.requests) == 1)
            (waiter,) = await begun(1, pool)
            gate.set()
            assert isinstance(await holder, Whole) and isinstance(await waiter, Whole)
            assert (len(upstream.requests), upstream.accepted, pool.opened) == (2, 2, 1)
            await pool.close()
            await settled(50)

    run(story(), LOOPS[loop])


# Tunnels


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("secure", [True, False], ids=["https", "http"])
def test_an_upstream_behind_a_proxy_is_reached_through_one_tunnel(secure: bool, trusting: Tls, loop: str) -> None:
    async def story() -> None:
        async with Scripted([HELLO], tls=shown() if secure else None) as upstream, Proxy([ESTABLISHED]) as proxy:
            pool = reaching(upstream.port, trusting if secure else None, proxy.port, "ann:s:e")
            for _ in range(2):
                assert await (await answered(pool)).read(9) == b"hello"
            line, host, auth = proxy.requests[0].split(b"\r\n")[:3]
            assert line == b"CONNECT localhost:%d HTTP/1.1" % upstream.port
            assert host == b"host: localhost:%d" % upstream.port
            assert auth == b"proxy-authorization: Basic " + base64.b64encode(b"ann:s:e")
            assert (len(proxy.requests), upstream.accepted) == (1, 1)
            assert b"proxy-authorization" not in b"".join(upstream.requests)
            await pool.close()
            await settled(50)
            assert (pool.opened, proxy.live, upstream.live) == (0, 0, 0)

    run(story(), LOOPS[loop])


@looped
async def test_no_credentials_go_to_a_proxy_that_has_none_configured() -> None:
    async with Scripted([HELLO]) as upstream, Proxy([ESTABLISHED]) as proxy:
        pool = reaching(upstream.port, None, proxy.port)
        await (await answered(pool)).read(9)
        assert b"authorization" not in proxy.requests[0].lower()
        await pool.close()


@looped
async def test_a_certificate_of_another_name_is_refused_behind_a_proxy_too(trusting: Tls) -> None:
    async with Scripted([HELLO], tls=shown(name="other.example")) as upstream, Proxy([ESTABLISHED]) as proxy:
        pool = reaching(upstream.port, trusting, proxy.port)
        silence = await silenced(pool)
        assert (silence.reason, silence.sent) == ("tls", False)
        await settled()
        assert (upstream.requests, pool.opened, proxy.live) == ([], 0, 0)


@pytest.mark.parametrize(
    ("says", "detail"),
    [
        ([b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\n"], "407"),
        ([b"HTTP/1.1 502 Bad Gateway\r\n\r\n"], "502"),
        ([b"HTTP/1.1 2", End.CLOSE], "0"),
        ([End.RESET], "0"),
        ([b"what?\r\n\r\n"], "0"),
        ([b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 2000, asyncio.Event()], "0"),
        ([ESTABLISHED + b"and more"], "0"),
    ],
    ids=["407", "502", "cut off", "reset", "not HTTP", "endless", "bytes behind its answer"],
)
@looped
async def test_a_proxy_that_gives_no_tunnel_is_said_by_name_and_nothing_was_sent(says: Script, detail: str) -> None:
    async with Proxy(says) as proxy:
        pool = reaching(443, Tls(), proxy.port, host="upstream.example")
        assert await silenced(pool) == Silence("proxy", sent=False, detail=detail)
        await settled()
        assert (pool.opened, proxy.live) == (0, 0)


@looped
async def test_a_proxy_that_never_answers_ends_on_the_connect_clock() -> None:
    async with Proxy([asyncio.Event()]) as proxy:
        pool = reaching(443, Tls(), proxy.port, host="upstream.example", connect=0.05)
        assert await silenced(pool) == Silence("connect_timeout", sent=False)
        await settled()
        assert (pool.opened, proxy.live) == (0, 0)


@looped
async def test_an_address_of_ip_version_6_is_bracketed_where_a_proxy_reads_it() -> None:
    async with Proxy([b"HTTP/1.1 503 No\r\n\r\n"]) as proxy:
        await silenced(reaching(8000, None, proxy.port, host="2001:db8::1"))
        assert proxy.requests[0].startswith(b"CONNECT [2001:db8::1]:8000 HTTP/1.1\r\nhost: [2001:db8::1]:8000\r\n")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("proxied", [True, False], ids=["behind a proxy", "straight"])
def test_a_dial_cancelled_at_any_turn_leaves_no_connection(proxied: bool, trusting: Tls, loop: str) -> None:
    async def story() -> None:
        tls = shown(name="127.0.0.1")  # no resolver's thread between the turns
        async with Scripted([HELLO], tls=tls) as upstream, Proxy([ESTABLISHED]) as proxy:
            for turns in range(400):
                pool = reaching(upstream.port, trusting, proxy.port if proxied else 0, host="127.0.0.1")
                call = asyncio.ensure_future(answered(pool))
                await settled(turns)
                ended = call.done()
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
                await pool.close()
                async with asyncio.timeout(5):
                    await proxy.until_gone()
                    await upstream.until_gone()
                    while pool.opened:
                        await settled()
                assert pool.inflight == 0
                if ended:
                    return
            raise AssertionError("it never ended")

    run(story(), LOOPS[loop])


# Whom the environment names


def test_the_environments_proxy_is_taken_by_scheme_and_never_for_loopback_or_an_excepted_host() -> None:
    env = {"HTTPS_PROXY": "http://ann:p%40ss@proxy.example:3128", "http_proxy": "plain.example", "NO_PROXY": ".inside"}
    assert proxy_of(Origin.of("https://api.example/v1"), "", env) == (
        Origin("http", "proxy.example", 3128),
        "ann:p@ss",
    )
    assert proxy_of(Origin.of("http://api.example"), "", env) == (Origin("http", "plain.example", 80), "")
    for url in ("https://127.0.0.1:8000", "http://localhost", "http://[::1]:11434", "https://gpu.inside"):
        assert proxy_of(Origin.of(url), "", env) == (None, "")
    assert proxy_of(Origin.of("http://localhost"), "http://own:1", env)[0] == Origin("http", "own", 1)
