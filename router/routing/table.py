"""Every model that can be asked for, and who can serve it: built once, immutable, searched by id.

`find` is the expensive half of routing and its results are kept, for each (model, task, dialect). Discovered models and
upstreams that do not answer make a new table (`with_live`).
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from providers import spec
from providers.dialects import DIALECTS
from providers.spec import ANY_TASK, Provider, Task
from router.bounds import Bound, bounds_of
from router.routing.records import SERVES, Candidate, Deployment, Drop, Found, Place, Plan, Route
from router.routing.settings import Fim, Policy, RouteSettings, Row, Rows


@dataclass(frozen=True)
class Table:
    """Every model that can be asked for. `routes` win over the tables' rows; case-folded twins are found too."""

    places: Mapping[str, Place]
    routes: Mapping[str, Route]
    wildcards: tuple[tuple[str, Route], ...]
    aliases: Mapping[str, str]
    rows: Mapping[str, Rows]  # upstream → its rows
    discovered: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # upstream → ids it listed
    silent: frozenset[str] = frozenset()  # upstreams that do not answer
    purposes: Mapping[str, Task] = field(default_factory=dict)  # of those that have one model: what it is for
    _folded: dict[str, str] = field(default_factory=dict, repr=False)
    _found: dict[tuple[str, Task, str], Found | None] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for model in self.models():
            self._folded.setdefault(model.casefold(), model)

    def models(self) -> list[str]:
        """Every id that has a route, a row or was discovered; no wildcards."""
        names = dict.fromkeys([*self.routes, *self.aliases])
        for place in self.places:
            names.update(dict.fromkeys(self.rows.get(place, {})))
            names.update(dict.fromkeys(self.discovered.get(place, ())))
        return list(names)

    def named(self, upstream: str, provider_id: str) -> str | None:
        """The model that an upstream knows under an id of its own: as routed, else as its rows have it."""
        routed = self._routed(upstream, provider_id)
        if routed is not None:
            return routed[0].model
        row = self._row(upstream, provider_id)
        return None if row is None else row[0]

    def _routed(self, upstream: str, provider_id: str) -> tuple[Route, Deployment] | None:
        """Which route has an upstream's own id, upper or lower case alike: many upstreams read it so, too."""
        folded = provider_id.casefold()
        for route in (*self.routes.values(), *(each for _, each in self.wildcards)):
            for each in route.deployments:
                if each.upstream == upstream and each.provider_id and each.provider_id.casefold() == folded:
                    return route, each
        return None

    def _row(self, upstream: str, provider_id: str) -> tuple[str, Row] | None:
        folded = provider_id.casefold()
        rows = self.rows.get(upstream, {})
        return next(((model, row) for model, row in rows.items() if row.id.casefold() == folded), None)

    def ids(self, upstream: str) -> list[str]:
        """An upstream's own ids of the models that are known there."""
        routed = [each for route in self.routes.values() for each in route.deployments if each.upstream == upstream]
        return [each.provider_id for each in routed] + [row.id for row in self.rows.get(upstream, {}).values()]

    def task_of(self, model: str) -> Task:
        """What the model is for, as its route or its first row says; `*` where neither does."""
        route = self.route(model)
        if route is None or route.task != ANY_TASK:
            return ANY_TASK if route is None else route.task
        return next((each.row.task for each in route.deployments if each.row.task != ANY_TASK), ANY_TASK)

    def find(self, model: str, task: Task, dialect: str) -> Found | None:
        """The route of an id as the caller wrote it, or None where nobody knows it. Kept, bounded."""
        key = (model, task, dialect)
        try:
            return self._found[key]
        except KeyError:
            route = self.route(model)
            found = None if route is None else self._candidates(route, task, dialect)
            if len(self._found) >= 4096:
                self._found.clear()
            self._found[key] = found
            return found

    def route(self, model: str) -> Route | None:
        """Exact, case-folded, suffixed, wildcard, then `upstream/id` (DECISIONS, "Ids")."""
        known = self._known(model)
        if known is not None:
            return known
        base, colon, suffix = model.rpartition(":")
        if colon and base:
            suffixed = self._suffixed(base, suffix)
            if suffixed is not None:
                return suffixed
        wild = self._wild(model)
        if wild is not None:
            return wild
        place, slash, rest = model.partition("/")
        if slash and rest and place in self.places:
            return self._pinned(rest, (place,))
        return None

    def _wild(self, model: str) -> Route | None:
        for pattern, route in self.wildcards:
            if fnmatch.fnmatchcase(model, pattern):
                deployments = tuple(self._filled(each, model) for each in route.deployments)
                return replace(route, model=model, deployments=deployments)
        return None

    def _known(self, model: str) -> Route | None:
        name = (
            model
            if model in self.routes or model in self.aliases or self._listed(model)
            else self._folded.get(model.casefold())
        )
        if name is None:
            return None
        for _ in range(8):  # an alias of an alias; rings are refused at load
            if name not in self.aliases:
                break
            name = self.aliases[name]
        else:
            return None
        route = self.routes.get(name)
        if route is not None:
            return route
        deployments = self._listed(name)
        if deployments:
            return Route(name, deployments)
        return self.route(name) if name != model else None

    def _listed(self, model: str) -> tuple[Deployment, ...]:
        """Deployments by row or discovery: local ones first, then the order of the file."""
        found: list[Deployment] = []
        for place in sorted(self.places.values(), key=lambda each: not each.local):
            row = self.rows.get(place.name, {}).get(model)
            if row is not None:
                found.append(_deployment(place.name, row, model))
            elif model in self.discovered.get(place.name, ()):
                found.append(Deployment(place.name, model, Row(model, self.purposes.get(place.name, ANY_TASK))))
        return tuple(found)

    def _suffixed(self, base: str, suffix: str) -> Route | None:
        if suffix in ("fastest", "cheapest", "preferred"):
            route = self._known(base)
            policy: Policy = "ordered" if suffix == "preferred" else "fastest" if suffix == "fastest" else "cheapest"
            return None if route is None else replace(route, policy=policy)
        if suffix in self.places:
            return self._pinned(base, (suffix,))
        places = tuple(place.name for place in self.places.values() if place.provider.name == suffix)
        return self._pinned(base, places) if places else None

    def _pinned(self, base: str, places: Sequence[str]) -> Route:
        """A model at named places: as routed there, else by their rows, else as it was written. Its limits go
        with it, wherever and under whichever of its names it is asked for.
        """
        route = self._known(base) or self._wild(base)
        kept = tuple(each for each in route.deployments if each.upstream in places) if route is not None else ()
        if route is not None and kept:
            return replace(route, deployments=kept, pinned=True)
        model, bounds = (route.model, route.bounds) if route is not None else (base, ())
        deployments = tuple(self._at(place, model) for place in places)
        owners = (self._routed(each.upstream, each.provider_id) for each in deployments)
        bounds += tuple(bound for owner in owners if owner is not None for bound in owner[0].bounds)
        return Route(model, deployments, pinned=True, bounds=tuple(dict.fromkeys(bounds)))

    def _at(self, place: str, model: str) -> Deployment:
        """A model at a place, by the Hub's id or the place's own: one that is known there costs what it does there."""
        if model not in self.rows.get(place, {}):
            routed = self._routed(place, model)
            if routed is not None:
                return routed[1]
            row = self._row(place, model)
            if row is not None:
                return _deployment(place, row[1], row[0])
        return self._filled(Deployment(place, "", Row("")), model)

    def names(self, route: Route) -> tuple[str, ...]:
        """The ids that a route's model goes by: at a named place it may be written with the place's own."""
        places = route.deployments if route.pinned else ()
        others = (self.named(each.upstream, route.model) for each in places)
        return (route.model, *dict.fromkeys(each for each in others if each is not None and each != route.model))

    def bounds(self, route: Route) -> tuple[Bound, ...]:
        """What limits the model, under whichever of its names it was asked for."""
        return route.bounds

    def _filled(self, deployment: Deployment, model: str) -> Deployment:
        """A deployment without an id of its own takes the row's, else the model's."""
        if deployment.provider_id:
            return replace(deployment, model=model)
        row = self.rows.get(deployment.upstream, {}).get(model) or Row(model)
        return replace(
            deployment,
            provider_id=row.id,
            row=row,
            context=deployment.context or row.context,
            fim=deployment.fim or row.fim,
            can=deployment.can or row.can,
            model=model,
        )

    def _candidates(self, route: Route, task: Task, dialect: str) -> Found:
        candidates: list[Candidate] = []
        dropped: list[Drop] = []
        for deployment in route.deployments:
            place = self.places.get(deployment.upstream)
            reason = "its upstream is switched off" if place is None else self._unfit(route, deployment, place, task)
            purpose = route.task if route.task != ANY_TASK else deployment.row.task
            ways = () if reason or place is None else _ways(place.provider, task, dialect, purpose)
            if ways and place is not None:
                used_dialect, used_task = ways
                adapter = place.provider.adapters[used_task, used_dialect]
                relayed = (used_dialect, used_task) == (dialect, task)
                exchanged = not relayed and (task not in _TEXT or used_dialect != "openai")
                made = Candidate(deployment, place.provider, adapter, used_dialect, used_task, exchanged, place.local)
                candidates.append(made)
            else:
                other = place is not None and task in place.provider.tasks()
                lacks = f"its provider takes {task} in another shape alone" if other else f"its provider has no {task}"
                dropped.append(Drop(deployment.name, reason or lacks))
        known = (each for each in self.names(route) if each.isprintable() and self._known(each) is not None)
        wild = (pattern for pattern, _ in self.wildcards if fnmatch.fnmatchcase(route.model, pattern))
        return Found(Plan(route, tuple(candidates), tuple(dropped)), next(known, next(wild, "other")))

    def _unfit(self, route: Route, deployment: Deployment, place: Place, task: Task) -> str:
        if place.name in self.silent:
            return "its upstream does not answer"
        if deployment.row.status == "error":
            return "its table row says that it is down"
        for wanted in (route.task, deployment.row.task):
            if wanted not in (ANY_TASK, task) and task not in SERVES.get(wanted, frozenset()):
                return f"it serves {wanted}, not {task}"
        return ""

    def with_live(
        self,
        discovered: Mapping[str, tuple[str, ...]],
        silent: frozenset[str],
        purposes: Mapping[str, Task] = MappingProxyType({}),
    ) -> "Table":
        return Table(self.places, self.routes, self.wildcards, self.aliases, self.rows, discovered, silent, purposes)


