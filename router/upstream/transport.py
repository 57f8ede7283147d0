"""The same pools behind httpx2's face, for code that speaks httpx: `AsyncClient(transport=PoolTransport())`."""

import asyncio
import os
from collections.abc import AsyncIterator

import httpx2

from router.upstream.answer import NEVER, Answer
from router.upstream.dial import Dialer, Origin, context, proxy_of
from router.upstream.faults import Broken, Silence
from router.upstream.pool import Pool
from router.upstream.settings import Timeouts, Tls

_CONNECT_FAILURES = frozenset({"refused", "dns", "tls", "proxy"})


class PoolTransport(httpx2.AsyncBaseTransport):
    """An httpx2 transport over our pools, one a origin. Answers are not decoded and redirects not followed here."""

    def __init__(self, timeouts: Timeouts | None = None, tls: Tls | None = None, connections: int = 256) -> None:
        self._timeouts = timeouts or Timeouts()
        self._tls = tls or Tls()
        self._connections = connections
        self._pools: dict[Origin, Pool] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method in ("HEAD", "CONNECT"):  # answers without the body that their head describes
            raise httpx2.UnsupportedProtocol(f"{request.method} is not spoken here", request=request)
        origin = Origin.of(str(request.url))
        pool = self._pools.get(origin) or self._open_pool(origin)
        clocks = request.extensions.get("timeout", {})
        read = clocks.get("read") or NEVER
        deadline = asyncio.get_running_loop().time() + self._timeouts.total
        body = _body(request)
        replay = request.method in ("GET", "HEAD", "OPTIONS")
        answer = await pool.open(_head(request), body, first=read, deadline=deadline, replay=replay)
        if isinstance(answer, Silence):
            raise _exception(answer, request)
        answer.clocks(read)
        return httpx2.Response(answer.status, headers=answer.headers, stream=_Stream(answer, request))

    def _open_pool(self, origin: Origin) -> Pool:
        proxy, auth = proxy_of(origin, "", os.environ)
        dialer = Dialer(origin, context(self._tls) if origin.scheme == "https" else None, proxy, auth)
        clocks = self._timeouts
        pool = Pool(dialer, limit=self._connections, connect=clocks.connect, queue=clocks.queue, idle=clocks.idle)
        return self._pools.setdefault(origin, pool)

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.close()


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, answer: Answer, request: httpx2.Request) -> None:
        self._answer = answer
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while data := await self._answer.chunk():
                yield data
        except Broken as broken:
            if broken.reason in ("silence", "deadline"):
                raise httpx2.ReadTimeout(broken.reason, request=self._request) from broken
            raise httpx2.RemoteProtocolError(broken.reason, request=self._request) from broken

    async def aclose(self) -> None:
        self._answer.close()


def _head(request: httpx2.Request) -> bytes:
    lines = [b"%b %b HTTP/1.1\r\n" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%b: %b\r\n" % (name, value) for name, value in request.headers.raw]
    return b"".join([*lines, b"\r\n"])


def _body(request: httpx2.Request) -> bytes | AsyncIterator[bytes]:
    if isinstance(request.stream, httpx2.ByteStream):
        return b"".join(request.stream)
    assert isinstance(request.stream, httpx2.AsyncByteStream)
    if "transfer-encoding" in request.headers:
        return _chunked(request.stream)
    return request.stream.__aiter__()


async def _chunked(stream: httpx2.AsyncByteStream) -> AsyncIterator[bytes]:
    async for piece in stream:
        if piece:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def _exception(silence: Silence, request: httpx2.Request) -> httpx2.TransportError:
    text = f"{silence.reason} {silence.detail}".strip()
    if silence.reason in _CONNECT_FAILURES:
        return httpx2.ConnectError(text, request=request)
    if silence.reason == "connect_timeout":
        return httpx2.ConnectTimeout(text, request=request)
    if silence.reason == "queue_timeout":
        return httpx2.PoolTimeout(text, request=request)
    if silence.reason == "timeout":
        return httpx2.ReadTimeout(text, request=request)
    return httpx2.RemoteProtocolError(text, request=request)
