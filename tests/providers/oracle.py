"""The same call through huggingface_hub's helper of a provider, and through ours: two requests to lay side by side.

The helper is given what its user gives; ours is given what the same client sends to the Hub's own servers, which is
what reaches the router. What the helper looks up on the Hub is put in its hands, so that nothing leaves this machine.
"""

import copy
import json
import re
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from huggingface_hub.hf_api import InferenceProviderMapping
from huggingface_hub.inference import _providers
from huggingface_hub.inference._common import RequestParameters
from huggingface_hub.inference._providers import _common, hf_inference

import providers
from providers import multipart
from providers.dialects import DIALECTS
from providers.spec import (
    CONVERSATIONAL,
    TEXT_GENERATION,
    Adapter,
    Ask,
    Blob,
    Body,
    Fields,
    Provider,
    Result,
    Send,
    raw,
)
from tests.providers.driving import on_the_wire
from tests.providers.hub_calls import HubCall

Wire = dict[str, Any]
HUB = "hf-inference"


def pairs() -> list[tuple[str, str]]:
    return [(name, task) for name, tasks in sorted(_providers.PROVIDERS.items()) for task in sorted(tasks)]


def provider_of(name: str) -> Provider:
    provider = providers.find(name)
    assert provider is not None, f"no provider is named {name}"
    return provider


def id_of(name: str, call: HubCall) -> str:
    """These two helpers know no other id of a model than the caller's."""
    return "org/model" if name in (HUB, "openai") else call.provider_id


# Theirs


def helper_of(name: str, task: str) -> Any:
    return _providers.PROVIDERS[name][task]  # type: ignore[index]


def prepared(monkeypatch: pytest.MonkeyPatch, name: str, task: str, call: HubCall, helper: Any) -> RequestParameters:
    monkeypatch.setattr(hf_inference, "_check_supported_task", lambda model, task: None)
    lora = {"adapter": "lora", "adapterWeightsPath": call.weights} if call.weights else {}
    mapping = InferenceProviderMapping(  # type: ignore[no-untyped-call]  # its __init__ has no annotations
        provider=name, hf_model_id="org/model", providerId=id_of(name, call), status="live", task=task, **lora
    )
    monkeypatch.setitem(_common.HARDCODED_MODEL_INFERENCE_MAPPING, name, {"org/model": mapping})
    request: RequestParameters = helper.prepare_request(
        inputs=call.inputs,
        parameters=copy.deepcopy(call.parameters),  # a helper may write into it
        headers={},
        model="org/model",
        api_key="KEY",
        extra_payload=call.extra,
    )
    return request


def theirs(request: RequestParameters) -> Wire:
    headers = {name: value for name, value in request.headers.items() if name != "user-agent"}
    body: Any = request.json
    if request.data is not None:
        body = request.data
        if headers.get("content-type") == "application/json":
            body = json.loads(request.data)
    return _comparable({"method": "POST", "url": request.url, "headers": headers, "body": body})


# Ours


def hub_body(monkeypatch: pytest.MonkeyPatch, task: str, call: HubCall) -> Body:
    """The body of the HF-shaped call: what the client sends to the Hub's own servers for it."""
    if isinstance(call.inputs, str) and call.inputs.startswith("https://"):  # which the client would download
        return Body(_fields({"inputs": call.inputs, "parameters": _told(call.parameters)}))
    kind = hf_inference.HFInferenceBinaryInputTask if isinstance(call.inputs, bytes) else hf_inference.HFInferenceTask
    helper = _providers.PROVIDERS["hf-inference"].get(task) or kind(task)
    request = prepared(monkeypatch, HUB, task, call, helper)
    mime = request.headers.get("content-type", "")
    if request.data is not None and mime != "application/json":
        return Body(file=Blob(bytes(request.data), mime))
    return Body(_fields(request.json if request.data is None else json.loads(request.data)))


def _fields(body: Any) -> Fields:
    return {name: raw(value) for name, value in body.items()}


def _told(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def asked(name: str, task: str, call: HubCall, body: Body) -> tuple[Ask, Any]:
    ask, want = DIALECTS["huggingface"].tasks[task].read(body)
    lora = "lora" if call.weights else None
    return replace(
        ask, provider_id=id_of(name, call), model="org/model", adapter=lora, adapter_weights=call.weights
    ), want


def adapter_of(name: str, task: str, *dialects: str) -> tuple[Adapter, str]:
    adapters = provider_of(name).adapters
    dialect = next((each for each in dialects if (task, each) in adapters), None)
    assert dialect is not None, f"{name} has no adapter for {task}"
    return adapters[task, dialect], dialect


def sent(name: str, task: str, call: HubCall, body: Body) -> Send:
    """Our first request for the call."""
    if task == CONVERSATIONAL:
        return _text(name, task, {"messages": call.inputs, **_told(call.parameters)}, id_of(name, call))
    if task == TEXT_GENERATION:
        if name == HUB:  # of one dialect with the caller, whose bytes it gets
            return Send(adapter_of(name, task, "huggingface")[0].path, msgspec.json.encode(body.fields))
        completion, _ = DIALECTS["huggingface"].codecs[task].read(body.fields)
        return _text(name, task, completion | {"stream": False}, id_of(name, call))
    ask, _ = asked(name, task, call, body)
    step = next(play_of(name, ask))
    assert isinstance(step, Send)
    return step


def _text(name: str, task: str, body: dict[str, Any], model: str) -> Send:
    adapter, _ = adapter_of(name, task, "openai")
    fields = _fields(body) | {"model": raw(model)}
    return Send(adapter.path, msgspec.json.encode(adapter.adapt(fields) if adapter.adapt else fields))


def play_of(name: str, ask: Ask) -> Any:
    adapter, dialect = adapter_of(name, ask.task, "", "huggingface", "openai")
    return adapter.play(ask) if adapter.play is not None else _in_dialect(adapter, dialect, ask)


def _in_dialect(adapter: Adapter, dialect: str, ask: Ask) -> Any:
    """A dialect's codec as a play."""
    codec = DIALECTS[dialect].tasks[ask.task]
    send = replace(codec.encode(ask), path=adapter.path)
    if adapter.adapt is not None:
        fields = adapter.adapt(msgspec.json.decode(send.body or b"", type=Fields))
        send = replace(send, body=msgspec.json.encode(fields))
    reply = yield send
    return Result(send) if codec.media(ask) else codec.decode(reply, ask)


def ours(name: str, task: str, call: HubCall, body: Body) -> Wire:
    send = sent(name, task, call, body)
    assert not send.safe
    wire = on_the_wire(provider_of(name), send, id_of(name, call))
    return _comparable(wire | {"headers": wire["headers"] | {"content-type": send.mime}})


# Both


def _comparable(wire: Wire) -> Wire:
    """A form as its parts, in the order of their names, whatever its boundary. Header names in lower case."""
    headers = {name.lower(): value for name, value in wire["headers"].items()}
    mime, _, boundary = headers.get("content-type", "").partition("; boundary=")
    if boundary:
        headers["content-type"] = mime
        names = re.findall(rb'(?i)filename="([^"]*)"', wire["body"])
        parts = multipart.parse(wire["body"], boundary.encode())
        return wire | {"headers": headers, "body": {"form": sorted(parts, key=str), "filenames": names}}
    return wire | {"headers": headers}
