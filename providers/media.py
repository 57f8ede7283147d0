"""Files inside JSON: base64 and data: URLs, both ways, and what kind of file some bytes are."""

import base64
import binascii
import re
import urllib.parse
from collections.abc import Mapping
from typing import Final

from providers.spec import Blob, Link

# Magic numbers as in the WHATWG MIME Sniffing standard (mimesniff.spec.whatwg.org, 6.1 and 6.2), and FLAC's own.
_BEGINNINGS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"%PDF-", "application/pdf"),
)
_RIFF: Final[Mapping[bytes, str]] = {b"WAVE": "audio/wav", b"WEBP": "image/webp", b"AVI ": "video/avi"}


def sniff(data: bytes) -> str:
    """The media type that the first bytes tell; empty where they tell none."""
    if data.startswith(b"RIFF"):
        return _RIFF.get(data[8:12], "")
    if data[4:8] == b"ftyp":
        return {b"M4A ": "audio/mp4", b"avif": "image/avif"}.get(data[8:12], "video/mp4")
    return next((mime for beginning, mime in _BEGINNINGS if data.startswith(beginning)), "")


def mime_of(blob: Blob, default: str = "application/octet-stream") -> str:
    """What its sender said of it, else what it looks like, else `default`. Whoever said it, it will stand in a head:
    what is no media type counts for nothing.
    """
    said = blob.mime.partition(";")[0].strip().lower()
    if said in ("application/octet-stream", "application/x-www-form-urlencoded") or not _TYPE(said):
        said = ""
    return said or sniff(blob.data) or (default if not default or _TYPE(default) else "application/octet-stream")


_TYPE: Final = re.compile(r"[\w!#$&^.+-]{1,64}/[\w!#$&^.+-]{1,64}", re.ASCII).fullmatch  # RFC 6838, 4.2


def to_base64(blob: Blob) -> str:
    return base64.b64encode(blob.data).decode("ascii")


def to_data_url(blob: Blob, default: str = "application/octet-stream") -> str:
    return f"data:{mime_of(blob, default)};base64,{to_base64(blob)}"


def to_url(file: Blob | Link, default: str = "application/octet-stream") -> str:
    """For APIs that take a file by URL: the caller's own, or a data: URL."""
    return file.url if isinstance(file, Link) else to_data_url(file, default)


def from_base64(text: str) -> Blob:
    """Standard or URL-safe, padded or not, as clients send it. Raises ValueError."""
    compact = "".join(text.split()).translate(_URL_SAFE).rstrip("=")
    try:
        data = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None
    return Blob(data, sniff(data))


def from_data_url(url: str) -> Blob:
    """RFC 2397. Raises ValueError."""
    head, comma, data = url.partition(",")
    if not comma or head[:5].lower() != "data:":
        raise ValueError("not a data: URL")
    mime, *options = head[5:].split(";")
    if "base64" in (each.strip().lower() for each in options):
        decoded = from_base64(urllib.parse.unquote(data)).data
    else:
        decoded = urllib.parse.unquote_to_bytes(data)
    mime = mime.strip().lower()
    return Blob(decoded, mime if _TYPE(mime) else sniff(decoded))


def file_of(text: str) -> Blob | Link:
    """A file as JSON bodies carry it: base64, a data: URL, or an http(s) URL. Raises ValueError."""
    if text[:5].lower() == "data:":
        return from_data_url(text)
    if text[:8].lower().startswith(("http://", "https://")):
        return Link(text)
    return from_base64(text)


_URL_SAFE: Final = str.maketrans("-_", "+/")
