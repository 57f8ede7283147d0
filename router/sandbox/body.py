"""Where a request's body ends: a length, or chunks. Bytes are taken from the connection's buffer as they come."""

import re
from collections.abc import Callable
from typing import Final, Protocol

CHUNK_LINE: Final = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?")
LINE_LIMIT: Final = 1024
TRAILER_LIMIT: Final = 8 * 1024

Feed = Callable[[bytes], None]


class Malformed(Exception):
    """Bytes that are no request, and the status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Body(Protocol):
    def take(self, buffer: bytearray, feed: Feed) -> bool:
        """Moves what is the body's out of the buffer; True once it is whole."""


class Sized:
    """A body of so many bytes."""

    def __init__(self, length: int) -> None:
        self._left = length

    def take(self, buffer: bytearray, feed: Feed) -> bool:
        if self._left and buffer:
            taken = bytes(buffer[: self._left])
            del buffer[: len(taken)]
            self._left -= len(taken)
            feed(taken)
        return not self._left


class Chunks:
    """A chunked body (RFC 9112 §7.1). Extensions and trailers are read and dropped."""

    def __init__(self) -> None:
        self._data = Sized(0)
        self._in_data = False
        self._trailer = 0

    def take(self, buffer: bytearray, feed: Feed) -> bool:
        while True:
            if self._in_data:
                if not self._data.take(buffer, feed) or len(buffer) < 2:
                    return False
                if buffer[:2] != b"\r\n":
                    raise Malformed(400, "A chunk is longer than it says.")
                del buffer[:2]
                self._in_data = False
            line = self._line(buffer)
            if line is None:
                return False
            if self._trailer:
                if not line:
                    return True
                self._trailer += len(line)
                if self._trailer > TRAILER_LIMIT:
                    raise Malformed(431, "The trailers are too long.")
                continue
            found = CHUNK_LINE.fullmatch(line)
            if found is None:
                raise Malformed(400, "A chunk's length is not a number.")
            length = int(found[1], 16)
            if length:
                self._data, self._in_data = Sized(length), True
            else:
                self._trailer = 1

    def _line(self, buffer: bytearray) -> bytes | None:
        end = buffer.find(b"\r\n", 0, LINE_LIMIT + 2)
        if end < 0:
            if len(buffer) > LINE_LIMIT:
                raise Malformed(400, "A line of the chunked body is too long.")
            return None
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        return line
