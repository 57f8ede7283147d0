"""`/v1/models`: what a caller may use, in the shape of the Hub's router. Pure: a table, an identity, figures → data.

`error_rate` is a word of ours: the share of attempts that failed of late. The figures are this process's own.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from providers import spec
from router.health import Figures
from router.keys import Identity
from router.prices import price_of
from router.routing import Deployment, Route, Table

Measured = Callable[[str], Figures | None]  # a deployment's name → what is known of it

# The Hub's kinds of input and output, of tasks that are not text on both sides.
_MODALITIES: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    spec.TEXT_TO_IMAGE: (("text",), ("image",)),
    spec.IMAGE_TO_IMAGE: (("text", "image"), ("image",)),
    spec.TEXT_TO_VIDEO: (("text",), ("video",)),
    spec.IMAGE_TO_VIDEO: (("text", "image"), ("video",)),
    spec.IMAGE_TO_TEXT: (("image",), ("text",)),
    spec.IMAGE_SEGMENTATION: (("image",), ("image",)),
    spec.TEXT_TO_SPEECH: (("text",), ("audio",)),
    spec.TEXT_TO_AUDIO: (("text",), ("audio",)),
    spec.AUDIO_TO_AUDIO: (("audio",), ("audio",)),
    spec.SPEECH_RECOGNITION: (("audio",), ("text",)),
    spec.SPEECH_TRANSLATION: (("audio",), ("text",)),
    "audio-classification": (("audio",), ("text",)),
    "depth-estimation": (("image",), ("image",)),
    "document-question-answering": (("text", "image"), ("text",)),
    "image-classification": (("image",), ("text",)),
    "image-text-to-image": (("text", "image"), ("image",)),
    "image-text-to-video": (("text", "image"), ("video",)),
    "object-detection": (("image",), ("text",)),
    "video-classification": (("video",), ("text",)),
    "visual-question-answering": (("text", "image"), ("text",)),
    "zero-shot-image-classification": (("text", "image"), ("text",)),
    "zero-shot-object-detection": (("text", "image"), ("text",)),
}


def _unmeasured(_: str) -> None:
    return None


def listed(table: Table, identity: Identity, measured: Measured = _unmeasured) -> dict[str, Any]:
    data = [each for name in table.models() if (each := entry(table, identity, name, measured)) is not None]
    return {"object": "list", "data": data}


def entry(table: Table, identity: Identity, model: str, measured: Measured = _unmeasured) -> dict[str, Any] | None:
    """One model; None where nobody has it or this caller may not use it."""
    route = table.route(model)
    if route is None or not identity.allows(route.model):
        return None
    places = [_place(table, each, measured(each.name)) for each in route.deployments if _there(table, each)]
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


def _place(table: Table, deployment: Deployment, figures: Figures | None) -> dict[str, Any]:
    """Hub's names (wire: `GET /v1/models`); what is unknown is left out."""
    row = deployment.row
    place: dict[str, Any] = {
        "provider": deployment.upstream,
        "status": "error" if row.status == "error" else "live",
        "is_model_author": False,
    }
    if deployment.context:
        place["context_length"] = deployment.context
    tokens = price_of(row, table.places[deployment.upstream].provider.name, deployment.model or deployment.provider_id)
    prices = {name: each for name, each in (tokens or {}).items() if name in ("input", "output")}
    if prices:
        place["pricing"] = prices
        place["is_free"] = len(prices) == 2 and not any(prices.values())
    if deployment.can:
        place["supports_tools"] = "tools" in deployment.can
        place["supports_structured_output"] = "json" in deployment.can
    if figures is not None:
        place |= _measured(figures)
    return place


def _measured(figures: Figures) -> dict[str, Any]:
    known: dict[str, Any] = {}
    if figures.first is not None:
        known["first_token_latency_ms"] = round(figures.first * 1000)
    if figures.throughput is not None:
        known["throughput"] = round(figures.throughput, 2)
    if figures.errors is not None:
        known["error_rate"] = round(figures.errors, 4)
    return known


def _architecture(route: Route) -> dict[str, list[str]]:
    task = next((each.row.task for each in route.deployments if each.row.task != spec.ANY_TASK), route.task)
    source, target = _MODALITIES.get(task, (("text",), ("text",)))
    sees = task not in _MODALITIES and any("vision" in each.can for each in route.deployments)
    return {"input_modalities": [*source, *(["image"] if sees else [])], "output_modalities": list(target)}
