"""Our first request beside that of huggingface_hub's own helper, for tasks that a provider takes in its own words."""

import json
from typing import Any

import pytest
from huggingface_hub.hf_api import InferenceProviderMapping
from huggingface_hub.inference import _providers
from huggingface_hub.inference._common import RequestParameters
from huggingface_hub.inference._providers import _common

import providers
from providers.spec import Ask, Blob, Provider, Send
from tests.providers.driving import on_the_wire, play_of

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF"
PNG = b"\x89PNG\r\n\x1a\n0000"
WAV = b"RIFF0000WAVEfmt "


def provider_of(name: str) -> Provider:
    provider = providers.find(name)
    assert provider is not None, f"no provider is named {name}"
    return provider


def theirs(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    task: str,
    inputs: Any,
    parameters: dict[str, Any],
    provider_id: str = "PROVIDER-ID",
    weights: str | None = None,
) -> dict[str, Any]:
    """The helper's request, with what it looks up on the Hub put in its hands. `weights`: the model is a LoRA."""
    lora = {"adapter": "lora", "adapterWeightsPath": weights} if weights else {}
    mapping = InferenceProviderMapping(  # type: ignore[no-untyped-call]  # its __init__ has no annotations
        provider=name, hf_model_id="org/model", providerId=provider_id, status="live", task=task, **lora
    )
    monkeypatch.setitem(_common.HARDCODED_MODEL_INFERENCE_MAPPING, name, {"org/model": mapping})
    helper = _providers.PROVIDERS[name][task]  # type: ignore[index]
    given = json.loads(json.dumps(parameters))  # a helper may write into it
    request = helper.prepare_request(inputs=inputs, parameters=given, headers={}, model="org/model", api_key="KEY")
    headers = {key: value for key, value in request.headers.items() if key not in ("user-agent", "content-type")}
    assert request.headers["content-type"] == "application/json"
    return {"method": "POST", "url": request.url, "headers": headers, "body": request.json}


def ours(
    name: str,
    task: str,
    inputs: Any,
    parameters: dict[str, Any],
    provider_id: str = "PROVIDER-ID",
    weights: str | None = None,
) -> dict[str, Any]:
    provider = provider_of(name)
    ask = ask_of(task, inputs, parameters, provider_id, weights)
    before = json.dumps(parameters)
    step = next(play_of(provider, ask))
    assert json.dumps(parameters) == before, "an ask may be asked of another provider afterwards"
    assert isinstance(step, Send) and step.mime == "application/json" and not step.safe
    return on_the_wire(provider, step, provider_id)


def ask_of(
    task: str,
    inputs: Any = "a cat",
    parameters: dict[str, Any] | None = None,
    provider_id: str = "PROVIDER-ID",
    weights: str | None = None,
) -> Ask:
    """Bytes are a file of which nobody said what it is."""
    file = Blob(inputs) if isinstance(inputs, bytes) else inputs
    adapter = "lora" if weights else None
    return Ask(task, file, parameters or {}, provider_id, "org/model", adapter, weights)


def theirs_of(name: str, task: str, reply: Any, base_url: str = "") -> Any:
    """What the helper makes of the answer to its first request, sent to `base_url`, where it may ask for more."""
    sent = RequestParameters(url=f"{base_url}/app", task=task, model="app", json={}, data=None, headers={})
    return _providers.PROVIDERS[name][task].get_response(reply, sent)  # type: ignore[index]


def tasks_of_the_hub(name: str) -> set[str]:
    return set(_providers.PROVIDERS[name])  # type: ignore[index]
