"""/images/generations and /images/edits: eight by eight coloured squares, drawn from a hash, as a real PNG.

The Hub's paths (tasks/images.py) draw with the same pen: the same prompt and size are the same picture on both.
"""

import re
import struct
from base64 import b64encode
from hashlib import shake_256
from typing import Final
from zlib import compress, crc32

from router.sandbox import fields as read
from router.sandbox import words
from router.sandbox.exchange import Ask, Reply, json_reply, seal

SQUARES: Final = 8
SIDE: Final = 64  # where no size was asked for
MOST: Final = 4096
SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
GREY: Final = 0
PALETTE: Final = 3
SIZE: Final = re.compile(r"(\d{1,5})x(\d{1,5})")


def png(seed: str, width: int, height: int) -> bytes:
    """Sixteen colours, one byte a pixel; the same seed and size give the same bytes."""
    noise = shake_256(seed.encode()).digest(48 + SQUARES * SQUARES)
    rows = []
    for top in range(SQUARES):
        squares = noise[48 + top * SQUARES : 48 + (top + 1) * SQUARES]
        line = b"".join(bytes([squares[at] % 16]) * (_edge(at + 1, width) - _edge(at, width)) for at in range(SQUARES))
        rows.append((b"\0" + line) * (_edge(top + 1, height) - _edge(top, height)))
    return _file(width, height, PALETTE, b"".join(rows), (b"PLTE", noise[:48]))


def grey(width: int, shades: bytes) -> bytes:
    """A PNG of mode L, one shade a row: a mask, or a depth that grows downwards."""
    return _file(width, len(shades), GREY, b"".join(b"\0" + bytes([shade]) * width for shade in shades))


def generate(ask: Ask) -> Reply:
    return _images(ask, read.text(ask.fields, "prompt"), ask.fields["prompt"])


def edit(ask: Ask) -> Reply:
    images = [file for file in ask.files if file.field in ("image", "image[]")]
    if not images:
        raise read.missing("image")
    prompt = read.text(ask.fields, "prompt")
    return _images(ask, prompt, seal(prompt, *(file.digest for file in ask.files)))


def _images(ask: Ask, prompt: str, seed: str) -> Reply:
    fields = ask.fields
    width, height = _size(fields)
    if read.flag(fields, "stream"):
        raise read.invalid("stream", "images are not streamed.")
    as_url = read.choice(fields, "response_format", "b64_json", "url", "base64") == "url"
    data = []
    for number in range(read.whole(fields, "n", 1, 10) or 1):
        encoded = b64encode(png(f"{seed} {number}", width, height)).decode()
        data.append({"url": f"data:image/png;base64,{encoded}"} if as_url else {"b64_json": encoded})
    used = words.count(prompt)
    return json_reply(
        {
            "created": ask.created,
            "data": data,
            "output_format": "png",
            "size": f"{width}x{height}",
            "usage": {
                "input_tokens": used,
                "output_tokens": len(data),
                "total_tokens": used + len(data),
                "input_tokens_details": {"text_tokens": used, "image_tokens": 0},
            },
        }
    )


def _size(fields: read.Fields) -> tuple[int, int]:
    size = fields.get("size")
    if size is None or size == "auto":
        return SIDE, SIDE
    found = SIZE.fullmatch(size) if isinstance(size, str) else None
    if found is None or not (1 <= int(found[1]) <= MOST and 1 <= int(found[2]) <= MOST):
        raise read.invalid("size", f"expected WIDTHxHEIGHT up to {MOST}x{MOST}, but got {size!r} instead.")
    return int(found[1]), int(found[2])


def _edge(at: int, length: int) -> int:
    return at * length // SQUARES


def _file(width: int, height: int, colour: int, rows: bytes, *more: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = ((b"IHDR", header), *more, (b"IDAT", compress(rows, 1)), (b"IEND", b""))
    return SIGNATURE + b"".join(_part(name, data) for name, data in parts)


def _part(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc32(name + data))
