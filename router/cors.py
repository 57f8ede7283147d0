"""Browsers of other origins: who may ask from where, told as the Fetch standard wants it. Nobody, unless the file says.

Never with credentials: a key travels in a header that the page itself sets (fetch.spec.whatwg.org, "CORS protocol").
"""

import re
from collections.abc import Mapping
from typing import Final

_NAMES: Final = re.compile(rb"[A-Za-z0-9_-]+( *, *[A-Za-z0-9_-]+)*").fullmatch
_SHOWN: Final = (
    b"access-control-expose-headers: x-request-id, server-timing, retry-after, "
    b"x-router-upstream, x-router-model, x-router-attempts\r\n"
)
_PREFLIGHT: Final = b"access-control-allow-methods: GET, POST, OPTIONS\r\naccess-control-max-age: 600\r\n"


class Cors:
    """`origins`: `https://app.example`, or `*` for all."""

    def __init__(self, origins: list[str]) -> None:
        self._all = "*" in origins
        self._origins = frozenset(each.rstrip("/").encode() for each in origins)

    def lines(self, fields: Mapping[bytes, bytes]) -> bytes:
        """What an answer says to a request with these header fields; empty where its origin may not ask."""
        origin = fields.get(b"origin")
        if origin is None or not (self._all or origin in self._origins):
            return b""
        allowed = b"*" if self._all else origin
        return b"access-control-allow-origin: %b\r\nvary: origin\r\n%b" % (allowed, _SHOWN)

    def preflight(self, fields: Mapping[bytes, bytes]) -> bytes:
        """What an OPTIONS request is told beside `lines`."""
        wanted = fields.get(b"access-control-request-headers", b"")
        return _PREFLIGHT + (b"access-control-allow-headers: %b\r\n" % wanted if _NAMES(wanted) else b"")
