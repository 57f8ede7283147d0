"""HTTP/1.1 by hand, because the faults need the raw socket: one connection, one request after another.

Framing is strict (RFC 9112: one length, no bare CR or LF, no folded lines); what does not fit is answered 400 and the
connection closed. HTTP/1.0, upgrades and pipelined answers are refused or not offered: the only caller is a client of
today on loopback.
"""

import asyncio
import re
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, cast

from router.sandbox.body import Body, Chunks, Malformed, Sized
from router.sandbox.exchange import End, Request, Step, Wrong, head
from router.sandbox.form import FormReader, boundary_of

HEAD_LIMIT: Final = 64 * 1024
BODY_LIMIT: Final = 64 * 1024 * 1024  # of what must be held; uploads are not
BURST: Final = 32  # writes before the loop gets its turn
LINGER: Final = 1.0
REQUEST_LINE: Final = re.compile(r"([A-Z]{1,16}) (/[\x21-\x7e]*) HTTP/1\.1")
HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close() sends RST

Answer = Callable[[Request], Iterable[Step]]


@dataclass(frozen=True, slots=True)
class Head:
    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def closes(self) -> bool:
        return "close" in self.headers.get("connection", "").lower()


def head_of(block: bytes) -> Head:
    """The lines before the empty one → method, path without its query, headers by lower-cased name."""
    first, *lines = block.decode("latin-1").split("\r\n")
    found = REQUEST_LINE.fullmatch(first)
    if found is None:
        raise Malformed(505 if first.endswith("HTTP/1.0") else 400, "Not an HTTP/1.1 request line.")
    headers: dict[str, str] = {}
    for line in lines:
        header = HEADER.fullmatch(line)
        if header is None:
            raise Malformed(400, "Not a header line.")
        name = header[1].lower()
        if name in headers and name in ("content-length", "transfer-encoding", "host"):
            raise Malformed(400, f"More than one {name} header.")
        headers[name] = f"{headers[name]}, {header[2]}" if name in headers else header[2]
    if "host" not in headers:
        raise Malformed(400, "The host header is missing.")
    return Head(found[1], found[2].partition("?")[0], headers)


def body_of(headers: Mapping[str, str]) -> Body:
    encoding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if encoding is not None:
        if length is not None or encoding.lower() != "chunked":
            raise Malformed(400, "The body's length is given twice, or in an encoding other than chunked.")
        return Chunks()
    if length is None:
        return Sized(0)
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        raise Malformed(400, "The content-length is not a number.")
    return Sized(int(length))


class Held:
    """A body that is kept."""

    def __init__(self) -> None:
        self.data = bytearray()

    def feed(self, data: bytes) -> None:
        self.data += data
        if len(self.data) > BODY_LIMIT:
            raise Malformed(413, f"The body is larger than {BODY_LIMIT} bytes.")


class Connection(asyncio.Protocol):
    """Reads a request, plays the steps of its answer, reads the next."""

    def __init__(
        self, answer: Answer, made: Callable[["Connection"], None], lost: Callable[["Connection"], None]
    ) -> None:
        self._answer = answer
        self._made = made
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._head: Head | None = None
        self._steps: Iterator[Step] | None = None
        self._next: asyncio.Handle | None = None
        self._full = False  # the caller does not read as fast as we write
        self._refused = False

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its base classes
        self._made(self)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._buffer += data
        if self._steps is None:
            self._read()
        elif len(self._buffer) > HEAD_LIMIT:
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._full = True
        self._steps = None
        if self._next:
            self._next.cancel()
        self._lost(self)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._steps is not None and self._next is None:
            self._play()

    # ---- ours

    def abort(self) -> None:
        self._transport.abort()

    def _read(self) -> None:
        try:
            request = self._request()
        except Malformed as fault:
            self._refuse(fault.status, str(fault))
            return
        except Wrong as wrong:  # a form that is none, found while it streams in
            self._refuse(wrong.status, wrong.message)
            return
        if request is not None:
            self._steps = iter(self._answer(request))
            self._play()

    def _request(self) -> Request | None:
        """The next request once it is whole."""
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end > HEAD_LIMIT or (end < 0 and len(self._buffer) > HEAD_LIMIT):
                raise Malformed(431, f"The head is larger than {HEAD_LIMIT} bytes.")
            if end < 0:
                return None
            self._head = head_of(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
            headers = self._head.headers
            self._body = body_of(headers)
            boundary = boundary_of(headers.get("content-type", ""))
            self._sink: Held | FormReader = Held() if boundary is None else FormReader(boundary)
            if headers.get("expect", "").lower() == "100-continue" and not self._buffer:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self._body.take(self._buffer, self._sink.feed):
            return None
        request = Request(self._head.method, self._head.path, self._head.headers)
        if isinstance(self._sink, FormReader):
            return replace(request, form=self._sink.whole())
        return replace(request, body=bytes(self._sink.data))

    def _play(self) -> None:
        """Plays steps until one is a pause, the caller is slow, or the loop deserves a turn."""
        self._next = None
        written = 0
        while self._steps is not None and not self._full:
            if written == BURST:
                self._next = self._loop.call_soon(self._play)
                return
            step = next(self._steps, None)
            match step:
                case bytes():
                    self._transport.write(step)
                    written += 1
                case float():
                    self._next = self._loop.call_later(step, self._play)
                    return
                case None:
                    self._done()
                    return
                case End.HOLD:
                    return
                case End.CLOSE:
                    self._transport.close()
                    return
                case End.RESET:
                    self._reset()
                    return

    def _done(self) -> None:
        assert self._head is not None
        self._steps = None
        if self._head.closes:
            self._transport.close()
            return
        self._head = None
        self._transport.resume_reading()
        if self._buffer:
            self._next = self._loop.call_soon(self.data_received, b"")

    def _reset(self) -> None:
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._transport.abort()

    def _refuse(self, status: int, message: str) -> None:
        """Closes after the answer; reads on for a moment, as closing over unread bytes would RST the answer away."""
        text = message.encode() + b"\n"
        length = ("content-length", str(len(text)))
        self._transport.write(head(status, ("content-type", "text/plain"), length, ("connection", "close")) + text)
        self._transport.write_eof()
        self._refused = True
        self._buffer.clear()
        self._next = self._loop.call_later(LINGER, self._transport.close)
