"""The command line: what each command prints, and one line for whatever is wrong."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from router import build, cli, config

CANARY = "sk-canary-0123456789abcdef"
FILE = """
virtual_keys: [{name: alice, key: "${ALICE_KEY:-}"}]
upstreams:
  vllm: {provider: openai, base_url: "http://127.0.0.1:8000/v1", models: discover, when: answers}
  groq: {provider: groq, keys: ["${GROQ_API_KEY:-}"]}
  sandbox: {provider: sandbox}
models:
  mine/model:
    task: conversational
    policy: weighted
    deployments: [{upstream: groq, provider_id: llama}, {upstream: sandbox, provider_id: sandbox/echo}]
  other: {alias: mine/model}
  "any/*": {deployments: [{upstream: vllm}]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(FILE)
    return path


def run(*words: str | Path, **env: str) -> Result:
    result = CliRunner().invoke(cli.main, [str(word) for word in words], env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output and "canary" not in result.output
    return result


def test_check_prints_the_routes_and_what_to_know(file: Path) -> None:
    result = run("check", file)
    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert lines[0] == f"{file} holds."
    assert any(re.fullmatch(r"mine/model +conversational +weighted: groq \(off\), sandbox", line) for line in lines)
    assert any(re.fullmatch(r"other +is mine/model", line) for line in lines)
    assert any(re.fullmatch(r"any/\* +\* +vllm", line) for line in lines)
    assert any(re.fullmatch(r"… +whatever vllm lists, while it answers", line) for line in lines)
    assert "- off for want of a key: groq (GROQ_API_KEY)" in lines
    assert "- virtual key alice is off: it is empty (ALICE_KEY)" in lines


def test_check_prints_every_fault(file: Path) -> None:
    file.write_text(FILE.replace("groq:", "gorq:").replace("weighted", "wieghted") + f"auth: {{admin: {CANARY}}}")
    result = run("check", file)
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        'config.yaml auth.admin: there is no setting "admin"; did you mean "admin_key"?',
        'config.yaml models["mine/model"].policy: expected ordered, weighted, fastest, cheapest or least_busy; '
        'did you mean "weighted"?',
        'config.yaml models["mine/model"].deployments[0].upstream: no upstream is named "groq"; did you mean "gorq"?',
    ]


def test_check_prints_the_schema() -> None:
    result = run("check", "--schema")
    assert json.loads(result.output)["properties"]["server"]


def test_routes_are_those_of_the_file_that_is_found(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "mine/model" in run("routes", "--config", file).output
    monkeypatch.chdir(file.parent)
    assert "mine/model" in run("routes").output
    assert "mine/model" not in run("routes", "--config", config.SHIPPED).output


def test_explain_says_what_would_be_tried_and_why_other_places_are_not(file: Path) -> None:
    assert run("explain", "other", "--config", file).output.splitlines() == [
        "mine/model: conversational, weighted",
        "  1. sandbox/sandbox/echo",
        "  not groq/llama: it has no key (GROQ_API_KEY)",
    ]
    with_key = run("explain", "mine/model", "--config", file, GROQ_API_KEY=f"gsk_{CANARY}").output
    assert "groq/llama" in with_key and "not" not in with_key
    wrong_task = run("explain", "mine/model", "--task", "text-to-image", "--config", file).output
    assert "  not sandbox/sandbox/echo: it serves conversational, not text-to-image" in wrong_task.splitlines()
    assert "  1. vllm/any/thing, if it answers" in run("explain", "any/thing", "--config", file).output
    off = run("explain", "Qwen/Qwen3-32B", "--config", file)
    assert off.exit_code == 0 and "  not groq/qwen/qwen3-32b: it has no key (GROQ_API_KEY)" in off.output.splitlines()


def test_explain_of_what_nobody_has_is_one_line(file: Path) -> None:
    result = run("explain", "nobody/has", "--config", file)
    assert result.exit_code == 1
    assert (
        result.output == 'inference-router: nobody has a model "nobody/has"; `inference-router routes` lists them all\n'
    )


@pytest.mark.parametrize(("style", "shape"), [("hf", r"hf_[A-Za-z0-9]{34}"), ("sk", r"sk-[A-Za-z0-9]{48}")])
def test_a_key_is_made_with_the_line_for_the_file(file: Path, style: str, shape: str) -> None:
    key, line = run("keys", "create", "--style", style, "--name", "bob").output.splitlines()
    assert re.fullmatch(shape, key) and key not in run("keys", "create", "--style", style).output
    assert hashlib.sha256(key.encode()).hexdigest() in line and key not in line
    file.write_text(f"virtual_keys:\n{line}\n")
    (made,) = config.load(file, {}).config.virtual_keys
    assert made.name == "bob" and made.digest == hashlib.sha256(key.encode()).digest()


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["serve", "--port", "http"],
        ["serve", "--port", "70000"],
        ["serve", "--workers", "0"],
        ["serve", "--what"],
        ["explain"],
        ["keys", "destroy"],
        ["keys", "create", "--style", "xx"],
        ["check", "a", "b"],
    ],
)
def test_a_bad_invocation_is_one_line(words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert result.output.startswith("inference-router: ") and result.output.count("\n") == 1


@pytest.mark.parametrize("command", ["serve", "routes"])
def test_a_configuration_that_does_not_hold_starts_nothing(command: str, tmp_path: Path) -> None:
    result = run(command, "--config", tmp_path / "nowhere.yaml")
    assert result.exit_code == 1
    assert result.output == f"{tmp_path}/nowhere.yaml: cannot be read: No such file or directory\n"


def test_listening_beyond_loopback_without_a_key_is_refused_in_one_line(file: Path) -> None:
    result = run("serve", "--config", file, "--host", "0.0.0.0")
    assert result.exit_code == 1
    assert result.output.startswith(
        "config.yaml server.host: other machines could reach it, and there is no virtual key"
    )
    assert result.output.count("\n") == 1


def test_without_a_command_it_says_which_there_are() -> None:
    for words in ([], ["--help"], ["-h"]):
        assert "explain" in run(*words).output
    said = run("version").output
    assert said.startswith("inference-router ") and said.endswith(f" ({build.WORD})\n")
