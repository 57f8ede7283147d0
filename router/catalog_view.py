"""`/v1/models`: what a caller may use, in the shape of the Hub's router. Pure: a table and an identity → data."""

from typing import Any

from router.keys import Identity
from router.routing import Deployment, Route, Table


def listed(table: Table, identity: Identity) -> dict[str, Any]:
    data = [each for name in table.models() if (each := entry(table, identity, name)) is not None]
    return {"object": "list", "data": data}


def entry(table: Table, identity: Identity, model: str) -> dict[str, Any] | None:
    """One model; None where nobody has it or this caller may not use it."""
    route = table.route(model)
    if route is None or not identity.allows(route.model):
        return None
    places = [_place(table, each) for each in route.deployments if _there(table, each)]
    if not places:
        return None
    owner = model.partition("/")[0] if "/" in model else places[0]["provider"]
    return {
        "id": model,
        "object": "model",
        "created": 0,
        "owned_by": owner,
        "architecture": _architecture(route),
        "providers": places,
    }


def _there(table: Table, deployment: Deployment) -> bool:
    return deployment.upstream in table.places and deployment.upstream not in table.silent


def _place(table: Table, deployment: Deployment) -> dict[str, Any]:
    """Hub's names (wire: `GET /v1/models`); what is unknown is left out."""
    row = deployment.row
    place: dict[str, Any] = {
        "provider": deployment.upstream,
        "status": "error" if row.status == "error" else "live",
        "is_model_author": False,
    }
    if deployment.context:
        place["context_length"] = deployment.context
    prices = {name: row.price[name] for name in ("input", "output") if row.price.get(name) is not None}
    if prices:
        place["pricing"] = prices
    if row.can:
        place["supports_tools"] = "tools" in row.can
        place["supports_structured_output"] = "json" in row.can
    return place


def _architecture(route: Route) -> dict[str, list[str]]:
    rows = [each.row for each in route.deployments]
    task = next((each.task for each in rows if each.task != "*"), route.task)
    sees = any("vision" in row.can for row in rows)
    source = {"text-to-image": "text", "automatic-speech-recognition": "audio", "text-to-speech": "text"}
    target = {"text-to-image": "image", "automatic-speech-recognition": "text", "text-to-speech": "audio"}
    return {
        "input_modalities": ["text", "image"] if sees else [source.get(task, "text")],
        "output_modalities": [target.get(task, "text")],
    }
