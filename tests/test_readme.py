"""What the README shows is run: its curl, its Python, its JavaScript, its configuration, its editor settings.

Blocks are found by their language and by the package that they import. The address in them is replaced by that of a
server of the test's own; nothing else is.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner

import providers
from router import config
from router.cli import main
from router.identity import Licence
from tests.running import Running, serving

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ADDRESS = "http://127.0.0.1:8080"


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def block(language: str, word: str) -> str:
    found = [each for each in blocks(language) if word in each]
    assert len(found) == 1, f"{len(found)} {language} blocks with {word}"
    return found[0]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving((ROOT / "config.yaml").read_text(), tmp_path_factory.mktemp("readme")) as running:
        yield running


def run(command: list[str], text: str, running: Running, cwd: Path | None = None) -> str:
    env = {**os.environ, "PYTHONPATH": ""}
    text = text.replace(ADDRESS, running.base)
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, env=env, cwd=cwd, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_curl_answers(running: Running) -> None:
    reply = json.loads(run(["bash", "-e"], block("bash", "curl"), running))
    assert reply["choices"][0]["message"]["content"] == "hello"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("from openai", "hello there"),
        ("chat_completion(", "hello there\nhello there\n"),
        ("text_to_image", "(64, 64)\n2\n"),
    ],
)
def test_the_python_of_the_plain_clients_runs(word: str, said: str, running: Running) -> None:
    assert run([sys.executable, "-"], block("python", word), running) == said


def test_the_lines_that_point_a_client_of_the_hub_here_do(running: Running) -> None:
    ask = """
client = InferenceClient(token="hf_any")
print(client.chat_completion([{"role": "user", "content": "hi"}], model="sandbox/echo").choices[0].message.content)
"""
    assert run([sys.executable, "-"], block("py", "INFERENCE_PROXY_TEMPLATE") + ask, running) == "hi\n"


@pytest.mark.clients
@pytest.mark.parametrize("word", ["langchain_openai", "llama_index"])
def test_the_python_of_the_frameworks_runs(word: str, running: Running, client_python: str) -> None:
    assert run([client_python, "-"], block("python", word), running) == "hello there\n"


@pytest.mark.clients
def test_the_javascript_runs(running: Running, client_modules: Path) -> None:
    node = shutil.which("node")
    assert node is not None
    assert (
        run([node, "--input-type=module", "-"], block("js", "huggingface"), running, client_modules) == "hello there\n"
    )


def test_what_the_manual_names_is_there(running: Running) -> None:
    """Its links lead somewhere; its figures are shown; its commands have the options that it gives them."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    figures = httpx2.get(running.base + "/metrics").text
    for page in pages:
        text = page.read_text()
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / link).exists(), (page.name, link)
        for name in re.findall(r"`(router_\w+)`", text):
            assert f"# TYPE {name} " in figures, (page.name, name)
    for line in re.findall(
        r"^inference-router (?:keys|usage) .*$", (ROOT / "docs/tenants.md").read_text(), re.MULTILINE
    ):
        words = line.partition("#")[0].split()[1:]
        group = [word for word in words[:2] if word.isalpha()]
        shown = CliRunner().invoke(main, [*group, "--help"]).output
        for option in (word for word in words if word.startswith("--")):
            assert option in shown, line


