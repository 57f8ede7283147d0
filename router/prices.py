"""What a token costs at a place: as the table's row says, else as genai-prices lists it, else nobody knows: None.

Only the list that genai-prices carries is read; its updates from the network are never started. Unknown is not 0, and
a listed 0 says no more. The program's own kinds of server have no prices, nor has `openai`: behind it may be anyone.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from genai_prices.data_snapshot import get_snapshot

from router.routing import Row

Price = Mapping[str, float]  # "input", "output", "cached_input", those that are known: USD per million tokens

TOKENS: Final = ("input", "output", "cached_input")
_LISTED: Final = {"input": "input_mtok", "output": "output_mtok", "cached_input": "cache_read_mtok"}

# Our provider → where genai-prices lists its models: under its own ids, and under the Hub's.
_OWN_NAMES: Final = {"fireworks-ai": "fireworks", "zai-org": "zai"}
_ANYONES: Final = frozenset({"openai", "huggingface", "hf-inference", "sandbox", "tgi", "tei", "diffusers"})


def price_of(row: Row, provider: str, model: str) -> Price | None:
    """The prices of `model` (the Hub's id) at `provider`, which knows it by the row's id."""
    told = {name: price for name, price in row.price.items() if price is not None}
    if told:
        return {name: told[name] for name in TOKENS if name in told} or None  # else by the picture, the second
    return listed(provider, row.id, model)


@lru_cache(maxsize=4096)
def listed(provider: str, provider_id: str, model: str) -> Price | None:
    """What genai-prices lists, as on the day that it is first asked for."""
    if provider in _ANYONES:
        return None
    asked = ((_OWN_NAMES.get(provider, provider), provider_id), (f"huggingface_{provider}", model))
    for lister, name in asked:
        place = next((each for each in get_snapshot().providers if each.id == lister), None)
        found = place.find_model(name) if place is not None and name else None
        if found is not None:
            return _tokens(found.get_prices(datetime.now(UTC)))
    return None


def _tokens(prices: Any) -> Price | None:
    """The lowest tier: a larger prompt may cost more."""
    values = {name: getattr(prices, field, None) for name, field in _LISTED.items()}
    plain = {name: float(getattr(each, "base", each)) for name, each in values.items() if each is not None}
    return {name: each for name, each in plain.items() if each > 0} or None
