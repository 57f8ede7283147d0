"""multipart/form-data as it streams in: fields are kept, files are counted and digested, never held."""

import re
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from router.sandbox.exchange import File, Form, Wrong

FIELD_LIMIT: Final = 1024 * 1024
PART_HEAD_LIMIT: Final = 16 * 1024
PARTS_LIMIT: Final = 1000
BOUNDARY: Final = re.compile(r'multipart/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"]{1,70})"|([^\s";]{1,70}))', re.I)
PARAMETER: Final = re.compile(r';\s*(name|filename)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s";]+))', re.I)


def boundary_of(content_type: str) -> bytes | None:
    found = BOUNDARY.match(content_type)
    return (found[1] or found[2]).encode("latin-1") if found else None


class FormReader:
    """Fed with bytes in any pieces. A part's data ends only at CRLF, two dashes and the boundary."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # so that the first delimiter looks like the others
        self._state: Callable[[], bool] = self._preamble
        self._fields: dict[str, str] = {}
        self._files: list[File] = []
        self._parts = 0
        self._open_part(b"")

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while self._state():
            pass

    def whole(self) -> Form:
        if self._state != self._epilogue:
            raise Wrong("The multipart body ends before its last boundary.", code="invalid_multipart")
        return Form(self._fields, tuple(self._files))

    def _preamble(self) -> bool:
        return self._to_delimiter(lambda _: None)

    def _data(self) -> bool:
        return self._to_delimiter(self._keep)

    def _to_delimiter(self, keep: Callable[[bytes], None]) -> bool:
        at = self._buffer.find(self._delimiter)
        if at < 0:
            certain = len(self._buffer) - len(self._delimiter) + 1
            if certain > 0:
                keep(bytes(self._buffer[:certain]))
                del self._buffer[:certain]
            return False
        keep(bytes(self._buffer[:at]))
        del self._buffer[: at + len(self._delimiter)]
        if self._state == self._data:
            self._close_part()
        self._state = self._after_delimiter
        return True

    def _after_delimiter(self) -> bool:
        if len(self._buffer) < 2:
            return False
        mark = bytes(self._buffer[:2])
        if mark == b"--":
            self._state = self._epilogue
        elif mark == b"\r\n":
            self._state = self._part_head
        else:
            raise Wrong("Invalid multipart body: bytes after a boundary.", code="invalid_multipart")
        del self._buffer[:2]
        return True

    def _part_head(self) -> bool:
        at = self._buffer.find(b"\r\n\r\n")
        if at < 0:
            if len(self._buffer) > PART_HEAD_LIMIT:
                raise Wrong("Invalid multipart body: a part's headers are too long.", code="invalid_multipart")
            return False
        part_head = bytes(self._buffer[:at])
        del self._buffer[: at + 4]
        self._open_part(part_head)
        self._parts += 1
        if self._name is None or self._parts > PARTS_LIMIT:
            raise Wrong("Invalid multipart body: a part without a name, or too many.", code="invalid_multipart")
        self._state = self._data
        return True

    def _epilogue(self) -> bool:
        self._buffer.clear()
        return False

    def _open_part(self, part_head: bytes) -> None:
        self._name: str | None = None
        self._filename: str | None = None
        self._size = 0
        self._digest = blake2b(digest_size=16)
        self._value = bytearray()
        for line in part_head.decode("utf-8", "replace").split("\r\n"):
            if line.lower().startswith("content-disposition:"):
                found = {name.lower(): quoted or bare for name, quoted, bare in PARAMETER.findall(line)}
                self._name, self._filename = found.get("name"), found.get("filename")

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._filename is not None:
            self._digest.update(data)
            return
        if self._size > FIELD_LIMIT:
            raise Wrong(f"The form field is larger than {FIELD_LIMIT} bytes.", self._name, status=413)
        self._value += data

    def _close_part(self) -> None:
        assert self._name is not None
        if self._filename is not None:
            self._files.append(File(self._name, self._filename, self._size, self._digest.hexdigest()))
        else:
            self._fields[self._name] = self._value.decode("utf-8", "replace")
