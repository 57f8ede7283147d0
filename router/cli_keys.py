"""`inference-router keys`: virtual keys, as lines for the file or in the store that the configuration names.

A key is printed once, by itself on a line, so that a script can take it; what else there is to say stands below it or
on stderr.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from pydantic import ValidationError

from router import config
from router.config import ConfigFaults, Loaded
from router.plans import STYLES, KeyRow, VirtualKey, digest_of, mint
from router.settings import duration
from router.stores.keyrows import KeyRows, NameTaken, NoSuchKey
from router.stores.sql import Away, database

_FILE: Final = click.Path(path_type=Path)
_STORES: Final = ("sqlite:", "postgresql:")
_LIMITS: Final = ("requests", "tokens", "input_tokens", "output_tokens", "concurrency", "budget")

config_option = click.option("--config", "file", type=_FILE, help="The configuration, in place of the one found.")
style_option = click.option(
    "--style", type=click.Choice(list(STYLES)), default="hf", help="hf: as Hub clients expect it."
)


@click.group()
def keys() -> None:
    """Virtual keys: those that callers of this router have."""


def _limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for name in reversed(_LIMITS):
        example = {"concurrency": "8", "budget": "'20 USD/month'"}.get(name, "300/hour")
        flag = f"--{name.replace('_', '-')}"
        command = click.option(flag, name, metavar="LIMIT", help=f"This key's own, such as {example}.")(command)
    return command


@keys.command()
@style_option
@click.option("--name", default="alice", help="What the key is called.")
@click.option("--tenant", default="", help="Whose it is; unsaid: the key's name.")
@click.option("--plan", default="", help="One of the configuration's plans; unsaid: everything.")
@click.option("--model", "models", multiple=True, help="A pattern of models that it may use; repeatable.")
@click.option("--not-model", "not_models", multiple=True, help="One that it may not use; repeatable.")
@click.option("--provider", "providers", multiple=True, help="An upstream or provider that may serve it; repeatable.")
@_limit_options
@click.option("--org", "orgs", multiple=True, help="An organisation that X-HF-Bill-To may name; repeatable.")
@click.option("--expires", default="", help="A date, or date and time, such as 2027-01-31T18:00:00Z.")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", help="A note; repeatable.")
@click.option(
    "--save/--print-only", " /--file", "save", default=None, help="In the store, or as a line for the file. Unsaid: "
    "in the store where stores.ledger names one."
)  # fmt: skip
@config_option
def create(
    style: str, name: str, save: bool | None, file: Path | None, metadata: tuple[str, ...], **given: Any
) -> None:
    """Make a key. It is shown this once; of it no more than its SHA-256 is kept."""
    settings = _settings(given, metadata)
    loaded = _loaded(file, save)
    if loaded is None or not (save or (save is None and loaded.config.stores.ledger.startswith(_STORES))):
        _print_line(name, settings, style)
        return
    plan = settings.get("plan", "")
    if plan and plan not in loaded.config.plans:
        raise click.ClickException(f'no plan is named "{plan}"')
    with _rows(loaded) as rows, _worded():
        secret, row = rows.create(name, settings, style, {each.name for each in loaded.config.virtual_keys})
    click.echo(secret)
    click.echo(f"{row.name} of {row.tenant} is in the store; routers know it within two seconds.", err=True)


def _settings(given: Mapping[str, Any], metadata: tuple[str, ...]) -> dict[str, Any]:
    """What was said, as a VirtualKey spells it."""
    found = {name: list(each) if isinstance(each, tuple) else each for name, each in given.items()}
    limits = {name: found.pop(name) for name in _LIMITS}
    found["limits"] = {name: each for name, each in limits.items() if each}
    notes = [each.partition("=") for each in metadata]
    if any(not middle for _, middle, _ in notes):
        raise click.UsageError("--metadata: expected name=value")
    found["metadata"] = {name: value for name, _, value in notes}
    return {name: each for name, each in found.items() if each}


def _loaded(file: Path | None, save: bool | None) -> Loaded | None:
    """None: it is not needed, or a first key is being made for one that does not hold yet."""
    if save is False:
        return None
    try:
        return config.load(file, os.environ)
    except ConfigFaults:
        if save:
            raise
        click.echo("The configuration does not hold (`inference-router check`), so this is a line for it:", err=True)
        return None


def _print_line(name: str, settings: Mapping[str, Any], style: str) -> None:
    key = mint(style)
    digest = digest_of(key.encode()).hex()
    with _worded():
        VirtualKey.model_validate({**settings, "name": name, "key_sha256": digest})
    said = "".join(f", {what}: {json.dumps(each)}" for what, each in settings.items())
    click.echo(key)
    click.echo(f"  - {{name: {name}, key_sha256: {digest}{said}}}   # below virtual_keys in config.yaml")


@keys.command("list")
@click.option("--all", "everything", is_flag=True, help="Revoked and expired ones too.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@config_option
def list_keys(everything: bool, as_json: bool, file: Path | None) -> None:
    """Print the keys of the file and of the store; never the keys themselves."""
    loaded = config.load(file, os.environ)
    shown = [_of_file(each) for each in loaded.config.virtual_keys]
    if loaded.ledger:
        with _rows(loaded) as rows, _worded():
            now = time.time()
            shown += [_of_row(each, now) for each in rows.rows() if everything or _state(each, now) in ("", "expires")]
    for each in shown:
        click.echo(json.dumps(each) if as_json else _line(each))


@keys.command()
@click.argument("name")
@click.option("--grace", default="24h", show_default=True, help="How long the old key still opens.")
@style_option
@config_option
def rotate(name: str, grace: str, style: str, file: Path | None) -> None:
    """Make a new key for what NAME opens. The old one goes on for a while."""
    try:
        seconds = duration(grace)
    except ValueError as error:
        raise click.UsageError(f"--grace: {error}") from None
    with _rows(config.load(file, os.environ)) as rows, _worded():
        secret, _ = rows.rotate(name, seconds, style)
    click.echo(secret)
    click.echo(f"The old key of {name} opens for {grace} more.", err=True)


@keys.command()
@click.argument("name")
@config_option
def revoke(name: str, file: Path | None) -> None:
    """Close every key of that NAME, at once."""
    with _rows(config.load(file, os.environ)) as rows, _worded():
        count = rows.revoke(name)
    click.echo(f"{name}: {count} revoked; routers know it within two seconds.")


@contextmanager
def _rows(loaded: Loaded) -> Iterator[KeyRows]:
    url = loaded.ledger
    if not url:
        raise click.ClickException("the configuration keeps no store (stores.ledger: off)")
    opened = None
    try:
        opened = database(url)
        yield KeyRows(opened)
    except Away as away:
        raise click.ClickException(f"the store is away: {away.reason}") from None
    finally:
        if opened is not None:
            opened.close()


@contextmanager
def _worded() -> Iterator[None]:
    try:
        yield
    except NoSuchKey as error:
        raise click.ClickException(f'no live key of the store is named "{error}"') from None
    except NameTaken as error:
        raise click.ClickException(f'a key is named "{error}" already') from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(each) for each in first["loc"])
        raise click.ClickException(f"{place}: {first['msg'].removeprefix('Value error, ')}") from None


def _of_file(key: VirtualKey) -> dict[str, Any]:
    state = "off" if key.digest is None else _until(key.expires)
    return {"name": key.name, "tenant": key.owner, "plan": key.plan, "hint": "", "state": state, "source": "file"}


def _of_row(row: KeyRow, now: float) -> dict[str, Any]:
    plan = json.loads(row.settings or "{}").get("plan", "")
    state = {"expires": _until(row.expires)}.get(_state(row, now), _state(row, now))
    hint = f"…{row.hint}"
    return {"name": row.name, "tenant": row.tenant, "plan": plan, "hint": hint, "state": state, "source": "store"}


def _state(row: KeyRow, now: float) -> str:
    if row.revoked is not None:
        return "revoked"
    if row.expires is None:
        return ""
    return "expires" if row.expires > now else "expired"


def _until(moment: float | None) -> str:
    return "" if moment is None else time.strftime("until %Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _line(shown: Mapping[str, Any]) -> str:
    widths = {"name": 16, "tenant": 16, "plan": 10, "hint": 6, "source": 6, "state": 0}
    return "  ".join(f"{shown[name]:<{width}}" for name, width in widths.items()).rstrip()
