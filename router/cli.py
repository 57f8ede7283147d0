"""The command line: `inference-router`, and `python -m router`.

Each command reads the configuration, asks one part, and prints. Whatever is wrong is one line for people (or one line a
fault, from `check`) and an exit code: 1 for the configuration or the machine, 2 for how it was called.
"""

import importlib
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import click

from providers.spec import ANY_TASK, CONVERSATIONAL, Task
from router import backend as backends
from router import bench as benchmark
from router import build, catalog, cli_usage, config, routing, server, state
from router.app import Router
from router.cli_keys import keys
from router.config import ConfigFaults, Loaded
from router.prices import Prices

DIALECTS: Final = ("openai", "huggingface", "tgi")


class OneLine(click.Group):
    """Says what is wrong with an invocation in one line."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        try:
            code = super().main(args, *rest, **{**options, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            code = error.exit_code
            click.echo(error.message)
        except click.ClickException as error:
            code = error.exit_code
            click.echo(f"inference-router: {error.format_message()}", err=True)
        except ConfigFaults as faults:
            code = 1
            click.echo("\n".join(faults.faults), err=True)
        except click.Abort:
            code = 130
        sys.exit(code if isinstance(code, int) else 0)


File = click.Path(path_type=Path)
config_option = click.option(
    "--config", "file", type=File, help="The configuration, in place of the one that is found."
)


@click.group(cls=OneLine, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """One address in front of local servers and hosted providers.

    The configuration is found at --config, $INFERENCE_ROUTER_CONFIG, ./config.yaml, else the one shipped.
    """


@main.command()
@config_option
@click.option("--host", help="Where to listen, in place of server.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="In place of server.port.")
@click.option("--workers", type=click.IntRange(1, 256), help="In place of server.workers.")
def serve(file: Path | None, host: str | None, port: int | None, workers: int | None) -> None:
    """Serve until told to stop: SIGTERM drains, SIGINT stops at once."""
    given = {"host": host, "port": port, "workers": workers}
    asked = {name: each for name, each in given.items() if each is not None}
    loaded = config.load(file, os.environ, asked)
    settings = loaded.config.server
    for notice in loaded.notices:
        click.echo(notice, err=True)
    stores = loaded.config.stores
    if loaded.ledger and (stores.ledger or stores.directory) and (why := state.refusal(loaded.state)):
        raise ConfigFaults([f"stores.directory: {loaded.state} cannot be written to: {why}"])
    models = len(config.table_of(loaded).models())
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    where = f"http{'s' if settings.tls else ''}://{shown}:{settings.port}"
    upstreams = loaded.config.upstreams.items()
    there = ", ".join(name for name, each in upstreams if each.when != "answers")
    perhaps = ", ".join(name for name, each in upstreams if each.when == "answers")
    also = f", and at {perhaps} where they answer" if perhaps else ""
    click.echo(f"{where}: {models} models at {there}{also}; {loaded.path}", err=True)
    server.serve(
        lambda siblings: Router(loaded, siblings, lambda: config.load(loaded.path, os.environ, asked)),
        settings.host,
        settings.port,
        settings.workers,
        settings.drain,
        delay=settings.drain_delay,
        tls=settings.tls,
        operators=loaded.config.telemetry.listen,
    )


@main.command()
@click.argument("file", type=File, required=False)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the file, for editors.")
def check(file: Path | None, schema: bool) -> None:
    """Print every fault of a configuration, or the routes that it makes and what to know about it."""
    if schema:
        click.echo(config.schema(), nl=False)
        return
    loaded = config.load(file, os.environ)
    click.echo(f"{loaded.path} holds.\n")
    _print_routes(loaded)
    if loaded.notices:
        click.echo()
    for notice in loaded.notices:
        click.echo(f"- {notice}")


@main.command()
@config_option
def routes(file: Path | None) -> None:
    """Print every model that can be asked for, and where it is had."""
    _print_routes(config.load(file, os.environ))


def _print_routes(loaded: Loaded) -> None:
    rows = list(_route_rows(loaded))
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
    for model, task, places in rows:
        click.echo(f"{model:<{widths[0]}}  {task:<{widths[1]}}  {places}".rstrip())


def _route_rows(loaded: Loaded) -> Iterator[tuple[str, str, str]]:
    table = config.table_of(loaded)
    for model in sorted(table.models()):
        if model in table.aliases:
            yield model, "", f"is {table.aliases[model]}"
        elif (route := table.route(model)) is not None:
            yield model, _task_of(route), _places_of(route, loaded)
    for pattern, route in table.wildcards:
        yield pattern, _task_of(route), _places_of(route, loaded)
    for name, settings in loaded.config.upstreams.items():
        if settings.models == "discover":
            yield "…", "", f"whatever {name} lists" + (", while it answers" if settings.when == "answers" else "")


def _task_of(route: routing.Route) -> Task:
    """The task that a route is for: its own, else that of the first row which says."""
    tasks = (route.task, *(each.row.task for each in route.deployments))
    return next((task for task in tasks if task != ANY_TASK), ANY_TASK)


def _places_of(route: routing.Route, loaded: Loaded) -> str:
    names = (each.upstream + (" (off)" if each.upstream in loaded.off else "") for each in route.deployments)
    return route.policy + ": " + ", ".join(names) if route.policy != "ordered" else ", ".join(names)


@main.command()
@click.argument("model")
@click.option("--task", help="The Hub's name of it, such as conversational or text-generation.")
@config_option
def explain(model: str, task: str | None, file: Path | None) -> None:
    """Print what would be tried for MODEL, in order, and why other places are not."""
    loaded = config.load(file, os.environ)
    lines = list(_explained(loaded, model, task))
    if not lines:
        raise click.ClickException(f'nobody has a model "{model}"; `inference-router routes` lists them all')
    click.echo("\n".join(lines))


def _explained(loaded: Loaded, model: str, task: Task | None) -> Iterator[str]:
    table = config.table_of(loaded)
    route = table.route(model)
    wanted = route.model if route else model
    if route is not None:
        asked = task or _task_of(route)
        asked = CONVERSATIONAL if asked == ANY_TASK else asked
        views = [found for each in DIALECTS if (found := table.find(model, asked, each)) is not None]
        best = max(views, key=lambda found: len(found.plan.attempts))
        plan = routing.plan(best.plan, dice=random.Random(), cost=Prices().output)  # noqa: S311
        yield f"{wanted}: {asked}, {plan.route.policy}"
        for place, each in enumerate(plan.attempts, 1):
            listens = loaded.config.upstreams[each.deployment.upstream].when == "answers"
            yield f"  {place}. {each.deployment.name}" + (", if it answers" if listens else "")
        for drop in plan.dropped:
            off = loaded.off.get(drop.name.partition("/")[0])
            yield f"  not {drop.name}: {off.reason if off else drop.reason}"
    for name, off in loaded.off.items():
        row = loaded.tables.get(off.provider, {}).get(wanted)
        if row is not None and not (route and any(each.upstream == name for each in route.deployments)):
            yield f"  not {name}/{row.id}: {off.reason}"


main.add_command(keys)
main.add_command(cli_usage.commands(lambda file: config.load(file, os.environ).ledger))


@main.group("catalog")
def catalog_group() -> None:
    """The tables: which provider has which model."""


@catalog_group.command()
@config_option
@click.option("--provider", "wanted", multiple=True, type=click.Choice(catalog.mapped()), help="Only this; repeatable.")
@click.option("--out", type=File, help="The directory to write to, in place of tables/ beside the configuration.")
@click.option("--hub", envvar="HF_ENDPOINT", default="https://huggingface.co", show_default=True)
@click.option("--router", default=catalog.ROUTER, show_default=True, help="Who says prices and contexts.")
@click.option("--adapters", is_flag=True, help="LoRA adapters too: there are tens of thousands.")
@click.option("--dry-run", is_flag=True, help="Print what would change; write nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before writing.")
def sync(file: Path | None, wanted: tuple[str, ...], out: Path | None, hub: str, router: str, **flags: bool) -> None:
    """Write the tables from the Hub's own mapping of models to providers.

    One that broke off goes on where it stopped. HF_TOKEN, where it is set, is sent to the Hub.
    """
    path = config.located(file, os.environ)
    if out is None and path == config.SHIPPED:
        raise click.UsageError("there is no configuration to write beside; name one with --config, or --out DIR")
    directory = path.parent / "tables" if out is None else out
    kept = catalog.Kept(None if flags["dry_run"] else directory / ".sync.partial", hub)
    names = wanted or catalog.mapped()
    try:
        found = _fetched(names, hub, router, kept, directory, flags["adapters"])
        click.echo("\n".join(line for each in found for line in catalog.summary(each)))
        changed = [] if flags["dry_run"] else [each for each in found if each.changes]
        asked = changed and _at_a_terminal() and not flags["yes"]
        if asked and not click.confirm(f"Write {len(changed)} tables to {directory}?"):
            changed = []
        for each in changed:
            catalog.write(catalog.file_of(directory, each.provider), each.provider, each.rows, f"catalog sync, {hub}")
    except (catalog.Unavailable, OSError) as gone:
        raise click.ClickException(str(gone)) from None
    kept.done()
    click.echo(f"{len(changed)} tables written to {directory}" if changed else "nothing written")


def _at_a_terminal() -> bool:
    return sys.stdin.isatty()


def _fetched(
    names: Sequence[str], hub: str, router: str, kept: catalog.Kept, directory: Path, adapters: bool
) -> list[catalog.Synced]:
    models: Counter[str] = Counter()
    bar = click.progressbar(
        length=len(names), label="Reading", file=sys.stderr, item_show_func=lambda shown: shown, update_min_steps=0
    )

    def seen(provider: str, count: int | None) -> None:
        models[provider] += count or 0
        bar.update(count is None, f"{provider}: {models[provider]} models")

    with bar, catalog.Client(hub, os.environ.get("HF_TOKEN", ""), told=lambda text: bar.update(0, text)) as client:
        return catalog.sync(client, router, names, kept, directory, seen, adapters=adapters)


@main.command()
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=3.0, help="How long each figure is measured.")
@click.option("--out", type=File, help="Save the figures there as JSON.")
def bench(seconds: float, out: Path | None) -> None:
    """Measure this router on this machine, against a mock upstream on loopback."""
    benchmark.main(seconds, out)


@main.command()
@click.option("--task", required=True, help="The Hub's name of what it is to do, such as text-to-image.")
@click.option("--model", required=True, help="An id of the Hub's, or a directory.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8083, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--dtype", type=click.Choice(["auto", "float32", "float16", "bfloat16"]), default="auto", show_default=True
)
@click.option("--queue", type=click.IntRange(0, 10_000), default=8, show_default=True, help="How many may wait.")
@click.option("--preload", is_flag=True, help="Load the model now, not for the first request.")
def backend(task: str, model: str, host: str, port: int, device: str, dtype: str, queue: int, preload: bool) -> None:
    """Serve one diffusers or transformers model on this machine, in the Hub's shape."""
    module = backends.TASKS.get(task)
    if module is None:
        raise click.UsageError(f'no task is named "{task}". One of: {", ".join(sorted(backends.TASKS))}')
    try:
        load = importlib.import_module(module).load
    except ImportError as error:
        missing = f"{error.name or error} is not installed: pip install 'inference-router[backend]'"
        raise click.ClickException(missing) from None
    order = backends.Order(model, task, device, dtype)
    click.echo(f"http://{host}:{port}: {model}, {task}", err=True)
    sys.exit(backends.serve(load, order, host, port, queue, preload, _version()))


@main.command()
def version() -> None:
    """Print the version, and whether the busiest modules are native."""
    click.echo(f"inference-router {_version()} ({build.WORD})")


def _version() -> str:
    try:
        return metadata.version("inference-router")
    except metadata.PackageNotFoundError:
        return "0 (a checkout that is not installed)"
