"""Where a host is: asked for in a thread of its own, remembered, and believed for longer while nobody answers.

The loop's own way has four threads for all: a name server that hangs for one host would keep every other from being
reached. Here each host has at most one question open, in a daemon thread that nobody waits for at the end.
"""

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

import msgspec

FRESH: Final = 30.0  # seconds for which an answer is not asked for again
STALE: Final = 300.0  # and for which it serves while the next one is waited for

Ask = Callable[[str], list[str]]


def addresses(host: str) -> list[str]:
    """The system's answer, in its order. Raises socket.gaierror."""
    found: list[Any] = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Known(msgspec.Struct):
    addresses: list[str]
    at: float


class Names:
    """`ask` may block for as long as it likes. One for the whole process."""

    def __init__(self, ask: Ask = addresses, clock: Callable[[], float] = monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._known: dict[str, Known] = {}
        self._asking: dict[str, asyncio.Future[list[str]]] = {}

    async def find(self, host: str) -> list[str]:
        """At once where it was known of late, else in the name server's time. Raises socket.gaierror."""
        if is_address(host):
            return [host]
        known = self._known.get(host)
        age = self._clock() - known.at if known is not None else STALE
        if known is not None and age < FRESH:
            return known.addresses
        asking = self._asking.get(host) or self._begin(host)
        if known is not None and age < STALE:
            return known.addresses
        return await asyncio.shield(asking)

    def _begin(self, host: str) -> "asyncio.Future[list[str]]":
        loop = asyncio.get_running_loop()
        asking: asyncio.Future[list[str]] = loop.create_future()
        asking.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be waiting for it
        self._asking[host] = asking

        def ended(found: list[str] | None, error: OSError | None) -> None:
            self._asking.pop(host, None)
            if found:
                self._known[host] = Known(found, self._clock())
            if asking.done():
                return
            if found:
                asking.set_result(found)
            else:
                asking.set_exception(error or socket.gaierror(socket.EAI_NONAME, "no address"))

        def ask() -> None:
            found: list[str] | None = None
            error: OSError | None = None
            try:
                found = self._ask(host)
            except (OSError, UnicodeError) as raised:
                error = raised if isinstance(raised, OSError) else socket.gaierror(socket.EAI_NONAME, "no name")
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
                loop.call_soon_threadsafe(ended, found, error)

        threading.Thread(target=ask, name=f"find {host}", daemon=True).start()
        return asking
