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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        for _ in range(500):
            for each in self.records(0):
                if each["id"] == request_id:
                    return each
            time.sleep(0.02)
        raise AssertionError(f"no record of {request_id}")

    def looked_up(self, request_id: str) -> dict[str, Any]:
        """What operators see of one request, once it has ended: its caller may know that a moment before."""
        path = f"/admin/requests/{request_id}"
        found: dict[str, Any] = self.shows(path, lambda answer: answer.status_code == 200).json()
        return found

    def shows(self, path: str, wanted: Callable[[httpx2.Response], bool]) -> httpx2.Response:
        """What stands at a path of the operators', once it is what is wanted."""
        with httpx2.Client(base_url=self.base, verify=False) as client:
            for _ in range(100):
                answer = client.get(path)
                if wanted(answer):
                    return answer
                time.sleep(0.02)
        raise AssertionError(answer.text)

    def is_idle(self) -> bool:
        """No request is in flight any more."""
        return bool(self.shows("/metrics", lambda answer: "router_inflight_requests 0.0" in answer.text))

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
        with httpx2.Client(base_url=running.base, verify=verify or False, timeout=5) as client:
            for _ in range(500):
                with contextlib.suppress(httpx2.TransportError):
                    if client.get("/health/readiness").status_code == 200:
                        break
                assert server.poll() is None, running.errors.read_text()
                time.sleep(0.02)
        yield running
        with (
            contextlib.suppress(httpx2.TransportError),
            httpx2.Client(base_url=running.base, verify=verify or False, timeout=5) as client,
        ):
            assert not leaked(client.get("/metrics").text + client.get("/admin/requests").text)
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0, running.errors.read_text()
        assert not leaked(running.log.read_text() + running.errors.read_text())
