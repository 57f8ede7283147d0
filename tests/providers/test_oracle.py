"""huggingface_hub's own provider helpers as the oracle: the same request for the same call, for all that both know.

The helper is given what its user gives; ours is given what a caller of the router sends. Only the order of the fields
may differ. What the helper looks up on the Hub is put in its hands, so that nothing leaves this machine.
"""

import json
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from huggingface_hub.hf_api import InferenceProviderMapping
from huggingface_hub.inference import _providers
from huggingface_hub.inference._providers import _common, hf_inference

import providers
from providers.spec import Fields, raw

MESSAGES = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]

# task → the field that a caller puts the inputs in, the inputs, and parameters that both sides spell alike
CALLS: dict[str, list[tuple[str, Any, dict[str, Any]]]] = {
    "conversational": [
        ("messages", MESSAGES, {"max_tokens": 5, "stream": True}),
        ("messages", MESSAGES, {"tools": TOOLS, "tool_choice": "auto", "stop": ["a"], "top_p": 0.9, "seed": 7}),
        ("messages", MESSAGES, {"response_format": JSON_SCHEMA}),
        ("messages", MESSAGES, {"response_format": {"type": "json_object"}, "logprobs": True}),
    ],
    "text-generation": [("prompt", "hi", {"temperature": 0.7, "stop": ["\n"]})],
    "feature-extraction": [("input", "hi", {"normalize": True}), ("input", ["hi", "ho"], {})],
    "text-to-speech": [("input", "hi", {"voice": "v1"})],
}

# These two helpers write the Hub's max_new_tokens as OpenAI's max_tokens, and a null where it is absent; the others
# pass the Hub's name on. Callers of our completions write OpenAI's.
RENAMING = ("deepinfra", "featherless-ai")


def known_to_both() -> list[tuple[str, str, int]]:
    return [
        (name, task, number)
        for name, tasks in sorted(_providers.PROVIDERS.items())
        for task in sorted(tasks)
        if (ours := providers.find(name)) is not None and (task, "openai") in ours.adapters
        for number in range(len(CALLS.get(task, ())))
        if (name, task) != ("hf-inference", "text-generation")  # the helper speaks the Hub's dialect there: see below
    ]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two look-ups that the helpers make of the Hub."""
    monkeypatch.setattr(hf_inference, "_check_supported_task", lambda model, task: None)
    monkeypatch.setattr(_common, "HARDCODED_MODEL_INFERENCE_MAPPING", {})


def asked(name: str, task: str, inputs: Any, parameters: dict[str, Any], model_id: str) -> Any:
    """The helper's request, its id of the model being `model_id`."""
    _common.HARDCODED_MODEL_INFERENCE_MAPPING[name] = {
        "org/model": InferenceProviderMapping(  # type: ignore[no-untyped-call]  # its __init__ has no annotations
            provider=name, hf_model_id="org/model", providerId=model_id, status="live", task=task
        )
    }
    helper = _providers.PROVIDERS[name][task]  # type: ignore[index]
    given = json.loads(json.dumps(parameters))  # a helper may write into it
    return helper.prepare_request(inputs=inputs, parameters=given, headers={}, model="org/model", api_key="KEY")


def ours(name: str, task: str, dialect: str, body: dict[str, Any], model_id: str) -> tuple[str, dict[str, str], Any]:
    provider = providers.find(name)
    assert provider is not None and provider.base_url is not None
    adapter = provider.adapters[task, dialect]
    fields = msgspec.json.decode(msgspec.json.encode(body), type=Fields)
    if adapter.adapt is not None:
        fields = adapter.adapt(fields)
    if dialect == "openai":
        fields = fields | {"model": raw(model_id)}
    header, prefix = provider.auth
    url = provider.base_url + adapter.path.replace("{id}", quote(model_id))
    return url, {**provider.headers, header: f"{prefix}KEY"}, json.loads(msgspec.json.encode(fields))


def headers_of(request: Any) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name not in ("user-agent", "content-type")}


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(("name", "task", "number"), known_to_both())
def test_the_official_client_would_send_the_same(name: str, task: str, number: int) -> None:
    field, inputs, parameters = CALLS[task][number]
    # The helpers of hf-inference and openai know no other id of a model than the caller's.
    model_id = "org/model" if name in ("hf-inference", "openai") else "PROVIDER-ID"
    renamed = task == "text-generation" and name in RENAMING
    theirs = asked(name, task, inputs, parameters | ({"max_new_tokens": 5} if renamed else {}), model_id)
    call = {"model": "org/model", field: inputs, **parameters, **({"max_tokens": 5} if renamed else {})}
    url, headers, body = ours(name, task, "openai", call, model_id)
    assert (url, headers, body) == (theirs.url, headers_of(theirs), theirs.json)


@pytest.mark.usefixtures("hub")
def test_the_official_client_would_send_the_same_text_generation_to_hf_inference() -> None:
    parameters = {"max_new_tokens": 5, "temperature": 0.7}
    theirs = asked("hf-inference", "text-generation", "hi", parameters, "org/model")
    body = {"inputs": "hi", "parameters": parameters}
    assert ours("hf-inference", "text-generation", "huggingface", body, "org/model") == (
        theirs.url,
        headers_of(theirs),
        theirs.json,
    )


def test_every_provider_of_the_official_client_whose_chat_is_openai_shaped_is_here() -> None:
    chatting = {name for name, tasks in _providers.PROVIDERS.items() if "conversational" in tasks}
    assert chatting <= set(providers.names())
    assert len(known_to_both()) >= 60
