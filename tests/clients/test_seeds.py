"""The guides that people follow, run as they are printed: curl, huggingface_hub and openai of today.

Only the URL and the token are exchanged (callers/seeds, callers/pointed.py). Exceptions, each for a reason:
- a provider's own key (`api_key="r8_…"`) sends the client past every router: our key takes its place;
- `text_to_image()` without a model, `client.post`, `InferenceApi` and `list_deployed_models` are in old releases only:
  test_old_hubs.py runs them, and requests too, which comes with those;
- `zero_shot_classification(labels=…)` was renamed, and `result["labels"]` never was what the client gives;
- chat templates of transformers need files of the Hub: the prompts that they make stand in the program;
- `message.decisions` is a slip of the page for `message.choices`; `Bearer` without a token is one with ours;
- notebooks' own (`notebook_login`, `IPython.display`) and what deploys an endpoint are not calls for inference.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.provider_servers import providers
from tests.clients.seeded import FAL_KEY, REPLICATE_KEY, SEEDS, TOGETHER_KEY, config, run
from tests.running import KEY, Running, serving

POINTED = SEEDS.parent / "pointed.py"
SURPRISE = "In a surprising turn of events, "


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(config(), tmp_path_factory.mktemp("seeds")) as running:
        yield running


def of_today(name: str, running: Running, place: Path) -> dict[str, Any]:
    return run([sys.executable, POINTED, SEEDS / name], running, place)


@pytest.mark.parametrize("flags", [(), ("-N",)])
@pytest.mark.parametrize(
    "body",
    [
        {"inputs": SURPRISE},
        {"inputs": SURPRISE, "parameters": {"temperature": 0.7, "max_new_tokens": 100}},
    ],
)
def test_curl_generates_as_the_pros_page_says(running: Running, flags: tuple[str, ...], body: dict[str, Any]) -> None:
    said = curl(running, "/models/meta-llama/Meta-Llama-3-8b-Instruct", json.dumps(body), *flags)
    assert said == [{"generated_text": SURPRISE * 2}]


def test_curl_takes_one_string_for_the_inputs_as_the_overview_sends_it(running: Running) -> None:
    asked = "Can you please let us know more details about your "
    assert curl(running, "/models/gpt2", json.dumps(asked)) == [{"generated_text": asked * 2}]


def curl(running: Running, path: str, body: str, *flags: str) -> Any:
    command = ["curl", "-sS", *flags, running.base + path, "-X", "POST", "-d", body]
    command += ["-H", "Content-Type: application/json", "-H", f"Authorization: Bearer {KEY}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_inference_for_pros(running: Running, tmp_path: Path) -> None:
    said_by_pros(of_today("pros.py", running, tmp_path))


def said_by_pros(found: dict[str, Any]) -> None:
    assert found["output"].endswith("Can you please let us know more details about your ") and found["chatted"]
    assert "def remove_non_ascii" in found["infilled"] and found["infilled"].endswith("<MID")  # rstrip takes the rest
    assert found["image"] == ["PNG", 64, 64]
    assert found["anew"].endswith(SURPRISE)
    assert "".join(found["tokens"]) == "How do you make cheese?" and len(found["tokens"]) == 5


def test_the_openai_package_chats_as_the_pages_say(running: Running, tmp_path: Path) -> None:
    found = run([sys.executable, SEEDS / "pros_openai.py"], running, tmp_path)
    assert "".join(found["streamed"]) == "Is Rust better than Python?" and len(found["streamed"]) > 1
    assert found["content"] == "What is the difference between LSTM and Transformer?"


def test_run_inference_on_servers(running: Running, tmp_path: Path) -> None:
    said_by_servers(of_today("servers.py", running, tmp_path))


def said_by_servers(found: dict[str, Any]) -> None:
    for how in ("of its model", "of a model", "of its URL", "of a URL", "with a token"):
        assert found[how] == [64, 64], how
    assert "".join(found["streamed"]) == "Count to 10"
    assert "".join(found["awaited"]) == "Say this is a test"
    assert len(found["classified"]) == 5
    assert found["vectors"] == [1, 384]


def test_third_party_providers_are_reached_with_our_key_and_asked_with_theirs(tmp_path: Path) -> None:
    with providers() as elsewhere, serving(config(elsewhere.base), tmp_path) as running:
        found = of_today("servers_providers.py", running, tmp_path)
        records = running.records(4)
    assert found["image"] == found["again"] == found["painted"] == [48, 32] and found["saved"] > 0
    assert found["answer"] == "Paris"
    replicate = ("POST", "/v1/models/black-forest-labs/flux-schnell/predictions", f"Bearer {REPLICATE_KEY}")
    together = ("POST", "/v1/chat/completions", f"Bearer {TOGETHER_KEY}")
    fal = ("POST", "/fal-ai/flux/dev", f"Key {FAL_KEY}")
    assert elsewhere.asked == [replicate, together, replicate, fal]
    assert [record["upstream"] for record in records] == ["replicate", "together", "replicate", "fal-ai"]
    assert {record["tenant"] for record in records} == {"alice"}


def test_the_course_page(running: Running, tmp_path: Path) -> None:
    said_by_the_course(of_today("course.py", running, tmp_path))


def said_by_the_course(found: dict[str, Any]) -> None:
    assert found["generated"].endswith("as if to a software engineer.")
    assert [round(found["similarities"][at][at], 3) for at in range(3)] == [1, 1, 1]
    assert found["sentiment"] in ("POSITIVE", "NEGATIVE")
    assert found["ranked"][0] == "billing" and len(found["ranked"]) == 4
    assert found["entities"] == ["Elon Musk", "SpaceX", "Hawthorne", "California"]
    assert "".join(found["tokens"]) == "List 5 best practices for writing RAG prompts:"
    assert found["retried"].endswith("attention mechanisms.")


def test_the_practical_guide(running: Running, tmp_path: Path) -> None:
    said_by_the_guide(of_today("guide.py", running, tmp_path))


def said_by_the_guide(found: dict[str, Any]) -> None:
    assert found["whoami"] == "alice"
    assert found["full text"] == "A HTTP POST request is used to " * 2
    assert found["templated"].endswith("<|end_header_id|>\n\n") and found["bad"].endswith("Only return the prompt.")
    assert "".join(found["tokens"]).startswith("Write a concise prompt") and len(found["tokens"]) > 1
    assert found["cached"] and found["new"] == [64, 64]
    assert found["limerick"] and found["speech"] == "RIFF"
