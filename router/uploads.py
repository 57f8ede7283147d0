"""Multipart uploads on their way up: the `model` part is read and exchanged, everything else streams past.

The choice of an upstream needs the model, so parts that stand before it wait: in memory up to 1 MiB, behind that in an
unnamed temporary file. What stands after it is never held. Nothing of a file is looked into.
Limits of FAULTS §3.1 A19: 20 parts' headers before the model, 8 KiB of headers a part.
"""

import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import IO, Final

from providers.spec import Fault
from router.errors import Refused, bad_request, too_large

PARTS: Final = 20
PART_HEAD: Final = 8 * 1024
HELD: Final = 1024 * 1024
PIECE: Final = 64 * 1024
MODEL: Final = 10 * 1024
_BREAK: Final = b"\r\n"

_boundary = re.compile(
    rb'multipart/form-data\s*;(?:[^"]*;)?\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE
)
_name = re.compile(rb'content-disposition:[^\r\n]*?[;\s]name="?([^";\r\n]+)"?', re.IGNORECASE)

# Behind the model's value: a head of a part that names it again, by the line ends that lenient readers take too.
_named_model = re.compile(rb'[;\s]name\s*=\s*"?\\?m\\?o\\?d\\?e\\?l\\?"?(?=[;\s\r\n]|$)', re.IGNORECASE)
_blank = re.compile(rb"\r?\n\r?\n")

Receive = Callable[[], Awaitable[bytes]]
"""The next bytes of the caller's body, empty at its end. Raises EOFError when the caller went away."""


class Upload:
    """A multipart body of which the model is known and the rest is still to come.

    `length` is the caller's Content-Length, or None where the body is chunked. `started`: some of what cannot be had
    again has been handed out, so that no second attempt is possible.
    """

    __slots__ = (
        "_after",
        "_before",
        "_held",
        "_limit",
        "_receive",
        "_seen",
        "_unread",
        "boundary",
        "length",
        "model",
        "started",
        "stream",
    )

    def __init__(self, receive: Receive, boundary: bytes, length: int | None, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._before: IO[bytes] = tempfile.SpooledTemporaryFile(HELD)  # noqa: SIM115 - closed in `close`
        self._after = b""  # what was read beyond the model's value
        self._seen = 0
        self._held: bytes | None = None  # what stood behind the model's value, once somebody needed all of it
        self._unread: bytes | None = None  # behind the model: a head of a part that is not all here yet
        self.boundary = boundary
        self.length = length
        self.model = ""
        self.stream = False
        self.started = False

    def replayable(self) -> bool:
        return not self.started

    def outgoing_length(self, model: str) -> int | None:
        return None if self.length is None else self.length - len(self.model.encode()) + len(model.encode())

    async def pieces(self, model: str) -> AsyncIterator[bytes]:
        """The body with the model exchanged, in pieces; chunk-framed where the length is not known."""
        chunked = self.length is None
        self._before.seek(len(_BREAK))
        while piece := self._before.read(PIECE):
            yield _framed(piece, chunked)
        self.started = self._held is None
        yield _framed(model.encode() + self._after, chunked)
        if self._held is not None:
            yield _framed(self._held, chunked)
        while self._held is None and (piece := await self.more()):
            yield _framed(piece, chunked)
        if chunked:
            yield b"0\r\n\r\n"

    async def held(self, limit: int) -> bytes:
        """The whole body in memory, for who must look into it; it can be had again. Raises Refused beyond `limit`."""
        if self._held is None:
            parts: list[bytes] = []
            while piece := await self.more():
                if self._seen > limit:
                    raise too_large(limit, "file")
                parts.append(piece)
            self._held = b"".join(parts)
        self._before.seek(len(_BREAK))
        return self._before.read() + self.model.encode() + self._after + self._held

    async def more(self) -> bytes:
        piece = await self._receive()
        self._seen += len(piece)
        if self._seen > self._limit:
            raise too_large(self._limit, "file")
        if self._unread is not None:
            self._look(piece)
        return piece

    def _look(self, piece: bytes) -> None:
        """The model that was looked at is the one that goes up: no later part may say another."""
        assert self._unread is not None
        window, delimiter = self._unread + piece, b"--" + self.boundary
        position = window.find(delimiter)
        while position >= 0:
            begins = position + len(delimiter)
            ends = _blank.search(window, begins, begins + PART_HEAD)
            if _named_model.search(window, begins, ends.start() if ends else begins + PART_HEAD):
                raise bad_request("The field 'model' stands in the form twice.", "model", "duplicate_field")
            if ends is None and len(window) - begins < PART_HEAD:
                self._unread = window[position:]
                return
            position = window.find(delimiter, begins)
        self._unread = window[-len(delimiter) :]

    async def find_model(self) -> None:
        """Read until the model's value is known. Raises Refused."""
        delimiter = _BREAK + b"--" + self.boundary
        window = _BREAK + await self.more()  # so that the first boundary looks like the others; not sent on
        first = True
        for _ in range(PARTS):
            window = await self._skip_to(window, delimiter, first)
            first = False
            while len(window) < len(delimiter) + 2:
                window += await self._need()
            if window.startswith(b"--", len(delimiter)):
                break
            while (end := window.find(b"\r\n\r\n")) < 0:
                if len(window) > PART_HEAD:
                    raise bad_request("The headers of a multipart part are too long.", code="invalid_multipart")
                window += await self._need()
            head, window = window[: end + 4], window[end + 4 :]
            self._before.write(head)
            name = _name.search(head)
            if name is not None and name[1] == b"model":
                await self._take_model(window, delimiter)
                return
        raise bad_request("The field 'model' is required.", "model", "missing_field")

    async def _take_model(self, window: bytes, delimiter: bytes) -> None:
        while (end := window.find(delimiter)) < 0:
            if len(window) > MODEL:
                raise bad_request("The field 'model' is too long.", "model", "invalid_type")
            window += await self._need()
        try:
            self.model = window[:end].decode()
        except UnicodeDecodeError:
            raise bad_request("The field 'model' must be text.", "model", "invalid_type") from None
        self._after = window[end:]
        self._unread = b""
        self._look(self._after)

    async def _skip_to(self, window: bytes, delimiter: bytes, first: bool) -> bytes:
        """Move on to the next delimiter; what lies before it is kept for sending."""
        while (found := window.find(delimiter)) < 0:
            keep = len(delimiter) - 1
            if first and len(window) > PART_HEAD:
                raise bad_request("The multipart body does not begin with its boundary.", code="invalid_multipart")
            self._before.write(window[:-keep])
            window = window[-keep:] + await self._need()
        self._before.write(window[:found])
        return window[found:]

    async def _need(self) -> bytes:
        piece = await self.more()
        if not piece:
            raise bad_request("The multipart body ended before its last boundary.", code="invalid_multipart")
        return piece

    def close(self) -> None:
        self._before.close()


def boundary_of(content_type: bytes) -> bytes:
    found = _boundary.match(content_type)
    if found is None:
        raise Refused(Fault(415, "unsupported_media_type", "This path takes multipart/form-data with a boundary."))
    return found[1] or found[2]


def _framed(piece: bytes, chunked: bool) -> bytes:
    if not piece:
        return b""
    return b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
