"""Nothing of the machine's own set-up reaches a test: no proxies, no provider keys. And what marked tests install.

Clients and servers that the marked steps need have venvs of their own; ROUTER_TEST_VENVS keeps them between runs.
"""

import gc
import os
import shutil
import subprocess
import tempfile
import venv
from pathlib import Path

import pytest

from router import build

NAMES = ("_KEY", "_TOKEN", "_PROXY", "_proxy", "SSL_CERT_FILE")  # the last is read anew, in 18 ms, for each httpx2.get

# The versions whose requests were captured when the router's contract was written.
CLIENTS = (
    "langchain-openai==1.7.3",
    "llama-index-llms-openai-like==0.8.1",
    "text-generation==0.7.0",
)
NODE_CLIENTS = ("@huggingface/inference@4.13.30", "openai@6.49.0")


# The ledgers of servers whose configuration does not say where theirs is.
_STATE = tempfile.TemporaryDirectory(prefix="router-state-")
os.environ["XDG_STATE_HOME"] = _STATE.name
os.environ.pop("STATE_DIRECTORY", None)
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):  # each server that is started would compile all of the router anew
    os.environ["PYTHONPYCACHEPREFIX"] = f"{_STATE.name}/bytecode"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if build.NATIVE:
        for each in items:
            if each.get_closest_marker("plain"):
                each.add_marker(pytest.mark.skip(reason="the router is native"))


def pytest_collection_finish() -> None:
    """Seven thousand tests stay until the end; the collector need not look through them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.endswith(NAMES):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def venvs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get("ROUTER_TEST_VENVS")
    return Path(kept) if kept else tmp_path_factory.mktemp("venvs")


@pytest.fixture(scope="session")
def client_python(venvs: Path) -> str:
    """An interpreter with the Python clients, and with nothing of ours."""
    found = venvs / "clients" / "bin" / "python"
    if not (venvs / "clients" / "whole").exists():
        venv.create(venvs / "clients", with_pip=True)
        subprocess.run([found, "-m", "pip", "install", "--quiet", *CLIENTS], check=True)
        (venvs / "clients" / "whole").touch()
    return str(found)


@pytest.fixture(scope="session")
def client_modules(venvs: Path) -> Path:
    """A directory with the Node clients."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    found = venvs / "node"
    if not (found / "whole").exists():
        found.mkdir(parents=True, exist_ok=True)
        (found / "package.json").write_text("{}")
        subprocess.run([npm, "install", "--silent", "--no-audit", "--no-fund", *NODE_CLIENTS], cwd=found, check=True)
        (found / "whole").touch()
    return found
