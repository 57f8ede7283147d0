"""What the Hub's answers say, as rows. Pure. What is not of the form that it should have is left out, not guessed."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from providers.spec import ANY_TASK
from router import prices
from router.routing import Row

# Names that may stand in a URL's path; a version may follow a provider's, as Replicate has it.
_NAME: Final = r"[A-Za-z0-9][\w.-]{0,95}"
_MODEL: Final = re.compile(rf"{_NAME}(/{_NAME})?", re.ASCII).fullmatch
_PROVIDER_ID: Final = re.compile(rf"{_NAME}(/{_NAME}){{0,7}}(:[0-9a-f]{{64}})?", re.ASCII).fullmatch
_STATUSES: Final = frozenset({"live", "staging", "error"})
_UNITS: Final = frozenset({"image", "second", "character"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What the Hub's router says of a model at a provider."""

    context: int | None = None
    price: Mapping[str, float] | None = None
    can: frozenset[str] = frozenset()


def routed(models: Iterable[Mapping[str, Any]], provider: str) -> dict[str, Row]:
    """HF id → row, of a page of `/api/models`."""
    rows: dict[str, Row] = {}
    for model in models:
        name, mapping = model.get("id"), _mapping(model.get("inferenceProviderMapping"), provider)
        if mapping is None or not isinstance(name, str) or not _MODEL(name):
            continue
        row = _row(mapping, model.get("pipeline_tag"))
        if row is not None:
            rows[name] = row
    return rows


def _mapping(value: Any, provider: str) -> dict[str, Any] | None:
    """Both forms: an object by provider, and the newer list of objects that name theirs."""
    if isinstance(value, dict):
        value = [{**each, "provider": name} for name, each in value.items() if isinstance(each, dict)]
    if not isinstance(value, list):
        return None
    return next((each for each in value if isinstance(each, dict) and each.get("provider") == provider), None)


def _row(mapping: Mapping[str, Any], tag: Any) -> Row | None:
    provider_id, status = mapping.get("providerId"), mapping.get("status")
    task = mapping.get("task") or tag or ANY_TASK
    if not isinstance(provider_id, str) or not _PROVIDER_ID(provider_id):
        return None
    if status not in _STATUSES or not isinstance(task, str):
        return None
    adapter, weights = mapping.get("adapter"), mapping.get("adapterWeightsPath")
    if any(each is not None and not (isinstance(each, str) and each.isprintable()) for each in (adapter, weights)):
        return None
    return Row(provider_id, task, status, adapter=adapter, adapter_weights=weights)


def facts_of(page: Any) -> dict[str, dict[str, Facts]]:
    """Provider → HF id → facts, of the router's `/v1/models`. `huggingface` is the router itself."""
    facts: dict[str, dict[str, Facts]] = {}
    for model in _objects(page.get("data") if isinstance(page, dict) else None):
        name = model.get("id")
        if not isinstance(name, str) or not _MODEL(name):
            continue
        seen = model.get("architecture")
        sees = isinstance(seen, dict) and "image" in (seen.get("input_modalities") or ())
        for place in _objects(model.get("providers")):
            can = {
                name
                for name, is_so in (
                    ("tools", place.get("supports_tools") is True),
                    ("json", place.get("supports_structured_output") is True),
                    ("vision", sees),
                )
                if is_so
            }
            context = place.get("context_length")
            found = Facts(
                context if type(context) is int and context > 0 else None,
                _tokens(place.get("pricing"), free=place.get("is_free") is True),
                frozenset(can),
            )
            facts.setdefault(str(place.get("provider")), {})[name] = found
        facts.setdefault("huggingface", {})[name] = Facts(can=frozenset({"vision"} if sees else ()))
    return facts


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    return (each for each in value if isinstance(each, dict)) if isinstance(value, list) else iter(())


def _tokens(pricing: Any, *, free: bool) -> dict[str, float] | None:
    """USD per million tokens. A 0 that is not said to be free is a price that is not known."""
    if not isinstance(pricing, dict):
        return None
    found = {name: pricing.get(name) for name in ("input", "output")}
    known = {name: each for name, each in found.items() if isinstance(each, int | float) and math.isfinite(each)}
    return {name: each for name, each in known.items() if each > 0 or (free and each == 0)} or None


def completed(
    provider: str, rows: Mapping[str, Row], facts: Mapping[str, Facts], old: Mapping[str, Row]
) -> dict[str, Row]:
    """Rows with the router's facts, with the prices that genai-prices lists where it has none, and with what an older
    row says and the Hub never does: marks, prices by the picture, and that a model writes on in a prefill.
    """
    return {
        model: _completed(provider, model, row, facts.get(model, Facts()), old.get(model))
        for model, row in rows.items()
    }


def _completed(provider: str, model: str, row: Row, facts: Facts, old: Row | None) -> Row:
    price: dict[str, float | None] = {}
    can = set(facts.can)
    fim = None
    if old is not None:
        price = {unit: each for unit, each in old.price.items() if unit in _UNITS and each is not None}
        can |= old.can & {"prefill"}
        fim = old.fim
    price |= facts.price or prices.listed(provider, row.id, model) or {}
    return msgspec.structs.replace(row, context=facts.context, price=price, can=frozenset(can), fim=fim)
