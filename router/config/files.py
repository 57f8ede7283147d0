"""Which files a configuration is made of: the one that was asked for, the shipped one, and the tables.

Relative paths in a configuration resolve against it, never against the directory that the program was started in.
"""

import glob
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

import providers
from router.config.faults import meant, spelled
from router.config.strict_yaml import Unreadable, parse
from router.routing import Row

BUILTIN: Final = "builtin:"
NAMED_BY: Final = "INFERENCE_ROUTER_CONFIG"
TABLES: Final = Path(providers.__file__).parent / "tables"

_ROUTER: Final = Path(__file__).parents[1]
# A wheel carries config.yaml inside the package, where pip can put it; a checkout has it at the top, where one looks.
SHIPPED: Final = next(
    (each for each in (_ROUTER / "config.yaml", _ROUTER.parent / "config.yaml") if each.is_file()),
    _ROUTER.parent / "config.yaml",
)
SCHEMA: Final = _ROUTER / "config.schema.json"


def located(given: Path | None, env: Mapping[str, str]) -> Path:
    """--config, $INFERENCE_ROUTER_CONFIG, ./config.yaml, else the shipped one."""
    if given is not None:
        return given
    if env.get(NAMED_BY):
        return Path(env[NAMED_BY])
    here = Path("config.yaml")
    return here if here.is_file() else SHIPPED


def matched(entry: str, config_path: Path) -> list[Path]:
    """The files that one entry of `tables` names, in order of the alphabet."""
    if entry.startswith(BUILTIN):
        pattern = os.path.join(glob.escape(str(TABLES)), os.path.basename(entry.removeprefix(BUILTIN)))
    else:
        pattern = os.path.join(glob.escape(str(config_path.parent)), os.path.expanduser(entry))
    return [Path(each) for each in sorted(glob.glob(pattern))]


def read_tables(files: Iterable[Path]) -> tuple[dict[str, dict[str, Row]], list[str]]:
    """Provider → its rows, later files laid over earlier ones; and every fault, with its file."""
    tables: dict[str, dict[str, Row]] = {}
    faults: list[str] = []
    for path in files:
        try:
            provider, rows, found = _table(parse(path.read_text(encoding="utf-8")))
        except Unreadable as unreadable:
            faults += [f"{path.name} {each}" for each in unreadable.faults]
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"{path.name}: cannot be read: {reason_of(error)}")
        else:
            faults += [f"{path.name} {each}" for each in found]
            tables.setdefault(provider, {}).update(rows)
    return tables, faults


def _table(value: Any) -> tuple[str, dict[str, Row], list[str]]:
    if not isinstance(value, dict) or not isinstance(value.get("models"), dict) or set(value) != {"provider", "models"}:
        return "", {}, ["is no table: expected `provider: …` and `models: {…}`, and nothing else"]
    provider = value["provider"]
    if not isinstance(provider, str) or provider not in providers.names():
        return "", {}, [f'provider: no provider is named "{provider}"' + meant(str(provider), providers.names())]
    rows: dict[str, Row] = {}
    faults: list[str] = []
    for model, row in value["models"].items():
        try:
            rows[model] = msgspec.convert(row, Row)
        except msgspec.ValidationError as error:
            faults.append(f"{spelled(('models', model))}: {error}")
    return provider, rows, faults


def reason_of(error: OSError | UnicodeDecodeError) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error.strerror)
