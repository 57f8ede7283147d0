"""What reads deploy/ as its users' programs would, in a venv and in directories of its own."""

import json
import subprocess
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.drill.debian import Program, program

READERS = ("helm-python-sdk==0.2.2", "kubernetes-validate==1.37.0", "promql-parser==0.12.0", "compose-spec==0.2.1")
ASKED = Path(__file__).parents[1] / "clients" / "callers" / "deploy_files.py"
Reader = Callable[..., Any]


@pytest.fixture(scope="session")
def reader(venvs: Path) -> Reader:
    """`reader("chart", path=…)`: what the real things say."""
    python = venvs / "readers" / "bin" / "python"
    if not (venvs / "readers" / "whole").exists():
        venv.create(venvs / "readers", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *READERS], check=True)
        (venvs / "readers" / "whole").touch()

    def read(what: str, **about: Any) -> Any:
        told = json.dumps({"do": what, **about})
        answer = subprocess.run([python, ASKED], input=told, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    return read


def of_debian(name: str, place: Path) -> Program:
    found = program(name, place)
    if found is None:
        pytest.skip(f"{name} is not installed, and no package of it is to be had here")
    return found


@pytest.fixture(scope="session")
def promtool(venvs: Path) -> Program:
    return of_debian("promtool", venvs / "programs")


@pytest.fixture(scope="session")
def haproxy(venvs: Path) -> Program:
    return of_debian("haproxy", venvs / "programs")