def _ways(provider: Provider, task: Task, dialect: str, purpose: Task) -> tuple[str, Task] | tuple[()]:
    """How a provider can be spoken to: in the caller's dialect, else in another that the task can be put into. A model
    whose `purpose` stands in for the task is asked for what it is for.
    """
    kin = KIN.get(task, ())
    tasks = (purpose,) if purpose in kin else (task, *kin)
    if (task, dialect) in provider.adapters and tasks[0] == task:
        return dialect, task
    if task == spec.TEXT_GENERATION:
        for other in (spec.TEXT_GENERATION, spec.CONVERSATIONAL):
            if (other, "openai") in provider.adapters:
                return "openai", other
    if task not in DIALECTS[dialect].tasks:
        return ()
    for wanted in tasks:
        if (wanted, spec.OWN) in provider.adapters:
            return spec.OWN, wanted
        for name, other_dialect in DIALECTS.items():
            if (wanted, name) in provider.adapters and wanted in other_dialect.tasks:
                return name, wanted
    return ()


# Tasks that another one can stand in for, nearest first (router/crossing.py does the arithmetic).
KIN: Final[Mapping[Task, tuple[Task, ...]]] = {
    spec.TEXT_RANKING: (spec.SENTENCE_SIMILARITY, spec.FEATURE_EXTRACTION),
    spec.SENTENCE_SIMILARITY: (spec.FEATURE_EXTRACTION,),
    spec.TEXT_TO_AUDIO: (spec.TEXT_TO_SPEECH,),
    spec.TEXT_TO_SPEECH: (spec.TEXT_TO_AUDIO,),
}
_TEXT: Final = frozenset({spec.CONVERSATIONAL, spec.TEXT_GENERATION, spec.RESPONSES})  # streams, in OpenAI's form


