"""How long a piece of sound or film lasts, by the words of its own header. Nothing is decoded, nothing guessed.

WAV, FLAC, Ogg (Vorbis, Opus), MP3 and MP4 say it cheaply; of everything else it is not known: None.
"""

from collections.abc import Mapping
from typing import Final

MOST: Final = 7 * 86400.0  # seconds; more is a header that says nothing (streamed WAV has the largest number there is)

_RATES: Final[Mapping[bool, tuple[int, ...]]] = {  # kbit/s of MPEG layer III by index: version 1, versions 2 and 2.5
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLES: Final = (44100, 48000, 32000)  # a second, of version 1; 2 has half of it, 2.5 a quarter


def seconds_of(data: bytes) -> float | None:
    try:
        found = _seconds(data)
    except (IndexError, ZeroDivisionError):
        return None
    return found if found is not None and 0 < found < MOST else None


def _seconds(data: bytes) -> float | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return _wav(data)
    if data[:4] == b"fLaC":
        rate = int.from_bytes(data[18:21]) >> 4
        return (int.from_bytes(data[21:26]) & 0xF_FFFF_FFFF) / rate
    if data[:4] == b"OggS":
        return _ogg(data)
    if data[4:8] == b"ftyp":
        return _mp4(data)
    return _mp3(data)


def _wav(data: bytes) -> float | None:
    per_second, at = 0, 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"fmt ":
            per_second = int.from_bytes(data[at + 16 : at + 20], "little")
        elif data[at : at + 4] == b"data":
            return min(size, len(data) - at - 8) / per_second
        at += 8 + size + size % 2
    return None


def _ogg(data: bytes) -> float | None:
    """The last page's position, in the samples of its kind."""
    last = data.rfind(b"OggS")
    position = int.from_bytes(data[last + 6 : last + 14], "little")
    opus = data.find(b"OpusHead", 0, 512)
    if opus >= 0:
        return max(0, position - int.from_bytes(data[opus + 10 : opus + 12], "little")) / 48000
    vorbis = data.find(b"\x01vorbis", 0, 512)
    return position / int.from_bytes(data[vorbis + 12 : vorbis + 16], "little") if vorbis >= 0 else None


def _mp4(data: bytes) -> float | None:
    at = data.find(b"mvhd")
    if at < 0:
        return None
    if data[at + 4] == 1:  # of 64 bits
        return int.from_bytes(data[at + 28 : at + 36]) / int.from_bytes(data[at + 24 : at + 28])
    return int.from_bytes(data[at + 20 : at + 24]) / int.from_bytes(data[at + 16 : at + 20])


def _mp3(data: bytes) -> float | None:
    """As many frames as Xing's or LAME's header says, else the size by the first frame's bit rate."""
    at = 0
    if data[:3] == b"ID3":
        high, b, c, low = data[6:10]
        at = 10 + (high << 21 | b << 14 | c << 7 | low)
    if data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2:  # layer III
        return None
    version, bits, samples = data[at + 1] >> 3 & 3, data[at + 2] >> 4, data[at + 2] >> 2 & 3
    if version == 1 or not 0 < bits < 15 or samples == 3:
        return None
    rate = _SAMPLES[samples] >> {3: 0, 2: 1, 0: 2}[version]
    for mark in (b"Xing", b"Info"):
        header = data.find(mark, at, at + 64)
        if header >= 0 and data[header + 7] & 1:
            return int.from_bytes(data[header + 8 : header + 12]) * (1152 if version == 3 else 576) / rate
    return (len(data) - at) * 8 / (_RATES[version == 3][bits - 1] * 1000)
