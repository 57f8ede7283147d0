"""A TCP or TLS connection to an origin, straight or through an outbound proxy's tunnel; failures said by name.

A proxy is always asked by CONNECT, for http origins too, so that the bytes behind it are the same either way.
Proxies of the environment are read as urllib does (HTTPS_PROXY, HTTP_PROXY, NO_PROXY, and their lower-case forms).
"""

import asyncio
import base64
import socket
import ssl
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field

from router.upstream.connection import Connection
from router.upstream.faults import Silence
from router.upstream.names import Names
from router.upstream.settings import Tls


@dataclass(frozen=True, slots=True)
class Origin:
    """scheme://host:port; what a key may be bound to."""

    scheme: str
    host: str
    port: int

    @staticmethod
    def of(url: str) -> "Origin":
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http(s) URL: {url}")
        return Origin(parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))

    def authority(self) -> str:
        """As it stands in a Host header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Dialer:
    """How one upstream is reached."""

    origin: Origin
    context: ssl.SSLContext | None = None
    proxy: Origin | None = None
    proxy_auth: str = ""  # user:password
    names: Names = field(default_factory=Names)

    async def dial(self, connection: Connection, seconds: float) -> Silence | None:
        """Connect `connection`; None when it stands."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                if self.proxy is not None:
                    return await self._tunnel(loop, connection)
                found = await self.names.find(self.origin.host)
                return await self._first_of(loop, connection, found, loop.time() + seconds)
        except TimeoutError:
            return Silence("connect_timeout", sent=False)
        except ssl.SSLError as error:
            return Silence("tls", sent=False, detail=getattr(error, "verify_message", "") or error.reason or "")
        except socket.gaierror:
            return Silence("dns", sent=False)
        except OSError as error:
            return Silence("refused", sent=False, detail=error.strerror or "")

    async def _first_of(
        self, loop: asyncio.AbstractEventLoop, connection: Connection, found: list[str], until: float
    ) -> Silence | None:
        """Connect to the first address that takes us. One that hangs leaves the others their share of the time."""
        for number, address in enumerate(found, 1):
            last = number == len(found)
            share = (until - loop.time()) / (len(found) - number + 1)
            try:
                async with asyncio.timeout(None if last else share):
                    await loop.create_connection(
                        lambda: connection,
                        address,
                        self.origin.port,
                        ssl=self.context,
                        server_hostname=self.origin.host if self.context else None,
                    )
                    return None
            except ssl.SSLError:
                raise
            except (OSError, TimeoutError):
                if last:
                    raise
        return Silence("dns", sent=False)

    async def _tunnel(self, loop: asyncio.AbstractEventLoop, connection: Connection) -> Silence | None:
        assert self.proxy is not None
        host = f"[{self.origin.host}]" if ":" in self.origin.host else self.origin.host
        target = f"{host}:{self.origin.port}"
        auth = ""
        if self.proxy_auth:
            auth = f"proxy-authorization: Basic {base64.b64encode(self.proxy_auth.encode()).decode()}\r\n"
        (address, *_) = await self.names.find(self.proxy.host)
        transport, tunnel = await loop.create_connection(lambda: _Tunnel(loop), address, self.proxy.port)
        try:
            transport.write(f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{auth}\r\n".encode("ascii"))
            status = await tunnel.status
            if status != 200:
                transport.abort()
                return Silence("proxy", sent=False, detail=str(status))
            if self.context is None:
                transport.set_protocol(connection)
                connection.connection_made(transport)
                return None
            transport.set_protocol(connection)
            secured = await loop.start_tls(transport, connection, self.context, server_hostname=self.origin.host)
            if secured is None:
                return Silence("tls", sent=False)
            connection.connection_made(secured)
            return None
        except BaseException:
            transport.abort()
            raise


class _Tunnel(asyncio.Protocol):
    """Reads a proxy's answer to CONNECT: its status, or 0 where it hung up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.status: asyncio.Future[int] = loop.create_future()
        self._head = b""

    def data_received(self, data: bytes) -> None:
        self._head += data
        if (b"\r\n\r\n" in self._head or len(self._head) > 8192) and not self.status.done():
            words = self._head.split(b" ", 2)
            whole = self._head.endswith(b"\r\n\r\n") and len(words) > 1 and words[1].isdigit()
            self.status.set_result(int(words[1]) if whole else 0)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.status.done():
            self.status.set_result(0)


def context(tls: Tls) -> ssl.SSLContext:
    """Verification on, the system's store (SSL_CERT_FILE honoured) unless `ca` names another."""
    made = ssl.create_default_context(cafile=tls.ca or None)
    if tls.cert:
        made.load_cert_chain(tls.cert, tls.key or None)
    return made


def proxy_of(origin: Origin, configured: str, env: Mapping[str, str]) -> tuple[Origin | None, str]:
    """The outbound proxy for an origin, and its user:password; loopback is always reached straight."""
    url = configured
    if not url:
        if origin.host in ("localhost", "127.0.0.1", "::1"):
            return None, ""
        proxies = {
            scheme: env.get(f"{scheme}_proxy") or env.get(f"{scheme.upper()}_PROXY") or ""
            for scheme in ("http", "https", "no")
        }
        if urllib.request.proxy_bypass_environment(origin.host, proxies):  # type: ignore[attr-defined]
            return None, ""
        url = proxies[origin.scheme]
    if not url:
        return None, ""
    parts = urllib.parse.urlsplit(url if "//" in url else f"http://{url}")
    auth = (
        f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}" if parts.username else ""
    )
    return Origin("http", parts.hostname or "", parts.port or 80), auth
