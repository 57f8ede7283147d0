"""huggingface.js, every task that it has: it refuses what is not of the very shape it expects (`pytest -m clients`)."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.seeded import run
from tests.clients.test_hub_tasks import CONFIG
from tests.router.sandbox.tasks.requests import RECORDING
from tests.running import Running, serving

pytestmark = pytest.mark.clients

CALLER = Path(__file__).parent / "callers" / "huggingface_js_tasks.mjs"
CHAT = {"task": "conversational", "deployments": [{"upstream": "sandbox", "provider_id": "sandbox/echo"}]}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    config = json.dumps({**CONFIG, "models": {**CONFIG["models"], "org/chat": CHAT}})
    with serving(config, tmp_path_factory.mktemp("js-tasks")) as running:
        yield running


@pytest.fixture(scope="module")
def found(client_modules: Path, running: Running, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    caller = client_modules / CALLER.name
    shutil.copy(CALLER, caller)  # Node looks for packages where the program lies
    node = shutil.which("node")
    assert node is not None
    place = tmp_path_factory.mktemp("node")
    sound = place / "sound.wav"
    sound.write_bytes(RECORDING)
    return run([node, caller], running, place, SEED_SOUND=str(sound))


@pytest.mark.parametrize("way", ["endpoint", "hosted"])
def test_it_takes_the_answer_of_every_task(found: dict[str, Any], way: str) -> None:
    answers = found[way]
    assert {task: each["failed"] for task, each in answers.items() if "failed" in each} == {}
    assert answers["question-answering"]["answer"] == "Clara"
    assert answers["image-to-text"] == {"generated_text": "a picture of 32 by 32 pixels"}
    assert answers["text-to-image"] == answers["image-to-image"] == ["image/png", True]
    assert answers["text-to-speech"] == ["audio/wav", True]
    assert answers["automatic-speech-recognition"]["text"] == f"heard {len(RECORDING)} bytes"
    assert len(answers["feature-extraction"]) == 2 and len(answers["tabular-regression"]) == 2


def test_with_its_hosts_pointed_here_a_model_alone_is_enough(found: dict[str, Any]) -> None:
    assert found["auto"] == "image/png" and found["chat"] == "hello from node"
