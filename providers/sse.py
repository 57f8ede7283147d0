"""Server-sent events as bytes: where one block ends, what its payload is, how one is written.

Lines end with CRLF, LF or CR (html.spec.whatwg.org/multipage/server-sent-events.html) and with nothing else: U+2028
and its like are text, so everything here works on bytes and a character cut between two chunks never matters. What is
handed out is byte for byte what came in. Nothing is decoded, no field but `data` is interpreted.
"""

import re
from typing import Final

LIMIT: Final = 1 << 20
DONE: Final = b"data: [DONE]\n\n"
BOM: Final = b"\xef\xbb\xbf"

# An end of line and an empty line. Since CRLF is one end of line, these four are all the ways to write that. Two of
# them could grow by an LF that has not come yet: LF CR is taken only with the byte after it in hand (inside CRLF CRLF
# it is never the end of what a server writes), CR CR at once (in a stream of CRs it is), and an LF after it is left to
# stand before the next block, where an empty line means nothing.
_END: Final = re.compile(rb"\n\n|\n\r\n|\r\r|\n\r(?=[^\n])")
_LONGEST_OPEN_END: Final = 2


class Splitter:
    """Bytes in as they come, whole blocks out, each with the empty line that ends it.

    Memory is bounded: a block that passes `limit` without an end is handed out in pieces, and `torn` is true as long as
    it goes on. So the last item of a feed that leaves `torn` true is a piece, and so is the first of the next one.
    """

    __slots__ = ("_rest", "limit", "torn")

    def __init__(self, limit: int = LIMIT) -> None:
        self._rest = bytearray()
        self.limit = limit
        self.torn = False

    def feed(self, chunk: bytes) -> list[bytes]:
        rest = self._rest
        seen = max(0, len(rest) - _LONGEST_OPEN_END)
        rest += chunk
        ends = [found.end() for found in _END.finditer(rest, seen)]
        blocks = [bytes(rest[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
        if ends:
            del rest[: ends[-1]]
            self.torn = False
        if self.torn or len(rest) > self.limit:
            self.torn = True
            if piece := self._all_but_an_open_end():
                blocks.append(piece)
        return blocks

    def lone(self, chunk: bytes) -> bytes | None:
        """The payload of a chunk that is exactly one block of one line of JSON, as nearly every chunk of a live stream
        is, where no block is open; None for everything else, which must be fed.
        """
        if self._rest or self.torn or not chunk.startswith(b"data: {") or not chunk.endswith(b"}\n\n"):
            return None
        if chunk.find(b"\n") != len(chunk) - 2 or chunk.find(b"\r") >= 0:
            return None
        return chunk[6:-2]

    def _all_but_an_open_end(self) -> bytes:
        rest = self._rest
        cut = max(0, len(rest) - _LONGEST_OPEN_END)
        while cut < len(rest) and rest[cut] not in b"\r\n":
            cut += 1
        piece = bytes(rest[:cut])
        del rest[:cut]
        return piece

    def rest(self) -> bytes:
        """What is left when the stream is over: a block that nothing ended."""
        return bytes(self._rest)


def data(block: bytes) -> bytes | None:
    """The payload of a block, its `data` lines joined by LF; None where it has none (comments, empty lines)."""
    if block.startswith(b"data:") and block.find(b"\n") == len(block) - 2 and b"\r" not in block and block[-1] == 10:
        return block[6:-2] if block[5] == 32 else block[5:-2]
    # A byte order mark may stand before the first block of a stream.
    lines = block.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    found = [line[5:].removeprefix(b" ") for line in lines if line == b"data" or line.startswith(b"data:")]
    return b"\n".join(found) if found else None


# huggingface_hub reads streams through httpx's `iter_lines`, that is Python's `splitlines`: these end lines there too.
_ENDS_FOR_PYTHON: Final = {b"\xc2\x85": b"\\u0085", b"\xe2\x80\xa8": b"\\u2028", b"\xe2\x80\xa9": b"\\u2029"}


def event(payload: bytes, name: str = "") -> bytes:
    """One block. The payload is JSON, so it has no end of line in it, and rarer ones than the specification's can be
    escaped without changing what it says."""
    if b"\xe2\x80" in payload or b"\xc2\x85" in payload:
        for end, escaped in _ENDS_FOR_PYTHON.items():
            payload = payload.replace(end, escaped)
    if name:
        return b"event: " + name.encode() + b"\ndata: " + payload + b"\n\n"
    return b"data: " + payload + b"\n\n"
