"""The routers of a drill: processes with one configuration, a port and a home (so a spool) each."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from deploy.drill.balancer import is_ready

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Replica:
    def __init__(self, name: str, config: Path, place: Path) -> None:
        self.port = free_port()
        self._home = place / name
        self._home.mkdir()
        self._command = [sys.executable, "-m", "router", "serve", "--config", str(config), "--port", str(self.port)]
        self._process: subprocess.Popen[bytes]

    def start(self) -> None:
        state = {"HOME": str(self._home), "XDG_STATE_HOME": str(self._home)}
        env = {**os.environ, **state, "PYTHONPATH": str(ROOT)}
        with (self._home / "out.log").open("ab") as out, (self._home / "err.log").open("ab") as err:
            self._process = subprocess.Popen(self._command, env=env, cwd=self._home, stdout=out, stderr=err)

    def ready(self) -> None:
        for _ in range(300):
            if is_ready(self.port):
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise SystemExit(f"a router did not start: {(self._home / 'err.log').read_text()[-1000:]}")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ended(self, seconds: float) -> int:
        """Its exit code."""
        return self._process.wait(seconds)

    def generation(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            found = re.search(rb"^router_config_generation (\d+)", answer.read(), re.MULTILINE)
        return int(found[1]) if found else 0

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
