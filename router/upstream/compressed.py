"""Bodies that came compressed although nobody asked for it: opened where they must be read, never beyond a bound."""

import zlib
from typing import Final

_OPENERS: Final = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}  # content-encoding → zlib's window bits


def opened(body: bytes, coding: bytes, limit: int) -> bytes | None:
    """The body as it was before; None where the coding is not known, the data is not that, or it passes `limit`."""
    coding = coding.strip().lower()
    if coding in (b"", b"identity"):
        return body
    if coding not in _OPENERS:
        return None
    inflater = zlib.decompressobj(_OPENERS[coding])
    try:
        data = inflater.decompress(body, limit + 1)
    except zlib.error:
        return None
    return data if len(data) <= limit and inflater.eof else None
