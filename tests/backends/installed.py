"""Model servers as their users install and start them: each in a venv of its own, in a process of its own.

torch is installed first, by itself, and named again with everything after it: any other order takes the build for GPUs.
Where the index has only that one, `PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu` is the CPU's.
"""

import contextlib
import os
import subprocess
import time
import venv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2

TORCH = "torch==2.13.0"
START = 120.0  # seconds; five are usual
OFFLINE = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1", "PYTHONPATH": ""}


@dataclass(frozen=True)
class Backend:
    base: str
    process: subprocess.Popen[bytes]


def installed(place: Path, packages: Sequence[str]) -> Path:
    """The directory of the venv's programs."""
    programs = place / "bin"
    if not (place / "whole").exists():
        venv.create(place, with_pip=True, clear=True)
        pip = [str(programs / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, TORCH], check=True)
        subprocess.run([*pip, TORCH, *packages], check=True)
        (place / "whole").touch()
    return programs


def make(programs: Path, maker: Path, *arguments: str | Path) -> None:
    """Run one of the programs here that make models."""
    subprocess.run([programs / "python", maker, *arguments], check=True, env={**os.environ, **OFFLINE})


@contextlib.contextmanager
def started(
    command: Sequence[str | Path], port: int, log: Path, env: dict[str, str] | None = None
) -> Iterator[Backend]:
    """From when `/health` answers."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, env={**os.environ, **OFFLINE, **(env or {})}, stdout=out, stderr=out)
    backend = Backend(f"http://127.0.0.1:{port}", process)
    try:
        until = time.monotonic() + START
        while not healthy(backend):
            assert process.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.1)
        yield backend
    finally:
        process.kill()
        process.wait()


def healthy(backend: Backend) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return httpx2.get(backend.base + "/health").status_code == 200
    return False
