"""Upstreams that write their answers byte for byte, over raw sockets, in threads of the test's own process."""

import contextlib
import itertools
import json
import random
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

FULL = b'{"id":"c","model":"up","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}'


def full(status: int, body: bytes, headers: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n"
    return head % (status, headers, len(body)) + body


def chunked(pieces: list[bytes]) -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return [head, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n"]


def cut(data: bytes, dice: random.Random) -> list[bytes]:
    edges = sorted({0, len(data), *(dice.randrange(len(data)) for _ in range(dice.randrange(12)))})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@dataclass
class Upstream:
    """Answers each request with what `answer` says of it; a None hangs until the caller is gone."""

    answer: Callable[[str, bytes], list[bytes] | None] = lambda path, body: [full(200, FULL)]
    seen: list[tuple[bytes, bytes]] = field(default_factory=list)  # head, body
    left: list[float] = field(default_factory=list)  # when a connection ended
    port: int = 0
    reads: str = "body"  # "size": of a body, whatever its size, how many bytes it has


class _Peer(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        upstream: Upstream = self.server.upstream  # type: ignore[attr-defined]
        peer: socket.socket = self.request
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b""
        try:
            while True:
                while b"\r\n\r\n" not in data:
                    data += _more(peer)
                head, _, data = data.partition(b"\r\n\r\n")
                if upstream.reads == "size":
                    upstream.seen.append((head, b"%d" % _size(peer, head, data)))
                    data = b""
                    for piece in upstream.answer("", head) or []:
                        peer.sendall(piece)
                    continue
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or b"0")
                while len(data) < length:
                    data += _more(peer)
                body, data = data[:length], data[length:]
                upstream.seen.append((head, body))
                model = json.loads(body).get("model", "") if body else ""
                pieces = upstream.answer(model, head)
                if pieces is None:
                    peer.recv(1)
                    return
                for piece in pieces:
                    peer.sendall(piece)
                if pieces and pieces[-1] == b"":
                    return
        except OSError:
            return
        finally:
            upstream.left.append(time.monotonic())


def _more(peer: socket.socket) -> bytes:
    """What comes next. OSError where nothing will."""
    piece = peer.recv(1 << 20)
    if not piece:
        raise ConnectionResetError
    return piece


def _size(peer: socket.socket, head: bytes, data: bytes) -> int:
    """The size of a body that is not kept, of either framing."""
    declared = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
    if declared:
        left = int(declared) - len(data)
        while left and (piece := peer.recv(min(left, 1 << 20))):
            left -= len(piece)
        return int(declared) - left
    total = 0
    while True:
        while b"\r\n" not in data:
            data += _more(peer)
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        while len(data) < size + 2:
            data += _more(peer)
        data = data[size + 2 :]
        total += size
        if not size:
            return total


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextlib.contextmanager
def listening(*upstreams: Upstream) -> Iterator[None]:
    """Each on a port of its own."""
    servers = []
    for each in upstreams:
        server = _Server(("127.0.0.1", 0), _Peer)
        server.upstream = each  # type: ignore[attr-defined]
        each.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
    try:
        yield
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