def build(
    places: Sequence[Place],
    models: Mapping[str, RouteSettings],
    tables: Mapping[str, Rows],
) -> Table:
    """Places in the order of the file, the file's explicit routes, and each provider's rows → the table."""
    rows = {place.name: tables.get(place.provider.name, {}) for place in places}
    bare = Table({place.name: place for place in places}, {}, (), {}, rows)
    routes: dict[str, Route] = {}
    wildcards: list[tuple[str, Route]] = []
    aliases: dict[str, str] = {}
    for model, settings in models.items():
        if settings.alias:
            aliases[model] = settings.alias
            continue
        route = _route(bare, model, settings)
        if "*" in model:
            wildcards.append((model, route))
        else:
            routes[model] = route
    return Table(bare.places, routes, tuple(wildcards), aliases, rows)


def _route(bare: Table, model: str, settings: RouteSettings) -> Route:
    deployments: list[Deployment] = []
    for each in settings.deployments:
        row = bare.rows.get(each.upstream, {}).get(model) or Row(each.provider_id or model)
        fim = Fim(**each.fim.model_dump()) if each.fim is not None else row.fim
        can = row.can if each.can is None else frozenset(each.can)
        price = each.price.model_dump() if each.price is not None else {}
        made = Deployment(each.upstream, each.provider_id, row, each.weight, each.context, fim, can, price=price)
        deployments.append(made if "*" in model else bare._filled(made, model))
    return Route(
        model,
        tuple(deployments),
        settings.policy,
        settings.task,
        settings.echo_model,
        splice=settings.splice,
        cache=settings.cache,
        spill=settings.spill,
        bounds=bounds_of("model", model, settings.limits),
    )


def _deployment(upstream: str, row: Row, model: str) -> Deployment:
    return Deployment(upstream, row.id, row, context=row.context, fim=row.fim, can=row.can, model=model)
