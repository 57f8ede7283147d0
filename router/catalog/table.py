"""Tables as files: read, compared, and written whole or not at all, in an order that does not change by itself.

Every string is quoted as JSON quotes it, which YAML reads as it stands; no bare word can turn into something else.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from router.catalog.client import Unavailable
from router.config.files import read_tables
from router.routing import Row


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a difference: `sign` is + (new), - (gone) or ~ (other than before)."""

    sign: str
    model: str
    text: str


def file_of(directory: Path, provider: str) -> Path:
    return directory / f"{provider.replace('-', '_')}.yaml"


def read(files: Iterable[Path], provider: str) -> dict[str, Row]:
    """The provider's rows in these files, later ones over earlier ones. A file that cannot be read counts as empty."""
    tables, _ = read_tables(each for each in files if each.is_file())
    return tables.get(provider, {})


def changes(old: Mapping[str, Row], new: Mapping[str, Row]) -> Iterator[Change]:
    for model in sorted(old.keys() | new.keys(), key=_order):
        if model not in old:
            yield Change("+", model, f"{new[model].task} {new[model].id}")
        elif model not in new:
            yield Change("-", model, f"{old[model].task} {old[model].id}")
        elif old[model] != new[model]:
            before, after = _values(old[model]), _values(new[model])
            parts = [name for name in {**before, **after} if before.get(name) != after.get(name)]
            told = (f"{name} {_shown(before.get(name))} → {_shown(after.get(name))}" for name in parts)
            yield Change("~", model, ", ".join(told))


def text(provider: str, rows: Mapping[str, Row], source: str) -> str:
    lines = [f"# {source}", f"provider: {_shown(provider)}", "models:" if rows else "models: {}"]
    lines += [f"  {_shown(model)}: {_shown(_values(rows[model]))}" for model in sorted(rows, key=_order)]
    return "\n".join(lines) + "\n"


def write(path: Path, provider: str, rows: Mapping[str, Row], source: str) -> None:
    """Replaces the file at once, after it was read back to the same rows. Raises Unavailable where it was not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    made = Path(name)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text(provider, rows, source))
            file.flush()
            os.fsync(descriptor)
        if read_tables([made]) != ({provider: dict(rows)}, []):
            raise Unavailable(f"the table of {provider} does not read back as it was written; {path} stays as it is")
        made.chmod(0o644)
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)


def _order(model: str) -> tuple[str, str]:
    return model.casefold(), model


def _values(row: Row) -> dict[str, Any]:
    """What a row says beyond what every row has."""
    values: dict[str, Any] = {"id": row.id, "task": row.task, "status": row.status}
    values |= {"context": row.context, "adapter": row.adapter, "adapter_weights": row.adapter_weights}
    values |= {"can": sorted(row.can) or None, "fim": msgspec.to_builtins(row.fim) if row.fim else None}
    price = {name: row.price[name] for name in sorted(row.price) if row.price[name] is not None}
    return {name: each for name, each in {**values, "price": price or None}.items() if each is not None}


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