@pytest.mark.parametrize("text", [*blocks("yaml"), *blocks("yaml", (ROOT / "docs/replicas.md").read_text())])
def test_the_configurations_are_valid(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    env = {"ALICE_KEY": "hf_an-example-of-a-key", "BOB_KEY": "hf_an-example-of-bobs-key", "POSTGRES_PASSWORD": "a"}
    loaded = config.load(file, env)
    assert loaded.config.upstreams or "stores:" in text


PRO_ONLY = (  # the curated models of the Hub's PRO plan
    "meta-llama/Meta-Llama-3-8B-Instruct", "meta-llama/Meta-Llama-3-70B-Instruct",
    "mistralai/Mixtral-8x7B-Instruct-v0.1", "NousResearch/Nous-Hermes-2-Mixtral-8x7B-DPO",
    "HuggingFaceH4/zephyr-7b-beta", "meta-llama/Llama-2-7b-chat-hf", "meta-llama/Llama-2-13b-chat-hf",
    "mistralai/Mistral-7B-Instruct-v0.2", "codellama/CodeLlama-7b-hf", "codellama/CodeLlama-13b-hf",
    "codellama/CodeLlama-34b-Instruct-hf", "stabilityai/stable-diffusion-xl-base-1.0", "suno/bark",
)  # fmt: skip


def test_what_is_shown_of_tenants_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("ALICE_KEY", "hf_CanaryOfAlice00000000000000000")
    monkeypatch.setenv("BOB_KEY", "hf_CanaryOfBob0000000000000000000")
    with serving(block("yaml", "markup: 20%"), tmp_path) as running:
        said = block("sh", "keys create --save").replace(ADDRESS, running.base)
        said = said.replace("inference-router ", f"{sys.executable} -m router ").replace("sleep 2 ", "sleep 1.2 ")
        done = subprocess.run(
            ["bash", "-e"], input=said, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert _calm(done.stdout) == _calm(block("text", "HTTP/1.1 429"))

        bearer = {"authorization": f"Bearer {os.environ['BOB_KEY']}"}
        body = {"model": "acme/chat", "max_tokens": 20_000_000, "messages": [{"role": "user", "content": "hello"}]}
        refused = httpx2.post(running.base + "/v1/chat/completions", json=body, headers=bearer)
        assert (refused.status_code, refused.json()["error"]["code"]) == (402, "budget_exceeded")
        own = httpx2.get(running.base + "/v1/usage?by=model,day&since=7d", headers=bearer).json()
        assert own["data"] == [] and [each["limit"] for each in own["limits"]] == ["requests", "concurrency", "budget"]


def _calm(text: str) -> str:
    """Without carriage returns, and whether a second had passed."""
    return re.sub(r"\b29\b", "30", text.replace("\r", ""))


def test_the_free_plan_has_all_but_what_is_for_pro(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(block("yaml", "markup: 20%"))
    plans = config.load(file, {}).config.plans
    licence = Licence(plans)
    free, pro = (licence.of_tenant("someone", name) for name in ("free", "pro"))
    assert [each for each in PRO_ONLY if free.allows(each)] == []
    assert all(pro.allows(each) for each in PRO_ONLY)
    assert free.allows("google/gemma-7b-it") and str(plans["free"].requests) == "300/3600s"


# How llm-ls 0.5 asks each of its backends (shared by its four; it reads the settings of the editor).
LLM_LS = {
    "huggingface": ("/models/{model}", "inputs"),
    "tgi": ("/generate", "inputs"),
    "openai": ("/v1/completions", "prompt"),
    "ollama": ("/api/generate", "prompt"),
}


@pytest.mark.parametrize("backend", LLM_LS)
def test_the_editors_settings_complete_code(backend: str, running: Running) -> None:
    settings: dict[str, Any] = json.loads(block("json", "llm.backend"))
    assert settings["llm.url"] == ADDRESS and settings["llm.backend"] == "huggingface"
    path, field = LLM_LS[backend]
    url = running.base + (f"/models/{settings['llm.modelId']}" if backend == "tgi" else "")
    body = {**settings["llm.requestBody"], field: "<fim_prefix>def f(x):\n    <fim_suffix>\n    return y\n<fim_middle>"}
    if backend in ("openai", "ollama"):
        body |= {"model": settings["llm.modelId"], "stream": False}
    answer = httpx2.post(url + path.format(model=settings["llm.modelId"]), json=body).json()
    answer = answer[0] if isinstance(answer, list) else answer
    text = {"openai": lambda: answer["choices"][0]["text"], "ollama": lambda: answer["response"]}.get(
        backend, lambda: answer["generated_text"]
    )()
    assert "def f(x)" in text


GOT = re.compile(
    r"(/(api|status|framework)/.*|.*)(models(/sandbox/echo)?$|whoami-v2$|/tasks$|status/sandbox/echo$|framework/.*$|/admin/(requests|usage|keys)|/v1/usage|/(info|health|metrics|liveness|readiness)$)"
).match


def test_every_path_that_is_named_answers(running: Running) -> None:
    """Not a 404 of the kind `There is no …`: each is served, whatever it says to an empty body."""
    table = README[README.index("## Paths") : README.index("## Headers")]
    paths = {path for cell in re.findall(r"`(?:POST )?(/[^`]*)`", table) for path in [cell]}
    for path in paths:
        below = path in ("/generate", "/generate_stream", "/info", "/health", "/tokenize")
        full = ("/models/sandbox/echo" if below else "") + path
        if "…" in full:
            continue
        full = full.replace("{task}", "text-classification").replace("{name}", "transformers")
        full = full.replace("{id}", "an-id" if full.startswith(("/admin", "/v1/usage")) else "sandbox/echo")
        method = "GET" if GOT(full) else "POST"
        method = "POST" if path in ("/models/{id}", "/hf-inference/models/{id}") else method
        answer = httpx2.request(method, running.base + full, content=b"{}" if method == "POST" else None)
        assert "There is no" not in answer.text, (method, full, answer.text)


ROWS = {
    "chat": {"conversational"},
    "text generation, completions": {"text-generation"},
    "embeddings": {"feature-extraction"},
    "text to image": {"text-to-image"},
    "image to image": {"image-to-image"},
    "text or image to video": {"text-to-video", "image-to-video"},
    "speech recognition": {"automatic-speech-recognition"},
    "text to speech or audio": {"text-to-speech", "text-to-audio"},
    "ranking, similarity": {"text-ranking", "sentence-similarity"},
    "image segmentation": {"image-segmentation"},
    "image to text": {"image-to-text"},
    "audio to audio": {"audio-to-audio"},
    "classification, tokens, question answering, fill-mask, zero-shot, objects, depth, documents, tables, …": {
        "text-classification", "token-classification", "question-answering", "fill-mask", "zero-shot-classification",
        "object-detection", "depth-estimation", "document-question-answering", "table-question-answering",
    },
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_the_table_of_providers_names_those_that_have_the_task(row: str) -> None:
    (cell,) = re.findall(rf"^\| {re.escape(row)} \| (.*) \|$", README, re.MULTILINE)
    known = {name: provider for name in providers.names() if (provider := providers.find(name)) is not None}
    having = {name for name, provider in known.items() if name != "sandbox" and provider.tasks() & ROWS[row]}
    assert {word.strip(",;") for word in cell.split()} & set(known) == having
