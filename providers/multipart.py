"""multipart/form-data (RFC 7578), whole bodies only: parts → bytes and back.

For crossings, which need the parts; where both ends take a form it is streamed and never read (router/uploads.py).
"""

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from providers.media import mime_of
from providers.spec import Blob

PARTS: Final = 64  # FAULTS A19: a form with more is an attack
PART_HEAD: Final = 8 * 1024

_name = re.compile(rb'(?:^|[;\s])name="([^"\r\n]*)"|(?:^|[;\s])name=([^";\s]+)', re.IGNORECASE)
_filename = re.compile(rb'(?:^|[;\s])filename="', re.IGNORECASE)
_field = re.compile(rb"(?im)^content-(disposition|type):[ \t]*([^\r\n]*)")

Part = tuple[str, str | Blob]
"""Its name, and its text or its file."""


def parse(body: bytes, boundary: bytes) -> list[Part]:
    """The parts in order. Raises ValueError where the body is no such form."""
    delimiter = b"\r\n--" + boundary
    pieces = (b"\r\n" + body).split(delimiter, PARTS + 1)
    if len(pieces) > PARTS + 1:
        raise ValueError(f"more than {PARTS} parts")
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise ValueError("it does not end with its boundary")
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> Part:
    head, blank, data = piece.partition(b"\r\n\r\n")
    if not blank or len(head) > PART_HEAD:
        raise ValueError("a part has no headers, or too many")
    found = {name.lower(): value for name, value in _field.findall(head)}
    disposition = found.get(b"disposition", b"")
    name = _name.search(disposition)
    if name is None:
        raise ValueError("a part has no name")
    called = (name[1] if name[1] is not None else name[2]).decode("utf-8", "replace")
    if _filename.search(disposition):
        return called, Blob(data, found.get(b"type", b"").decode("latin-1").strip())
    try:
        return called, data.decode()
    except UnicodeDecodeError:
        raise ValueError(f"the part {called[:64]!r} is not text") from None


def write(parts: Iterable[Part], filename: str = "file") -> tuple[bytes, str]:
    """A body and its content type. The boundary is made of the content, so equal forms are equal bytes."""
    pieces: list[tuple[bytes, bytes]] = []
    for name, value in parts:
        head = f'content-disposition: form-data; name="{_quoted(name)}"'
        if isinstance(value, Blob):
            head += f'; filename="{_quoted(filename)}"\r\ncontent-type: {mime_of(value)}'
        pieces.append((head.encode(), value.data if isinstance(value, Blob) else value.encode()))
    digest = blake2b(digest_size=16)
    for _, data in pieces:
        digest.update(data)
    boundary = digest.hexdigest().encode()
    body = b"".join(b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, head, data) for head, data in pieces)
    return body + b"--%b--\r\n" % boundary, f"multipart/form-data; boundary={boundary.decode()}"


def _quoted(text: str) -> str:
    """As browsers do it: HTML living standard, "multipart form data"."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
