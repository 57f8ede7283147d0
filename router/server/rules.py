"""What the head of a request must be, as pure functions; what is refused, and how the refusal reads on the wire.

httptools is strict on its own (both lengths, two lengths, bare LF, folded fields, a space before the colon are its
400). What it lets through and two parties could read differently is refused here: no Host or two, a coding other than
chunked, chunked in HTTP/1.0, a fragment in the target.
"""

import re
from dataclasses import dataclass

from router.server.turn import STATUS_LINES, Headers

HEAD_BYTES = 65_536  # request line and header fields; also what may come between two pieces of a body
HEAD_FIELDS = 100
URL_BYTES = 8_192
HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
NO_HOST = b"\0"  # no header value can be this
_FRAGMENT = ord("#")  # a byte is found in a fraction of the time that bytes take


@dataclass(frozen=True, slots=True)
class Clocks:
    """In seconds."""

    first_byte: float = 10.0  # a new connection may say nothing
    head: float = 10.0  # a head, from its first byte to its last
    body: float = 30.0  # between two pieces of a body, and for the rest of one that was answered before its end
    keep_alive: float = 65.0  # between two requests
    write: float = 60.0  # a caller that reads nothing of its answer
    linger: float = 2.0  # after a refusal what still comes is dropped; closing at once would reset the answer away


class Rejected(Exception):
    """Raised inside the parser's callbacks; the connection answers with it and closes."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def refusal(status: int, message: str) -> bytes:
    text = message.encode()
    head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(text)
    return STATUS_LINES[status] + head + text


def checked(version: str, url: bytes, headers: Headers, fed: int) -> dict[bytes, bytes]:
    """The head's fields by name, where it breaks no rule. `fed` is at least its size; only when that is too much are
    the fields measured one by one.
    """
    fields = dict(headers)
    if version != "1.1" and version != "1.0":
        raise Rejected(505, "Only HTTP 1.0 and 1.1 are spoken here.")
    if len(fields) != len(headers):
        _check_doubled(headers)
    if b"transfer-encoding" in fields and (fields[b"transfer-encoding"].lower() != b"chunked" or version == "1.0"):
        raise Rejected(400, "Transfer-Encoding may only be chunked, and not in HTTP 1.0.")
    if len(headers) > HEAD_FIELDS:
        raise Rejected(431, f"The request has more than {HEAD_FIELDS} header fields.")
    if fed > HEAD_BYTES and sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_BYTES:
        raise Rejected(431, f"The request's header fields are larger than {HEAD_BYTES} bytes.")
    if _FRAGMENT in url:
        raise Rejected(400, "The request's URL has a fragment.")
    return fields


def _check_doubled(headers: Headers) -> None:
    names = [name for name, _ in headers]
    if names.count(b"host") > 1:
        raise Rejected(400, "The request has two Host header fields.")
    if names.count(b"transfer-encoding") > 1:
        raise Rejected(400, "Transfer-Encoding may only be chunked, and not in HTTP 1.0.")


def checked_host(host: bytes | None, version: str) -> bytes:
    if host is None and version == "1.0":
        return NO_HOST
    if host is None or not HOST.fullmatch(host):
        raise Rejected(400, "The request's Host header field is missing or malformed.")
    return host


def without_upgrade(method: bytes, url: bytes, fields: Headers) -> bytes:
    """The same head again, asking for no upgrade."""
    kept = [field for field in fields if field[0] not in (b"upgrade", b"connection", b"http2-settings")]
    return b"".join([b"%b %b HTTP/1.1\r\n" % (method, url), *(b"%b: %b\r\n" % field for field in kept), b"\r\n"])
