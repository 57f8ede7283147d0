"""The programs of a measurement: started on one core, watched through /proc, and stopped with all they started.

CPU time and memory are those of the whole tree of processes. Where there is no /proc (macOS) both are unknown, NaN,
and where cores cannot be chosen the programs run wherever the system puts them.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_PROC: Final = Path("/proc")
UNKNOWN: Final = float("nan")


class NotReady(Exception):
    """A program ended, or did not answer in the time it was given."""


def cores() -> tuple[int, int] | None:
    """A core for the proxy and another one for everything else, or None where they cannot be chosen."""
    if sys.platform != "linux":
        return None
    mine = sorted(os.sched_getaffinity(0))
    return (mine[0], mine[1]) if len(mine) > 1 else None


def pin(core: int | None) -> None:
    """Keep this process, and those that it starts from now on, on one core."""
    if core is not None and sys.platform == "linux":
        os.sched_setaffinity(0, {core})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """One program and all that it starts."""

    def __init__(
        self, command: Sequence[str], *, core: int | None, log: Path, env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        self._log = log
        here = os.sched_getaffinity(0) if sys.platform == "linux" else set()
        pin(core)  # inherited by the child; a function run between fork and exec would cost a slower fork
        try:
            with log.open("wb") as output:
                self.started = time.monotonic()
                self._process = subprocess.Popen(  # noqa: S603 - the command is ours or stands in peers.py
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=output,
                    env={**os.environ, **env},
                    cwd=cwd,
                    start_new_session=True,
                )
        finally:
            if sys.platform == "linux":
                os.sched_setaffinity(0, here)
