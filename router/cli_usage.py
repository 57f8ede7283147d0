"""`inference-router usage`: what was used, by whom, and the ledger's entries out of it or away from it.

It reads the database of the ledger, while servers write to it or not. What it deletes, `prune` alone deletes, when
somebody asks for it: never a process that serves.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TextIO

import click
import msgspec

from router import usage_report as report
from router.stores import sql
from router.stores.books import Books
from router.stores.reports import DIMENSIONS, Reports

FORMATS: Final = ("table", "csv", "jsonl", "json")

Resolve = Callable[[Path | None], str]
"""The configuration's file, where one was named → the URL of its ledger, empty where it keeps none."""


def _moment(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    try:
        return None if value is None else report.moment(value, time.time())
    except ValueError as error:
        raise click.UsageError(f"{param.name}: {error}", ctx) from None


def _groups(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    names = [part.strip() for each in value for part in each.split(",")]
    for each in names:
        if each not in DIMENSIONS:
            raise click.UsageError(f'by: nothing is grouped by "{each}". One of: {", ".join(DIMENSIONS)}', ctx)
    return tuple(dict.fromkeys(names))


def _since_and_until(command: Callable[..., None]) -> Callable[..., None]:
    until = click.option("--until", callback=_moment, help="Up to then, and not including it.")
    since = click.option("--since", callback=_moment, help="A date such as 2026-11-01 (UTC), or an age such as 7d.")
    return since(until(command))


def _of_whom(command: Callable[..., None]) -> Callable[..., None]:
    for name in ("provider", "model", "key", "tenant"):
        command = click.option(f"--{name}", help=f"Of this {name} alone.")(command)
    return command


def commands(resolve: Resolve) -> click.Group:
    """The group `usage`."""
    file_option = click.option("--config", "file", type=click.Path(path_type=Path), help="Whose ledger it is.")
    url_option = click.option("--ledger", help="The database itself, such as sqlite:///router.db.")

    def place(function: Callable[..., None]) -> Callable[..., None]:
        return file_option(url_option(function))

    def url_of(ctx: click.Context, file: Path | None, ledger: str | None) -> str:
        """As given to this command, or to `usage` in front of it."""
        before = ctx.parent.params if ctx.parent is not None else {}
        found = ledger or before.get("ledger") or resolve(file or before.get("file"))
        if not found:
            raise click.ClickException("the configuration keeps no ledger (stores.ledger: off); name one with --ledger")
        return str(found)

    @click.group(invoke_without_command=True)
    @click.option("--by", callback=_groups, multiple=True, help=f"{', '.join(DIMENSIONS)}; repeatable.")
    @_since_and_until
    @_of_whom
    @click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
    @place
    @click.pass_context
    def usage(
        ctx: click.Context, /, by: tuple[Any, ...], since: float | None, until: float | None, form: str,
        file: Path | None, ledger: str | None, **where: str | None,
    ) -> None:  # fmt: skip
        """Print what was used: requests, tokens, cost and charge, in all or by tenant, model, provider, day, …"""
        if ctx.invoked_subcommand is not None:
            return
        with _opened(url_of(ctx, file, ledger)) as database:
            rows = Reports(database).totals(by, since, until, _given(where))
        if form == "json":
            click.echo(msgspec.json.encode(report.listed(by, rows, since, until)))
        elif form == "csv":
            _write(sys.stdout, report.as_csv(by, rows))
        elif form == "jsonl":
            _write(sys.stdout, report.as_jsonl(by, rows))
        else:
            click.echo("\n".join(report.as_table(by, rows)) if rows else "No requests.")

    @usage.command()
    @click.option("--format", "form", type=click.Choice(("csv", "jsonl")), required=True)
    @_since_and_until
    @_of_whom
    @click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file, written whole.")
    @place
    @click.pass_context
    def export(
        ctx: click.Context, /, form: str, since: float | None, until: float | None, output: Path | None,
        file: Path | None, ledger: str | None, **where: str | None,
    ) -> None:  # fmt: skip
        """Write the ledger's entries, one a line; as JSON Lines with their failed attempts."""
        as_lines = report.entries_as_csv if form == "csv" else report.entries_as_jsonl
        with _opened(url_of(ctx, file, ledger)) as database, _file(output) as out:
            count = _write(out, as_lines(Reports(database).entries(since, until, _given(where))))
        if output is not None:
            click.echo(f"{count - (form == 'csv'):,} entries in {output}", err=True)

    @usage.command()
    @click.option("--before", callback=_moment, required=True, help="A date such as 2026-11-01, or an age such as 90d.")
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @place
    @click.pass_context
    def prune(ctx: click.Context, /, before: float, yes: bool, file: Path | None, ledger: str | None) -> None:
        """Delete the ledger's entries that are older, after saying how many they are."""
        with _opened(url_of(ctx, file, ledger)) as database:
            count = Reports(database).count(until=before)
            told = f"{count:,} entries from before {report.iso(before)}"
            if not count or not (yes or click.confirm(f"Delete {told}?")):
                click.echo(f"Nothing deleted; there are {told}." if count else f"There are no {told[2:]}.")
                return
            click.echo(f"{Books(database).prune(before):,} entries deleted.")

    return usage


def _given(where: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in where.items() if value is not None}


@contextlib.contextmanager
def _opened(url: str) -> Iterator[sql.Database]:
    """The database, and one line where it cannot be used."""
    database: sql.Database | None = None
    try:
        database = sql.database(url)
        database.open()
        yield database
    except sql.Away as away:
        raise click.ClickException(f"the ledger cannot be used: {away.reason}") from None
    finally:
        if database is not None:
            database.close()


@contextlib.contextmanager
def _file(path: Path | None) -> Iterator[TextIO]:
    """Standard output; or a file that bears its name once it is whole, and that only its owner may read."""
    if path is None:
        yield sys.stdout
        return
    part = path.with_name(path.name + ".part")
    try:
        with open(
            os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8", newline=""
        ) as out:
            yield out
        part.replace(path)
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def _write(out: TextIO, lines: Iterable[str]) -> int:
    """How many lines."""
    count = 0
    for count, line in enumerate(lines, 1):  # noqa: B007 - its last value is the answer
        out.write(line)
    return count
