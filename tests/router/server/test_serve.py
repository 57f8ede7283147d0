"""The whole program around a tiny app, in processes of its own: workers, signals, drains."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, os, sys
from router.server import serve

class App:
    operators = None
    draining = False
    def __init__(self, siblings):
        self.siblings = siblings
    def drain(self):
        self.draining = True
    def reload_soon(self):
        print("reload", flush=True)
    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                if kind == "lifespan.startup":
                    await self.siblings.open(lambda name: f"{name} {os.getpid()}".encode())
                else:
                    await self.siblings.close()
                    print("closed", flush=True)
                await send({"type": kind + ".complete"})
                if kind == "lifespan.shutdown":
                    return
        pieces = [str(os.getpid()).encode()]
        if scope["path"] == "/siblings":
            pieces = await self.siblings.ask_all("pid")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] in ("/stream", "/endless"):
            for i in range(10 if scope["path"] == "/stream" else 10_000):
                await send({"type": "http.response.body", "body": b"%d " % i, "more_body": True})
                await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"|".join(pieces), "more_body": False})

serve(App, "127.0.0.1", int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def get(port: int, path: str = "/") -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def until_served(port: int) -> bytes:
    end = time.monotonic() + 5
    while True:
        try:
            return get(port)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


class Running:
    def __init__(self, workers: int, drain: float) -> None:
        self.port = free_port()
        command = [sys.executable, "-c", PROGRAM, str(self.port), str(workers), str(drain)]
        root = Path(__file__).parents[3]
        self.process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until_served(self.port)
        while workers == 2 and not get(self.port, "/siblings"):
            time.sleep(0.01)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, float]:
        began = time.monotonic()
        self.process.send_signal(number)
        out, errors = self.process.communicate(timeout=8)
        return self.process.returncode, out + errors, time.monotonic() - began


@contextlib.contextmanager
def running(workers: int = 1, drain: float = 5.0) -> Iterator[Running]:
    program = Running(workers, drain)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
            program.process.communicate()


def open_stream(port: int, path: str) -> socket.socket:
    stream = socket.create_connection(("127.0.0.1", port), 5)
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    assert stream.recv(65_536).startswith(b"HTTP/1.1 200")
    return stream


def rest_of(stream: socket.socket) -> bytes:
    pieces = []
    with contextlib.suppress(ConnectionResetError):
        while piece := stream.recv(65_536):
            pieces.append(piece)
    stream.close()
    return b"".join(pieces)


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_lets_a_running_stream_end_and_exits_with_0(workers: int) -> None:
    with running(workers) as program:
        stream = open_stream(program.port, "/stream")
        code, said, _ = program.stop()
        assert rest_of(stream).endswith(b"\r\n0\r\n\r\n")
        assert code == 0, said
        assert said.count("closed") == workers


@pytest.mark.parametrize("workers", [1, 2])
def test_a_drain_ends_in_time_with_endless_streams_and_half_open_sockets(workers: int) -> None:
    with running(workers, drain=0.5) as program:
        stream = open_stream(program.port, "/endless")
        halves = []
        for sent in (b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf"):
            halves.append(socket.create_connection(("127.0.0.1", program.port), 5))
            halves[-1].sendall(sent)
        code, said, took = program.stop()
        assert not rest_of(stream).endswith(b"\r\n0\r\n\r\n")
        assert (code, said.count("closed")) == (0, workers), said
        assert took < 0.5 + 2
        for half in halves:
            half.close()


def test_sigint_stops_at_once_and_still_closes_what_is_open() -> None:
    with running(2, drain=30) as program:
        stream = open_stream(program.port, "/endless")
        code, said, took = program.stop(signal.SIGINT)
        stream.close()
        assert (code, said.count("closed")) == (0, 2), said
        assert took < 2


def test_a_killed_worker_is_replaced_within_a_second_and_the_other_serves_on() -> None:
    with running(2) as program:
        first = int(until_served(program.port))
        killed = time.monotonic()
        os.kill(first, signal.SIGKILL)
        pids: set[int] = set()
        while len(pids) < 2:
            with contextlib.suppress(OSError, http.client.HTTPException):
                pids.add(int(get(program.port)))
            pids.discard(first)
            assert time.monotonic() - killed < 3
        answers = {int(each.split()[-1]) for each in get(program.port, "/siblings").split(b"|")}
        assert answers < pids
        assert len(answers) == 1
        code, said, _ = program.stop()
        assert code == 0, said


def test_workers_whose_supervisor_was_killed_end_by_themselves() -> None:
    with running(2) as program:
        until_served(program.port)
        program.process.kill()
        program.process.communicate(timeout=5)  # returns once every holder of the pipes is gone
        with pytest.raises(OSError, match="refused"):
            get(program.port)


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-c", PROGRAM, str(port), "1", "1"]
        ended = subprocess.run(
            command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=10, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr == f"inference-router: cannot listen on 127.0.0.1:{port}: Address already in use\n"
