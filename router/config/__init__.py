"""config.yaml → one frozen record, or every fault of it at once. The steps of `load` are the files of this package.

Refuses to guess: what is unknown, doubled, missing or names nothing is a fault with its place and, where there is one,
a suggestion. What the file says and this version does not do is a notice, never silence.
"""

import copy
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

import providers
from router import routing
from router.config import checks, places
from router.config.checks import Findings, Off, on_loopback
from router.config.environment import Address, Filled, fill
from router.config.faults import ConfigFaults, meant, spelled, worded
from router.config.files import SCHEMA, SHIPPED, located, matched, read_tables, reason_of
from router.config.model import Config, ServerSettings
from router.config.schema import schema
from router.config.strict_yaml import Unreadable, parse
from router.routing import Place, Row, Table
from router.settings import Settings

T = TypeVar("T", bound=Settings)

__all__ = [
    "SCHEMA",
    "SHIPPED",
    "Config",
    "ConfigFaults",
    "Loaded",
    "Off",
    "ServerSettings",
    "load",
    "located",
    "on_loopback",
    "schema",
    "secrets_of",
    "table_files",
    "table_of",
]

_TELLING: Final = ("auth", "cookie", "key", "secret", "token")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that holds. Upstreams that are off stand in `off`, with the reason, and not in `config`."""

    config: Config
    path: Path
    at: int  # when its files began to be read: nanoseconds, as file systems count
    notices: tuple[str, ...] = ()
    off: Mapping[str, Off] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, Row]] = field(default_factory=dict)  # provider → HF id → row
    digest: str = ""  # of the files as they were read: the same for replicas that are configured alike

    @property
    def state(self) -> Path:
        """The directory of what outlives the process."""
        return places.state_of(self.config.stores, self.path)

    @property
    def ledger(self) -> str:
        """The URL of the ledger's database; empty where there is none."""
        return places.ledger_url(self.config.stores, self.path)


def load(path: Path | None, env: Mapping[str, str], server: Mapping[str, Any] | None = None) -> Loaded:
    """The configuration at `path` (or where `located` finds it). `server`: what the command line sets over the file."""
    at = time.time_ns()
    path = located(path, env)
    filled = fill(_parsed(path), env)
    value = filled.value
    if server and isinstance(value.get("server", {}), dict):
        value = {**value, "server": {**value.get("server", {}), **server}}
    found = Findings()
    config: Config | None
    try:
        config = Config.model_validate(value)
    except ValidationError as error:
        found.faults += worded(error, Config, value)
        config = _what_holds(value, [place for place, _ in found.faults])
    tables, bad_tables = _check(config, filled, path, found) if config else ({}, [])
    faults = [*filled.faults.items(), *(each for each in found.faults if each[0] not in filled.faults)]
    if config is None or faults or bad_tables:
        raise ConfigFaults([f"{path.name} {spelled(place)}: {message}" for place, message in faults] + bad_tables)
    notices = (*found.notices, *checks.not_enforced(value))
    digest = places.digest_of(path, table_files(config, path))
    return Loaded(_settled(config, path, found.off), path, at, notices, found.off, tables, digest)


def _check(config: Config, filled: Filled, path: Path, found: Findings) -> tuple[dict[str, dict[str, Row]], list[str]]:
    """Everything that no single setting can know; what lies above or below a known fault is not told twice."""
    known = [place for place, _ in found.faults]
    later = Findings(notices=found.notices, off=found.off)
    checks.check_upstreams(config, filled.names, path, later)
    if not {"auth", "server", "virtual_keys"} & {place[0] for place in known}:  # a key that is at fault is one
        checks.check_keys(config, filled.names, later)
    checks.check_models(config, later)
    checks.check_stores(config, later)
    tables, bad_tables = _tables(config, path, later)
    if not known and not later.faults and not bad_tables:
        _check_ids(config, tables, later)
    found.faults += [
        (place, message)
        for place, message in later.faults
        if not any(place[: len(each)] == each[: len(place)] for each in known)
    ]
    return tables, bad_tables


def _what_holds(value: dict[str, Any], faulty: list[Address]) -> Config | None:
    """The configuration without the settings at fault, so that the rest is looked at all the same; None if it fails."""
    value = copy.deepcopy(value)
    for place in faulty:
        inside: Any = value
        names = [index for index, part in enumerate(place) if isinstance(part, str)]
        for part in place[: names[-1]]:
            inside = _item(inside, part)
        inside.pop(place[names[-1]], None)
    try:
        return Config.model_validate(value)
    except ValidationError:
        return None


def _item(value: Any, part: str | int) -> Any:
    if isinstance(value, list) and isinstance(part, int):
        return value[part]
    return value.get(part, {}) if isinstance(value, dict) else {}


