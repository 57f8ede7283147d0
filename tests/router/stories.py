"""Calls, candidates and records for tests of what is counted and what it costs."""

from typing import Any, TypeVar

import msgspec

import providers
from providers.dialects import DIALECTS
from providers.spec import Adapter
from router.call import Call, Endpoint
from router.keys import Identity
from router.record import Record, Try
from router.routing import Candidate, Deployment, Row

CHAT = DIALECTS["openai"]
Made = TypeVar("Made", Call, Record)


def call_of(body: dict[str, Any], task: str = "conversational", dialect: str = "openai", **more: Any) -> Call:
    data = msgspec.json.encode(body)
    fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    endpoint = Endpoint(DIALECTS[dialect], task)
    return filled(Call("r", endpoint, "org/m", False, fields, data, Identity("alice"), 0.0), more)


def candidate(
    provider: str = "groq",
    task: str = "conversational",
    dialect: str = "openai",
    *,
    named: str = "m",
    model: str = "org/m",
    price: dict[str, float | None] | None = None,
    told: dict[str, float | None] | None = None,
    context: int | None = None,
    **more: Any,
) -> Candidate:
    """`price`: the row's; `told`: the file's."""
    found = providers.find(provider)
    assert found is not None
    deployment = Deployment(
        provider, named, Row(named, price=price or {}), model=model, context=context, price=told or {}
    )
    return Candidate(deployment, found, Adapter("/x"), dialect, task, **more)


def record(at: Candidate | None = None, **more: Any) -> Record:
    name = at.deployment.name if at else "u/m"
    return recorded(**{"upstream": "u", "tries": [Try("u", name, 200, "serve", "", 0.1)], **more})


def recorded(**said: Any) -> Record:
    """All else as at the beginning."""
    return filled(Record("r"), said)


def filled(made: Made, said: dict[str, Any]) -> Made:
    for name, value in said.items():
        setattr(made, name, value)
    return made
