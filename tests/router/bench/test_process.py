"""Programs under measurement: their CPU, their memory, their end."""

import sys
from pathlib import Path

import pytest

from router.bench.process import NotReady, Program

_SPIN = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_cpu_and_memory_are_those_of_the_whole_tree(tmp_path: Path) -> None:
    with Program([sys.executable, "-c", _SPIN], core=None, log=tmp_path / "log", env={}) as program:
        program.ready(lambda: program.cpu() > 0.3, timeout=20)  # the parent only waits; so this is its child's
        assert program.rss() > 10e6


def test_a_program_that_ends_is_not_ready_and_its_last_words_are_told(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such port')"]
    with (
        Program(command, core=None, log=tmp_path / "log", env={}) as program,
        pytest.raises(NotReady, match="ended with 1: no such port"),
    ):
        program.ready(lambda: False, timeout=20)


def test_the_environment_given_is_added_to_ours(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; print(os.environ['BENCH_WORD'], 'PATH' in os.environ)"]
    log = tmp_path / "log"
    with Program(command, core=None, log=log, env={"BENCH_WORD": "hello"}) as program:
        program.ready(lambda: log.read_text() == "hello True\n", timeout=20)
