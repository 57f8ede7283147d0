"""A film as an MP4 file (ISO/IEC 14496-12 and -14), so small that it is written by hand: PNG pictures in a row.

PNG is a registered kind of MPEG-4 video (object type 0x6D, mp4ra.org), and so the frames need no encoder.
"""

import struct
from collections.abc import Sequence
from typing import Final

TICKS: Final = 8  # a second; a frame lasts one
PNG: Final = 0x6D
MATRIX: Final = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
BRANDS: Final = b"isom" + struct.pack(">I", 512) + b"isomiso2mp41"


def mp4(frames: Sequence[bytes], width: int, height: int) -> bytes:
    """`mdat` stands before `moov`, so that where the frames begin depends on nothing."""
    kind = _box(b"ftyp", BRANDS)
    return kind + _box(b"mdat", *frames) + _movie(frames, width, height, len(kind) + 8)


def _movie(frames: Sequence[bytes], width: int, height: int, begin: int) -> bytes:
    count = len(frames)
    heading = struct.pack(">IIIIIH10x", 0, 0, TICKS, count, 0x10000, 0x100) + MATRIX + struct.pack(">24xI", 2)
    track = struct.pack(">IIIII8xHHHH", 0, 0, 1, 0, count, 0, 0, 0, 0) + MATRIX
    track += struct.pack(">II", width << 16, height << 16)
    medium = struct.pack(">IIIIHH", 0, 0, TICKS, count, 0x55C4, 0)  # 0x55C4: no language
    return _box(
        b"moov",
        _full(b"mvhd", heading),
        _box(
            b"trak",
            _full(b"tkhd", track, flags=3),
            _box(
                b"mdia",
                _full(b"mdhd", medium),
                _full(b"hdlr", struct.pack(">4x4s12x", b"vide"), b"VideoHandler\0"),
                _box(
                    b"minf",
                    _full(b"vmhd", bytes(8), flags=1),
                    _box(b"dinf", _full(b"dref", _count(1), _full(b"url ", flags=1))),
                    _samples(frames, width, height, begin),
                ),
            ),
        ),
    )


def _samples(frames: Sequence[bytes], width: int, height: int, begin: int) -> bytes:
    sizes = struct.pack(f">{len(frames)}I", *map(len, frames))
    return _box(
        b"stbl",
        _full(b"stsd", _count(1), _entry(width, height)),
        _full(b"stts", struct.pack(">III", 1, len(frames), 1)),
        _full(b"stsc", struct.pack(">IIII", 1, 1, len(frames), 1)),
        _full(b"stsz", struct.pack(">II", 0, len(frames)), sizes),
        _full(b"stco", struct.pack(">II", 1, begin)),
    )


def _entry(width: int, height: int) -> bytes:
    shape = struct.pack(">6xH16xHHIIIH32xHH", 1, width, height, 0x480000, 0x480000, 0, 1, 24, 0xFFFF)
    config = _descriptor(4, struct.pack(">BBBBBII", PNG, 0x11, 0, 0, 0, 0, 0))
    return _box(b"mp4v", shape, _full(b"esds", _descriptor(3, struct.pack(">HB", 1, 0), config, _descriptor(6, b"\2"))))


def _descriptor(tag: int, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return bytes([tag, len(data)]) + data


def _count(number: int) -> bytes:
    return struct.pack(">I", number)


def _full(name: bytes, *parts: bytes, flags: int = 0) -> bytes:
    """A box with a version, which is always 0, and flags."""
    return _box(name, struct.pack(">I", flags), *parts)


def _box(name: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I", len(data) + 8) + name + data
