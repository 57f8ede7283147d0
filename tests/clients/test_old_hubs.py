"""The guides under the huggingface_hub that they were written for, and what only that can run (`pytest -m clients`).

Up to 0.27 two environment variables move all of it. `client.post` answers with bytes, never with a `.content`; pages
print both. The legacy `InferenceApi` asks the Hub for the task, and posts to `/pipeline/{task}/{id}`.
"""

import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.seeded import SEEDS, TASKS, config, run
from tests.clients.test_seeds import said_by_pros, said_by_servers, said_by_the_course, said_by_the_guide
from tests.running import Running, serving

pytestmark = pytest.mark.clients

OLD_HUB = ("huggingface_hub[inference]==0.25.2", "numpy>=2", "pillow>=11", "requests>=2.32")


@pytest.fixture(scope="session")
def old_hub(venvs: Path) -> Path:
    """An interpreter with the old client, and with nothing of ours."""
    found = venvs / "old-hub" / "bin" / "python"
    if not (venvs / "old-hub" / "whole").exists():
        venv.create(venvs / "old-hub", with_pip=True)
        subprocess.run([found, "-m", "pip", "install", "--quiet", *OLD_HUB], check=True)
        (venvs / "old-hub" / "whole").touch()
    return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(config(), tmp_path_factory.mktemp("old-hubs")) as running:
        yield running


def of_then(name: str, old_hub: Path, running: Running, place: Path) -> dict[str, Any]:
    return run([old_hub, SEEDS / name], running, place, HF_INFERENCE_ENDPOINT=running.base)


def test_inference_for_pros(old_hub: Path, running: Running, tmp_path: Path) -> None:
    said_by_pros(of_then("pros.py", old_hub, running, tmp_path))


def test_run_inference_on_servers(old_hub: Path, running: Running, tmp_path: Path) -> None:
    said_by_servers(of_then("servers.py", old_hub, running, tmp_path))


def test_the_course_page(old_hub: Path, running: Running, tmp_path: Path) -> None:
    said_by_the_course(of_then("course.py", old_hub, running, tmp_path))


def test_the_practical_guide(old_hub: Path, running: Running, tmp_path: Path) -> None:
    said_by_the_guide(of_then("guide.py", old_hub, running, tmp_path))


def test_calls_by_hand_with_requests(old_hub: Path, running: Running, tmp_path: Path) -> None:
    found = of_then("raw_requests.py", old_hub, running, tmp_path)
    assert found["data"] == [{"generated_text": "Can you please let us know more details about your " * 2}]
    assert found["output"] == [{"generated_text": "A HTTP POST request is used to " * 2}]


def test_what_only_old_releases_have(old_hub: Path, running: Running, tmp_path: Path) -> None:
    found = of_then("servers_legacy.py", old_hub, running, tmp_path)
    assert bytes.fromhex(found["posted"]) == b"\x89PNG\r\n\x1a\n"
    assert found["astronaut"] == [64, 64] and "".join(found["tokens"]) == "The Huggingface Hub is"
    assert len(found["classified"]) == 5 and found["legacy vectors"] == 384
    assert found["legacy masks"] == found["masks"] and "The goal of life is life." in found["masks"]
    assert found["legacy labels"] == found["labels"] and found["labels"][0] == "refund"
    told = {task: set(models) for task, models in found["deployed"].items()}
    for model, task in TASKS.items():
        assert model in told[{"conversational": "text-generation"}.get(task, task)], model
    assert found["status"] == [True, "Loaded", "text-generation-inference"]
