"""What a sync makes of each provider's table. All is asked for before any is written, so that none is by halves."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import providers
from providers.spec import CONVERSATIONAL
from router.catalog.client import Client, Unavailable
from router.catalog.listing import Kept, listing
from router.catalog.rows import Facts, completed, facts_of, routed
from router.catalog.table import Change, changes, file_of, read
from router.config.files import TABLES
from router.routing import Row

ROUTER: Final = "https://router.huggingface.co"
THE_ROUTER: Final = "huggingface"  # the provider that is the Hub's own router: its list is `/v1/models`
Seen = Callable[[str, int | None], None]

_UNMAPPED: Final = frozenset({"openai", "sandbox", "tgi", "tei", "diffusers", "transformers"})
_UNKNOWN: Final = frozenset({400, 404})  # the Hub has no provider of that name, or has it no more


@dataclass(frozen=True, slots=True)
class Synced:
    """A provider's rows as the Hub has them now, and how its table differs. `note`: what there is to know beside."""

    provider: str
    rows: Mapping[str, Row]
    changes: tuple[Change, ...] = ()
    note: str = ""


def mapped() -> tuple[str, ...]:
    """Every provider that the Hub maps models to, or once did."""
    return tuple(name for name in providers.names() if name not in _UNMAPPED)


def sync(
    client: Client,
    router: str,
    wanted: Iterable[str],
    kept: Kept,
    directory: Path,
    seen: Seen = lambda *_: None,
    *,
    adapters: bool = False,
) -> list[Synced]:
    """The tables of `directory` as they would become. `seen` hears how many models came of a provider, and None when
    it is through. Raises Unavailable.
    """
    value, _ = client.get(f"{router.rstrip('/')}/v1/models")
    facts = facts_of(value)
    if not facts:
        raise Unavailable(f"{router.rstrip('/')}/v1/models lists no models")
    found: list[Synced] = []
    for provider in wanted:
        rows = _rows(client, provider, facts.get(provider, {}), kept, seen)
        seen(provider, None)
        found.append(_synced(provider, rows, facts.get(provider, {}), directory, adapters))
    return found


def _synced(
    provider: str, rows: Mapping[str, Row], facts: Mapping[str, Facts], directory: Path, adapters: bool
) -> Synced:
    mine, shipped = file_of(directory, provider), file_of(TABLES, provider)
    written = read([mine], provider)
    if not rows:
        return Synced(provider, written, note="the Hub lists nothing of it; its table stays as it is")
    plain = {model: row for model, row in rows.items() if adapters or row.adapter is None}
    made = completed(provider, plain, facts, read([shipped, mine], provider))
    left = len(rows) - len(plain)
    note = f"{left} adapters are left out; --adapters takes them too" if left else ""
    return Synced(provider, made, tuple(changes(written, made)), note)


def summary(found: Synced, most: int = 20) -> Iterator[str]:
    """The difference in lines: one that counts, then what is new, gone and other than before, to a bound."""
    signs = Counter(each.sign for each in found.changes)
    parts = [f"{signs['+']} new, {signs['-']} gone, {signs['~']} changed" if found.changes else "no change"]
    yield f"{found.provider}: {len(found.rows)} models; " + ", ".join([*parts, *([found.note] if found.note else [])])
    for each in found.changes[:most]:
        yield f"  {each.sign} {each.model}: {each.text}"
    if len(found.changes) > most:
        yield f"  … and {len(found.changes) - most} more"


def _rows(client: Client, provider: str, facts: Mapping[str, Facts], kept: Kept, seen: Seen) -> dict[str, Row]:
    if provider == THE_ROUTER:
        return {model: Row(model, CONVERSATIONAL) for model in facts}
    try:
        return routed(listing(client, provider, kept, lambda count: seen(provider, count)), provider)
    except Unavailable as refused:
        if refused.status not in _UNKNOWN:
            raise
        return {}
