"""The programs of a measurement: started on one core, watched through /proc, and stopped with all they started.

CPU time and memory are those of the whole tree of processes. Where there is no /proc (macOS) both are unknown, NaN,
and where cores cannot be chosen the programs run wherever the system puts them.
"""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

UNKNOWN: Final = float("nan")
_PROC: Final = Path("/proc")
_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_UTIME, _STIME, _RSS = 11, 12, 21  # fields of /proc/<pid>/stat behind the name, proc(5)


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


def many_files() -> None:
    """Let this process, and those that it starts, hold as many connections as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """One program and all that it starts; stopped when the `with` is left."""

    def __init__(self, command: Sequence[str], *, core: int | None, log: Path, env: Mapping[str, str]) -> None:
        self._log = log
        before = os.sched_getaffinity(0) if sys.platform == "linux" else set()
        pin(core)
        with log.open("wb") as output:
            self._started = time.monotonic()
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **env},
                start_new_session=True,
            )
        if sys.platform == "linux":
            os.sched_setaffinity(0, before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for how, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
            try:
                os.killpg(self._process.pid, how)
                self._process.wait(patience)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue

    def ready(self, answers: Callable[[], bool], *, timeout: float) -> float:
        """Seconds from its start until it answers."""
        while not answers():
            if self._process.poll() is not None:
                raise NotReady(f"ended with {self._process.returncode}: {self.last_words()}")
            if time.monotonic() - self._started > timeout:
                raise NotReady(f"no answer after {timeout:.0f} s: {self.last_words()}")
            time.sleep(0.005)
        return time.monotonic() - self._started

    def last_words(self) -> str:
        return self._log.read_text(errors="replace")[-1500:].strip()

    def cpu(self) -> float:
        """Seconds of CPU that the tree has used."""
        return self._sum(_UTIME, _STIME) / _TICK

    def rss(self) -> float:
        """Bytes that the tree holds in memory; pages that two processes share count for each."""
        return self._sum(_RSS) * _PAGE

    def _sum(self, *fields: int) -> float:
        stats = [stat for pid in _tree(self._process.pid) if (stat := _read(_PROC / str(pid) / "stat"))]
        if not stats:
            return UNKNOWN
        return float(sum(int(stat.rpartition(")")[2].split()[field]) for stat in stats for field in fields))


def _tree(pid: int) -> list[int]:
    found = [pid]
    for tasks in (_PROC / str(pid) / "task").glob("*/children"):
        for child in _read(tasks).split():
            found += _tree(int(child))
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it ended between two looks
        return ""
