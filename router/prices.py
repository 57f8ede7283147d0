"""What is paid at a place: as the file says of the deployment, else the table's row, else what genai-prices lists, else
nobody knows: None.

Only the list that genai-prices carries is read; its updates from the network are never started. Unknown is not 0, and
a listed 0 says no more; a 0 that the file or a row says is one. The program's own kinds of server have no prices, nor
has `openai`: behind it may be anyone.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import msgspec
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, TieredPrices

from router.price import MILLION, Price, Rates, Source
from router.routing import Candidate, Deployment, Row

Dollars = Mapping[str, float]  # "input", "output", "cached_input", those that are known: USD per million tokens

NANO: Final = 1_000_000_000
FRESH: Final = 3600.0  # seconds; some prices are of the hour
KEPT: Final = 4096

TOKENS: Final = ("input", "output", "cached_input")
_FIELDS: Final = {  # a row's names → those of a Price. In a row what is not tokens is USD a piece.
    "input": "input",
    "output": "output",
    "cached_input": "cached",
    "cache_write": "written",
    "reasoning": "reasoning",
}
_PIECES: Final = ("image", "second", "character")
_LISTED: Final = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached": "cache_read_mtok",
    "written": "cache_write_mtok",
    "reasoning": "output_reasoning_mtok",
}
_LISTED_PIECES: Final = (  # the field, whose unit it is, and how many of ours are one of theirs
    ("second", "audio_hours", 3600),
    ("second", "input_audio_hours", 3600),
    ("character", "input_mchars", MILLION),
)
_LEAST: Final = {"groq": 10}  # seconds of sound that are billed at least (groq.com/pricing; genai-prices has it too)

# Our provider → where genai-prices lists its models: under its own ids, and under the Hub's.
_OWN_NAMES: Final = {"fireworks-ai": "fireworks", "zai-org": "zai"}
_ANYONES: Final = frozenset({"openai", "huggingface", "hf-inference", "sandbox", "tgi", "tei", "diffusers"})


class Prices:
    """The prices of deployments, compiled when they are first asked for. Kept for an hour, bounded."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        get_snapshot()  # read now, and not while callers wait: 10 ms and, where no bytecode is kept, 60 MB
        self._clock = clock
        self._until = 0.0
        self._known: dict[int, tuple[Deployment, Price | None]] = {}  # by identity: the deployment is kept with it

    def of(self, candidate: Candidate) -> Price | None:
        now = self._clock()
        if now >= self._until:
            self._known.clear()
            self._until = now + FRESH
        known = self._known.get(id(candidate.deployment))
        if known is None:
            if len(self._known) >= KEPT:
                self._known.clear()
            deployment = candidate.deployment
            price = compiled(deployment, candidate.provider.name, now)
            known = self._known[id(deployment)] = deployment, price
        return known[1]

    def output(self, candidate: Candidate) -> float | None:
        """USD per million tokens written, by which the cheapest is found; None where it is not known."""
        price = self.of(candidate)
        return None if price is None or price.rates.output is None else price.rates.output / NANO


def compiled(deployment: Deployment, provider: str, now: float) -> Price | None:
    price = _compiled(deployment, provider, now)
    return None if price is None else msgspec.structs.replace(price, flat=_flat(price))


def _flat(price: Price) -> tuple[int, int, int] | None:
    rates = price.rates
    if (
        price.steps
        or rates.input is None
        or rates.output is None
        or rates.written is not None
        or rates.reasoning is not None
    ):
        return None
    return rates.input, rates.output, 0 if rates.cached is None else rates.cached - rates.input


def _compiled(deployment: Deployment, provider: str, now: float) -> Price | None:
    told_by: tuple[tuple[Source, Mapping[str, float | None]], ...] = (
        ("config", deployment.price),
        ("table", deployment.row.price),
    )
    for source, said in told_by:
        told = {name: each for name, each in said.items() if each is not None}
        if told:
            return _told(source, told)
    found = _found(provider, deployment.provider_id, deployment.model)
    return None if found is None else _listed(found, provider, datetime.fromtimestamp(now, UTC))


def _told(source: Source, told: Mapping[str, float]) -> Price:
    rates = {ours: _nano(told[name]) for name, ours in _FIELDS.items() if name in told}
    image, second, character = (_nano(told[name], MILLION) if name in told else None for name in _PIECES)
    return Price(source, Rates(**rates), image, second, character)


def _nano(dollars: float | Decimal, times: int = 1) -> int:
    """Exact as it was written: a float is taken for the number that it shows itself as."""
    return int((Decimal(str(dollars)) * NANO * times).to_integral_value())


def _listed(found: ModelInfo, provider: str, now: datetime) -> Price | None:
    prices = found.get_prices(now)
    said = {ours: getattr(prices, name, None) for ours, name in _LISTED.items()}
    starts = {tier.start for each in said.values() if isinstance(each, TieredPrices) for tier in each.tiers}
    steps = tuple((start, _rates(said, start)) for start in sorted(starts, reverse=True))
    rates = _rates(said, -1)
    pieces: dict[str, int] = {}
    for ours, name, per in _LISTED_PIECES:
        dollars = getattr(prices, name, None)
        if isinstance(dollars, Decimal) and dollars > 0:
            pieces[ours] = int((dollars * NANO * MILLION / per).to_integral_value())
    if rates == Rates() and not pieces:
        return None
    least = _LEAST.get(provider, 0) if "second" in pieces else 0
    second, character = pieces.get("second"), pieces.get("character")
    return Price("genai-prices", rates, None, second, character, least, steps)


def _rates(said: Mapping[str, Any], start: int) -> Rates:
    values = {name: _step(each, start) for name, each in said.items() if each is not None}
    return Rates(**{name: _nano(each) for name, each in values.items() if each > 0})


def _step(price: Any, start: int) -> Decimal:
    if not isinstance(price, TieredPrices):
        return Decimal(price)
    return next((tier.price for tier in reversed(price.tiers) if tier.start <= start), price.base)


def price_of(row: Row, provider: str, model: str) -> Dollars | None:
    """The prices of `model` (the Hub's id) at `provider`, which knows it by the row's id, as they are shown."""
    told = {name: price for name, price in row.price.items() if price is not None}
    if told:
        return {name: told[name] for name in TOKENS if name in told} or None  # else by the picture, the second
    return listed(provider, row.id, model)


@lru_cache(maxsize=KEPT)
def listed(provider: str, provider_id: str, model: str) -> Dollars | None:
    """What genai-prices lists for small prompts, as on the day that it is first asked for."""
    found = _found(provider, provider_id, model)
    price = None if found is None else _listed(found, provider, datetime.now(UTC))
    if price is None:
        return None
    rates = {name: getattr(price.rates, _FIELDS[name]) for name in TOKENS}
    return {name: each / NANO for name, each in rates.items() if each is not None} or None


@lru_cache(maxsize=KEPT)
def _found(provider: str, provider_id: str, model: str) -> ModelInfo | None:
    if provider in _ANYONES:
        return None
    asked = ((_OWN_NAMES.get(provider, provider), provider_id), (f"huggingface_{provider}", model))
    for lister, name in asked:
        place = next((each for each in get_snapshot().providers if each.id == lister), None)
        found = place.find_model(name) if place is not None and name else None
        if found is not None:
            return found
    return None
