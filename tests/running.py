"""A real server as users start it, in a process of its own, for the suites that call it from outside."""

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2

KEY = "hf_CanaryVirtualKey00000000000000000"


@dataclass(frozen=True)
class Running:
    base: str
    log: Path  # stdout: one record a line
    errors: Path  # stderr

    def records(self, wanted: int) -> list[dict[str, object]]:
        """The records, once there are as many as wanted (they are written a fifth of a second apart)."""
        for _ in range(100):
            lines = [json.loads(line) for line in self.log.read_text().splitlines()]
            if len(lines) >= wanted:
                return lines
            time.sleep(0.05)
        raise AssertionError(f"{len(lines)} records, not {wanted}")

    def record(self, request_id: str) -> dict[str, object]:
        """The record of one request, once it is written."""
        for _ in range(200):
            for each in self.records(0):
                if each["id"] == request_id:
                    return each
            time.sleep(0.05)
        raise AssertionError(f"no record of {request_id}")

    def written(self) -> int:
        """How many records there are, with those of every request that has ended by now."""
        mark = f"mark-{time.monotonic_ns()}"
        httpx2.post(
            self.base + "/v1/embeddings", json={"model": "no/such", "input": ""}, headers={"x-request-id": mark}
        )
        self.record(mark)
        return len(self.records(0))


def server_of(running: Running) -> int:
    """Its process, for those who look at what it holds."""
    port = running.base.rpartition(":")[2].encode()
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        words = each.read_bytes().split(b"\0")
        if b"router" in words and port in words:
            return int(each.parent.name)
    raise AssertionError("the server is not there")


def supervisor_of(running: Running) -> int:
    """The process that was started, whoever it forked."""
    pid = server_of(running)
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return parent if b"router" in Path(f"/proc/{parent}/cmdline").read_bytes().split(b"\0") else pid


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def leaked(text: str) -> str:
    """Where a key stands in what the server shows: every key of the suite has this word in it."""
    at = text.lower().find("canary")
    return "" if at < 0 else text[max(0, at - 60) : at + 60]


@contextlib.contextmanager
def serving(config: str, place: Path, verify: ssl.SSLContext | None = None) -> Iterator[Running]:
    """`verify`: it speaks TLS, and this trusts it."""
    file = place / "config.yaml"
    file.write_text(config)
    port = free_port()
    running = Running(f"http{'s' if verify else ''}://127.0.0.1:{port}", place / "out.log", place / "err.log")
    command = [sys.executable, "-m", "router", "serve", "--config", str(file), "--port", str(port)]
    root = str(Path(__file__).parents[1])
    with running.log.open("wb") as out, running.errors.open("wb") as err:
        server = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, "PYTHONPATH": root})
    try:
        for _ in range(200):
            with contextlib.suppress(httpx2.TransportError):
                if httpx2.get(running.base + "/health/readiness", verify=verify or True).status_code == 200:
                    break
            assert server.poll() is None, running.errors.read_text()
            time.sleep(0.05)
        yield running
        with contextlib.suppress(httpx2.TransportError):
            assert not leaked(httpx2.get(running.base + "/metrics", verify=verify or True).text)
            recent = httpx2.get(running.base + "/admin/requests", verify=verify or True)
            assert not leaked(recent.text)
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0, running.errors.read_text()
        assert not leaked(running.log.read_text() + running.errors.read_text())