def _parsed(path: Path) -> dict[str, Any]:
    try:
        value = parse(path.read_text(encoding="utf-8-sig"))
    except Unreadable as unreadable:
        raise ConfigFaults([f"{path.name} {each}" for each in unreadable.faults]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigFaults([f"{path}: cannot be read: {reason_of(error)}"]) from None
    if value is not None and not isinstance(value, dict):
        raise ConfigFaults([f"{path.name}: expected settings (`name: value`)"])
    # A section whose lines are all commented out is an empty one.
    return {name: each for name, each in (value or {}).items() if each is not None}


def _tables(config: Config, path: Path, found: Findings) -> tuple[dict[str, dict[str, Row]], list[str]]:
    for index, entry in enumerate(config.tables):
        if entry not in Config().tables and not matched(entry, path):
            if "*" in entry:
                found.notices.append(f"{spelled(('tables', index))}: no file matches {entry}")
            else:
                found.fault(f"there is no file {entry}", "tables", index)
    return read_tables(table_files(config, path))


def table_files(config: Config, path: Path) -> list[Path]:
    """The tables of a configuration in the order of their weight: a later file's rows win."""
    return list(dict.fromkeys(file for entry in config.tables for file in matched(entry, path)))


def _check_ids(config: Config, tables: Mapping[str, Mapping[str, Row]], found: Findings) -> None:
    """Ids that the file itself sends callers to. What an upstream will list cannot be known yet, so it is believed."""
    if any(each.models == "discover" for each in config.upstreams.values()):
        return
    table = _table(config, tables)
    wanted: list[tuple[Address, str]]
    wanted = [(("models", name, "alias"), route.alias) for name, route in config.models.items() if route.alias]
    wanted += [(("default_models", task), model) for task, model in config.default_models.items()]
    for place, model in wanted:
        if table.route(model) is None:
            found.fault(f'no model is named "{model}"' + meant(model, table.models()), *place)


def _settled(config: Config, path: Path, off: Mapping[str, Off]) -> Config:
    """Without what is off, and with files found from anywhere."""
    upstreams = {}
    for name, settings in config.upstreams.items():
        if name not in off:
            upstreams[name] = settings.model_copy(update={"tls": _placed(settings.tls, path)})
    server = config.server
    if server.tls is not None:
        server = server.model_copy(update={"tls": _placed(server.tls, path)})
    return config.model_copy(update={"upstreams": upstreams, "server": server})


def _placed(tls: T, path: Path) -> T:
    """Files are named from where the configuration lies."""
    places = {part: str(path.parent.absolute() / file) for part, file in tls.model_dump().items() if file}
    return tls.model_copy(update=places)


def table_of(loaded: Loaded) -> Table:
    """Every model that can be asked for as the file stands, before any upstream was asked what it has."""
    return _table(loaded.config, loaded.tables)


def _table(config: Config, tables: Mapping[str, Mapping[str, Row]]) -> Table:
    found: list[Place] = []
    rowless: list[str] = []
    listed: dict[str, tuple[str, ...]] = {}
    for name, settings in config.upstreams.items():
        provider = providers.find(settings.provider)
        assert provider is not None, "checked at load"
        own_host = urllib.parse.urlsplit(settings.base_url).hostname or ""
        found.append(Place(name, provider, local=checks.of_ones_own(own_host) or provider.name == checks.SANDBOX))
        if provider.name == "openai" and own_host and not own_host.endswith(".openai.com"):
            rowless.append(name)  # some compatible server: OpenAI's own models are not there
        if not isinstance(settings.models, str):
            listed[name] = tuple(settings.models)
    table = routing.build(found, config.models, tables)
    kept = {name: rows for name, rows in table.rows.items() if name not in rowless}
    return replace(table, rows=kept).with_live(listed, frozenset())


def secrets_of(config: Config) -> list[str]:
    """Every value that must not leave by a message or a log: for a Scrubber."""
    return [each for each in _secrets(config) if each]


def _secrets(config: Config) -> Iterator[str]:
    yield config.auth.admin_key.reveal()
    if config.auth.jwt is not None:
        yield config.auth.jwt.secret.reveal()
    for key in config.virtual_keys:
        yield key.key.reveal()
        yield from (each.reveal() for each in key.user_keys.values())
    for upstream in config.upstreams.values():
        yield from (each.reveal() for each in upstream.keys)
        for name, value in upstream.headers.items():
            if any(part in name.lower() for part in _TELLING):
                yield value
        yield _password(upstream.proxy)
    yield _password(config.stores.shared)
    yield _password(config.stores.ledger)


def _password(url: str) -> str:
    return urllib.parse.unquote(urllib.parse.urlsplit(url).password or "")
