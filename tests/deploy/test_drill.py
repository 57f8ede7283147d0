"""Three routers behind a balancer, one killed, one drained, one reloaded; callers hardly notice (`pytest -m slow`)."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from deploy.drill.load import Seen
from deploy.drill.report import Report

ROOT = Path(__file__).parents[2]

# Limits and the ledger are looked at once the router keeps them: then this is empty.
WITHOUT: list[str] = []


@pytest.mark.slow
def test_callers_lose_nothing_that_a_retry_would_not_hide(venvs: Path) -> None:
    command = [sys.executable, "-m", "deploy.drill", *WITHOUT, "--programs", str(venvs / "programs")]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    print(told.stdout)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("lost", ["failed", "cut"])
def test_a_drill_in_which_something_was_lost_does_not_hold(lost: str) -> None:
    assert Report("x", Seen(), 0, [2, 2, 2]).holds
    seen = Seen()
    getattr(seen, lost)["drained"] = 1
    assert not Report("x", seen, 0, [2, 2, 2]).holds
    assert Report("x", Seen(cut=Counter(killed=1)), 0, [2, 2, 2]).holds
    assert not Report("x", Seen(), 0, [2, 1, 2]).holds and not Report("x", Seen(), 1, [2, 2, 2]).holds
