"""What TGI's callers are answered is what TGI's own OpenAPI document says, relayed from a TGI and carried from OpenAI.

tests/data/tgi/answers.json holds the schemas of its answers; they are OpenAPI 3.0, whose `nullable` JSON Schema lacks.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest

from tests.running import KEY, Running, serving

DOCUMENT = json.loads((Path(__file__).parents[1] / "data" / "tgi" / "answers.json").read_text())


def with_null(schema: Any) -> Any:
    if isinstance(schema, list):
        return [with_null(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: with_null(each) for name, each in schema.items() if name != "nullable"}
    return {"anyOf": [plain, {"type": "null"}]} if schema.get("nullable") else plain


SCHEMAS = with_null(DOCUMENT)


def fits(value: Any, name: str) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": SCHEMAS["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    config = f"""
virtual_keys: [{{name: alice, key: {KEY}}}]
upstreams: {{sandbox: {{provider: sandbox}}}}
"""
    place = tmp_path_factory.mktemp("tgi-schema")
    with serving(config, place) as first:
        behind = f"""
virtual_keys: [{{name: alice, key: {KEY}}}]
retry: {{honour_retry_after: 0s}}
upstreams:
  sandbox: {{provider: sandbox}}
  there: {{provider: openai, base_url: "{first.base}/v1", keys: [{KEY}]}}
models: {{carried: {{deployments: [{{upstream: there, provider_id: sandbox/echo}}]}}}}
"""
        second = tmp_path_factory.mktemp("behind")
        with serving(behind, second) as running:
            yield running


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=running.base, headers={"authorization": f"Bearer {KEY}"}, timeout=20) as client:
        yield client


def events(answer: httpx2.Response) -> list[Any]:
    assert answer.status_code == 200, answer.text
    return [
        json.loads(each[5:]) for each in answer.text.split("\n") if each.startswith("data:") and "[DONE]" not in each
    ]


MODELS = ("sandbox/echo", "carried")  # relayed as TGI's own, and carried over from OpenAI's shape


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"details": True},
        {"max_new_tokens": 2, "details": True},
        {"stop": ["two"], "details": True},
        {"return_full_text": True},
        {"temperature": 0.5, "top_p": 0.9, "seed": 4, "do_sample": True, "details": True},
    ],
    ids=str,
)
def test_generate(model: str, parameters: dict[str, Any], client: httpx2.Client) -> None:
    body = {"inputs": "one two three four", "parameters": parameters}
    whole = client.post(f"/models/{model}/generate", json=body)
    assert whole.status_code == 200, whole.text
    fits(whole.json(), "GenerateResponse")
    assert bool(whole.json().get("details")) == parameters.get("details", False)
    found = events(client.post(f"/tgi/{model}/generate_stream", json=body))
    for each in found:
        fits(each, "StreamResponse")
    assert [each["generated_text"] is not None for each in found] == [False] * (len(found) - 1) + [True]
    if not parameters.get("return_full_text"):
        assert found[-1]["generated_text"] == whole.json()["generated_text"]


@pytest.mark.parametrize("model", MODELS)
def test_the_openai_paths_below_a_model(model: str, client: httpx2.Client) -> None:
    chat = {"model": "tgi", "messages": [{"role": "user", "content": "one two"}]}
    fits(client.post(f"/models/{model}/v1/chat/completions", json=chat).json(), "ChatCompletion")
    fits(client.post(f"/models/{model}/v1/completions", json={"model": "tgi", "prompt": "a"}).json(), "CompletionFinal")


def test_tokenize_and_info(client: httpx2.Client) -> None:
    fits(client.post("/models/sandbox/echo/tokenize", json={"inputs": "one two"}).json(), "TokenizeResponse")
    fits(client.get("/models/sandbox/echo/info").json(), "Info")
    assert client.get("/models/sandbox/echo/health").status_code == 200


@pytest.mark.parametrize(
    ("model", "body", "status"),
    [
        ("sandbox/echo", {"inputs": "x", "parameters": {"temperature": -1}}, 422),
        ("carried", {"inputs": "x", "parameters": {"temperature": -1}}, 422),
        ("sandbox/429", {"inputs": "x"}, 429),
        ("sandbox/context-length", {"inputs": "x"}, 422),
        ("no/such", {"inputs": "x"}, 404),
        ("sandbox/echo", [], 400),
    ],
    ids=str,
)
def test_errors(model: str, body: Any, status: int, client: httpx2.Client) -> None:
    answer = client.post(f"/models/{model}/generate", json=body)
    assert answer.status_code == status, answer.text
    fits(answer.json(), "ErrorResponse")
