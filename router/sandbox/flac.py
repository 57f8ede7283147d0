"""Sound as a FLAC file (RFC 9639) that compresses nothing: every frame says its samples as they are."""

import struct
from collections.abc import Iterator
from hashlib import md5
from typing import Final

BLOCK: Final = 4096  # samples of a frame
BITS: Final = 16


def flac(samples: bytes, rate: int) -> Iterator[bytes]:
    """The head, then frame after frame, from 16-bit little-endian samples of one channel."""
    count = len(samples) // 2
    shape = rate << 44 | (BITS - 1) << 36 | count  # 20 bits rate, 3 channels less one, 5 bits less one, 36 count
    streaminfo = struct.pack(">HH6xQ", BLOCK, BLOCK, shape) + md5(samples, usedforsecurity=False).digest()
    yield b"fLaC" + struct.pack(">I", 1 << 31 | len(streaminfo)) + streaminfo  # of metadata the first and last block
    big_endian = struct.pack(f">{count}h", *struct.unpack(f"<{count}h", samples))
    for number, at in enumerate(range(0, 2 * count, 2 * BLOCK)):
        yield _frame(number, big_endian[at : at + 2 * BLOCK])


def _frame(number: int, samples: bytes) -> bytes:
    """Section 9: block size in 16 bits, rate and depth as the stream says, one channel, one verbatim subframe."""
    head = b"\xff\xf8\x70\x00" + _number(number) + struct.pack(">H", len(samples) // 2 - 1)
    frame = head + bytes([_crc(head, 8)]) + b"\x02" + samples
    return frame + struct.pack(">H", _crc(frame, 16))


def _number(number: int) -> bytes:
    """As UTF-8 writes a code point."""
    return chr(number).encode("utf-8", "surrogatepass")


def _table(bits: int, polynomial: int) -> tuple[int, ...]:
    entries = []
    for value in range(256):
        rest = value << (bits - 8)
        for _ in range(8):
            rest = (rest << 1) ^ (polynomial if rest >> (bits - 1) else 0)
            rest &= (1 << bits) - 1
        entries.append(rest)
    return tuple(entries)


TABLES: Final = {bits: _table(bits, polynomial) for bits, polynomial in ((8, 0x07), (16, 0x8005))}


def _crc(data: bytes, bits: int) -> int:
    table, mask, rest = TABLES[bits], (1 << bits) - 1, 0
    for byte in data:
        rest = (rest << 8 & mask) ^ table[rest >> (bits - 8) ^ byte]
    return rest
