"""The backend as a process: how it ends, and what its command line says to what it cannot do."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner

from router import cli
from router.backend import TASKS
from router.backend.serving import names_of
from tests.router.backend.fakes import SOON
from tests.running import free_port

ROOT = Path(__file__).parents[3]


@contextlib.contextmanager
def served(pipe: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port = free_port()
    command = [sys.executable, "-m", "tests.router.backend.served", str(port), str(pipe), *options]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(pipe.parent / "cache")}
    process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def get(base: str, path: str) -> httpx2.Response:
    """Once there is somebody to answer."""
    until = time.monotonic() + SOON
    while True:
        try:
            return httpx2.get(base + path)
        except httpx2.TransportError:
            assert time.monotonic() < until
            time.sleep(0.02)


def test_sigterm_lets_those_in_line_have_their_answers(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with served(pipe, "--preload") as (process, base):
        while get(base, "/info").json()["state"] != "ready":
            pass
        answers = list[httpx2.Response]()

        def ask() -> None:
            answers.append(httpx2.post(base, json={"inputs": "a"}, timeout=SOON))

        callers = [threading.Thread(target=ask) for _ in range(2)]
        for each in callers:
            each.start()
        while get(base, "/info").json()["queue"] != 1:
            pass
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(httpx2.TransportError):
            while True:  # until nobody new is let in
                httpx2.get(base + "/health")
        for said, so_far in (("first", 1), ("second", 2)):
            pipe.write_text(said)
            while len(answers) < so_far:  # a pipe that is still being read would be given both
                time.sleep(0.01)
        for each in callers:
            each.join(SOON)
        assert [each.json()[0][0]["label"] for each in answers] == ["first", "second"]
        assert process.wait(SOON) == 0
        assert (tmp_path / "cache" / "inference-router" / "loads.json").is_file()


def test_a_model_that_cannot_be_preloaded_ends_it(tmp_path: Path) -> None:
    with served(tmp_path / "absent", "--preload") as (process, _):
        assert process.wait(SOON) == 1
        assert process.stderr is not None
        assert "could not be loaded: OSError: no such pipe" in process.stderr.read()


def test_a_directory_goes_by_its_last_name(tmp_path: Path) -> None:
    (tmp_path / "tiny-sd").mkdir()
    assert names_of(str(tmp_path / "tiny-sd"))[0] == "tiny-sd"
    assert names_of("org/model") == ("org/model",)


def test_a_task_that_there_is_not_is_answered_with_those_that_there_are() -> None:
    result = CliRunner().invoke(cli.main, ["backend", "--task", "text-to-spam", "--model", "x"])
    assert result.exit_code == 2
    assert 'no task is named "text-to-spam". One of: ' in result.output
    assert all(task in result.output for task in TASKS)


def test_libraries_that_are_not_there_are_asked_for_by_the_extras_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for task in ("text-to-image", "text-classification"):
        monkeypatch.delitem(sys.modules, TASKS[task], raising=False)
        result = CliRunner().invoke(cli.main, ["backend", "--task", task, "--model", "x"])
        assert result.exit_code == 1
        assert result.output.endswith("is not installed: pip install 'inference-router[backend]'\n")
