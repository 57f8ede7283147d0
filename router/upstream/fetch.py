"""Files at URLs that providers answer with: fetched without any key, from public https addresses, never redirected.

A name is looked up once, every address of it must be public, and the connection goes to an address that was looked at,
so that a name which changes its mind in between leads nowhere (FAULTS §3.1 A2). An operator may name further origins or
networks (`fetch_from`). A proxy that the environment names is asked by address too, for the same reason.
"""

import ipaddress
import ssl
import urllib.parse
from collections.abc import Iterable
from time import monotonic
from typing import Final

from router.upstream.answer import Answer
from router.upstream.dial import Dialer, Origin, context
from router.upstream.faults import Silence
from router.upstream.names import Names
from router.upstream.pool import Pool
from router.upstream.settings import Tls

CONNECT: Final = 5.0
FIRST: Final = 60.0  # seconds until a file begins
AGENT: Final = "inference-router/0.1.0"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Forbidden(Exception):
    """A URL that is not fetched, and why."""


class Allowed:
    """What an operator lets us fetch from beside the public network: origins, and networks of addresses."""

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self.origins: frozenset[Origin] = frozenset(Origin.of(each) for each in entries if "://" in each)
        self.networks: tuple[Network, ...] = tuple(
            ipaddress.ip_network(each, strict=False) for each in entries if "://" not in each
        )

    def address(self, text: str) -> bool:
        address = ipaddress.ip_address(text.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address):
            address = _inner(address) or address
        return _public(address) or any(address in each for each in self.networks)


_UNICAST: Final = ipaddress.IPv6Network("2000::/3")  # all that is given out; what lies elsewhere is somebody's own
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # what DNS64 makes of every IPv4 address


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a gateway or the system itself would make of it."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """`is_global` alone holds for IPv6 addresses that nobody routes, some of which end on this machine."""
    unicast = isinstance(address, ipaddress.IPv4Address) or address in _UNICAST
    return unicast and address.is_global and not address.is_multicast


class _Checked(Names):
    """Names whose every address may be fetched from."""

    def __init__(self, names: Names, allowed: Allowed) -> None:
        super().__init__()
        self._names = names
        self._allowed = allowed

    async def find(self, host: str) -> list[str]:
        found = await self._names.find(host)
        if not found or not all(self._allowed.address(each) for each in found):
            raise Forbidden("its host has an address that is not public")
        return found


class Fetcher:
    """Opens URLs. One for each configuration; a connection serves one fetch and is not kept."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._context: ssl.SSLContext | None = None

    async def open(self, url: str, allowed: Allowed, deadline: float, lane: str = "") -> Answer | Silence:
        """The answer with its head in hand, whatever its status. Raises Forbidden."""
        origin, target = _split(url)
        names = self._names if origin in allowed.origins else _Checked(self._names, allowed)
        if origin not in allowed.origins and not _inside(origin.host, allowed):
            if origin.scheme != "https":
                raise Forbidden("it is not https")
            if origin.port != 443:
                raise Forbidden("its port is not the one of https")
        secure = origin.scheme == "https"
        if secure and self._context is None:
            self._context = context(Tls())
        pool = Pool(Dialer(origin, self._context if secure else None, names=names), limit=1, connect=CONNECT,
                    queue=CONNECT, idle=0.0)  # fmt: skip
        head = (
            f"GET {target} HTTP/1.1\r\nhost: {origin.authority()}\r\nuser-agent: {AGENT}\r\n"
            "accept: */*\r\naccept-encoding: identity\r\nconnection: close\r\n\r\n"
        ).encode("ascii")
        until = min(deadline, monotonic() + FIRST)
        answer = await pool.open(head, b"", first=until - monotonic(), deadline=deadline, replay=True, lane=lane)
        pool.retire()
        return answer


def _inside(host: str, allowed: Allowed) -> bool:
    """Whether a URL names an address of a network that the operator allows."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in each for each in allowed.networks)


def _split(url: str) -> tuple[Origin, str]:
    """Origin and request target. Raises Forbidden for what two readers could read as two places."""
    if not url.isascii() or not url.isprintable() or any(each in url for each in ' \\"<>^`{|}'):
        raise Forbidden("it is not written as a URL is")
    try:
        parts = urllib.parse.urlsplit(url)
        origin = Origin.of(url)
    except ValueError:
        raise Forbidden("it is no http(s) URL") from None
    if "@" in parts.netloc or not _is_host(origin.host):
        raise Forbidden("its host is not written as a host is")
    return origin, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _is_host(host: str) -> bool:
    """A name, or an address in its usual form: `127.1`, `0x7f.1` and `2130706433` are what resolvers disagree on."""
    try:
        ipaddress.ip_address(host)
        return True
    except ValueError:
        pass
    last = host.rstrip(".").rpartition(".")[2]
    if not last or last[:1].isdigit() or last.lower().startswith("0x"):
        return False
    return all(label and len(label) <= 63 for label in host.rstrip(".").split("."))
