"""The Dockerfile, step by step, where there is no Docker: what it copies builds, what it starts serves and drains."""

import ast
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import httpx2
import pytest

from tests.running import free_port, serving

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
STEPS = [line.split(" ", 1) for line in TEXT.splitlines() if line and not line.startswith("#")]


def step(name: str) -> str:
    return [rest for each, rest in STEPS if each == name][-1]


def words(name: str) -> list[str]:
    """A step in its exec form."""
    found: list[str] = ast.literal_eval(step(name))
    return found


def test_it_runs_as_nobody_special_and_is_stopped_by_what_drains() -> None:
    users = [rest for name, rest in STEPS if name == "USER"]
    made = re.search(r"useradd .*--uid (\d+) .*?(\w+)$", " ".join(rest for name, rest in STEPS if name == "RUN"))
    assert made is not None and int(made[1]) > 0 and users == [made[2]]
    assert [name for name, _ in STEPS].index("USER") < [name for name, _ in STEPS].index("ENTRYPOINT")
    assert step("STOPSIGNAL") == "SIGTERM"
    assert words("ENTRYPOINT") == ["inference-router"]  # exec form: the signal reaches it, not a shell


@pytest.mark.slow
def test_what_it_copies_builds_and_what_it_starts_serves_is_healthy_and_drains(tmp_path: Path) -> None:
    source, place = tmp_path / "src", tmp_path / "router"
    source.mkdir()
    for name, rest in STEPS:
        if name == "COPY" and "--from" not in rest:
            *files, target = rest.split()
            for file in files:
                here = ROOT / file
                if here.is_dir():
                    shutil.copytree(here, source / target, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
                else:
                    (source / target).parent.mkdir(exist_ok=True)
                    shutil.copy(here, source / target)
    build = next(rest for name, rest in STEPS if name == "RUN" and "pip install" in rest)
    for part in build.replace("/opt/router", str(place)).split("&&"):
        if "-m venv" in part:
            venv.create(place, with_pip=True)
        else:
            subprocess.run([*shlex.split(part.strip()), "--quiet"], check=True, cwd=source)

    port = free_port()
    env = {"PATH": f"{place}/bin:{os.environ['PATH']}", "HOME": str(tmp_path)}
    command = [str(place / "bin" / words("ENTRYPOINT")[0]), *words("CMD"), "--port", str(port)]
    bare = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
    assert bare.returncode != 0 and "key" in bare.stderr + bare.stdout  # open to the network without a key: refused
    (tmp_path / "outside").mkdir()
    with serving("upstreams: {sandbox: {provider: sandbox}}\n", tmp_path / "outside") as outside:
        drains(command, port, env, tmp_path, outside.base)


def drains(command: list[str], port: int, env: dict[str, str], home: Path, upstream: str) -> None:
    """As in a container: a key in the environment, a configuration in the working directory."""
    (home / "config.yaml").write_text(f"""
virtual_keys: [{{name: default, key: "${{ROUTER_KEY}}"}}]
upstreams: {{outside: {{provider: openai, base_url: "{upstream}/v1", models: [sandbox/slow]}}}}
""")
    server = subprocess.Popen(command, env={**env, "ROUTER_KEY": "hf_a-key-for-the-container"}, cwd=home)
    try:
        health = words_of_health(port)
        for _ in range(100):
            if subprocess.run(health, env=env, capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)
        assert subprocess.run(health, env=env, check=False).returncode == 0
        url, headers = (
            f"http://127.0.0.1:{port}/v1/chat/completions",
            {"authorization": "Bearer hf_a-key-for-the-container"},
        )
        asked = {"model": "sandbox/slow", "stream": True, "messages": [{"role": "user", "content": "one two three"}]}
        with httpx2.stream("POST", url, json=asked, headers=headers, timeout=30) as answer:
            pieces = answer.iter_text()
            said = next(pieces)
            server.send_signal(signal.SIGTERM)
            said += "".join(pieces)
        assert said.rstrip().endswith("[DONE]")  # what runs is finished
        assert server.wait(10) == 0
        assert subprocess.run(health, env=env, capture_output=True, check=False).returncode != 0
    finally:
        server.kill()
        server.wait()


def words_of_health(port: int) -> list[str]:
    found: list[str] = ast.literal_eval(step("HEALTHCHECK").partition("CMD ")[2])
    return [sys.executable if each == "python" else each.replace("8080", str(port)) for each in found]


def test_its_health_check_tells_a_server_from_none(tmp_path: Path) -> None:
    with serving("upstreams: {sandbox: {provider: sandbox}}\n", tmp_path) as running:
        port = int(running.base.rpartition(":")[2])
        assert subprocess.run(words_of_health(port), check=False).returncode == 0
    assert subprocess.run(words_of_health(port), capture_output=True, check=False).returncode != 0
