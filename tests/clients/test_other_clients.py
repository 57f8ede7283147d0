"""Clients that need a venv of their own, unmodified, as programs beside the running server (`pytest -m clients`).

Each program in callers/ is what a user of that client writes; it prints what it got.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import KEY, Running, serving

pytestmark = pytest.mark.clients

CALLERS = Path(__file__).parent / "callers"
CONFIG = f"""
virtual_keys: [{{name: alice, key: {KEY}}}]
upstreams: {{sandbox: {{provider: sandbox}}}}
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(CONFIG, tmp_path_factory.mktemp("other-clients")) as running:
        yield running


def run(command: list[str], running: Running, cwd: Path | None = None) -> dict[str, Any]:
    env = {**os.environ, "ROUTER_URL": running.base, "ROUTER_KEY": KEY, "PYTHONPATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_langchain_chats_streams_calls_tools_and_embeds(client_python: str, running: Running) -> None:
    found = run([client_python, str(CALLERS / "langchain_calls.py")], running)
    assert found["invoked"] == "hello from langchain" and found["usage"]["output_tokens"] == 3
    assert "".join(found["streamed"]) == "one two three four" and len(found["streamed"]) > 1
    assert [each["output_tokens"] for each in found["counted"]] == [2]
    assert found["awaited"] == "hello again"
    assert found["tools"] == ["weather"]
    assert "complete me" in found["completed"]
    assert len(found["vectors"]) == 2 and found["vectors"][0] > 0
    assert found["refused"] == "OpenAIAuthenticationError"
    assert found["unknown"].startswith("OpenAIModelNotFoundError") and "no/such" in found["unknown"]


def test_llama_index_chats_completes_and_streams(client_python: str, running: Running) -> None:
    found = run([client_python, str(CALLERS / "llama_index_calls.py")], running)
    assert found["chat"] == "hello from the index"
    assert "".join(found["streamed"]) == "".join(found["awaited"]) == "hello from the index"
    assert len(found["streamed"]) > 1
    assert "finish this" in found["complete"]
    assert "one two three" in "".join(found["completed"])


def test_tgis_own_client_generates_and_streams_with_details(client_python: str, running: Running) -> None:
    found = run([client_python, str(CALLERS / "text_generation_calls.py")], running)
    assert found["models"] == found["tgi"]
    assert found["tgi"]["text"] == found["tgi"]["streamed"] == found["tgi"]["last"] != ""
    assert found["tgi"]["tokens"] > 0 and found["tgi"]["finish"]
    assert found["awaited"] == "four five"
    assert found["refused"]["no/such"] == "NotFoundError: Model no/such does not exist"
    assert found["refused"]["sandbox/context-length"].startswith("ValidationError: Input validation error")


def test_huggingface_js_and_openais_node_package(client_modules: Path, running: Running) -> None:
    caller = client_modules / "huggingface_js_calls.mjs"
    shutil.copy(CALLERS / caller.name, caller)  # Node looks for packages where the program lies
    node = shutil.which("node")
    assert node is not None
    found = run([node, str(caller)], running, cwd=client_modules)
    assert found["chat"] == found["streamed"] == "hello from node"
    assert found["generated"] == found["tokens"] == "one two three" and found["model"] == "sandbox/echo"
    assert found["refused"]
    assert found["openai"] == found["openaiStreamed"] == "hello from node"
    assert found["vectors"] == 2 and isinstance(found["transcribed"], str)
    assert found["openaiRefused"] == "AuthenticationError"
