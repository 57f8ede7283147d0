"""What the Hub says of models, said of ours: the answers of its look-ups, in its words. Pure: a table → JSON data.

Clients know the Hub's providers alone. A deployment at one of those is shown under that name, with the provider's own
id, since a client then comes back by `/{provider}/…`. Every other place (a server of yours, one that speaks OpenAI's
API, the Hub's router) is shown as `hf-inference` with the Hub's id: clients come back by `/hf-inference/models/{id}`,
where the router chooses. Clients take the first entry where nobody told them which, so the order is ours.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from providers import spec
from providers.spec import ANY_TASK, Task
from router.keys import ANONYMOUS, Identity
from router.routing import Deployment, Route, Table

OURS: Final = "hf-inference"
PROVIDERS: Final = frozenset(
    {
        "baseten", "black-forest-labs", "cerebras", "clarifai", "cohere", "deepinfra", "fal-ai", "featherless-ai",
        "fireworks-ai", "groq", "hyperbolic", "nebius", "novita", "nscale", "nvidia", "ovhcloud", "publicai",
        "replicate", "sambanova", "scaleway", "together", "wavespeed", "zai-org",
    }
)  # fmt: skip
MOST: Final = 1000  # models on a page
SHOWN: Final = 10  # models of a task

# What the Hub tags a model with that does this, where its word is another.
_PIPELINES: Final[Mapping[Task, Task]] = {
    spec.CONVERSATIONAL: spec.TEXT_GENERATION,
    spec.RESPONSES: spec.TEXT_GENERATION,
    spec.TOKENIZE: spec.TEXT_GENERATION,
    spec.MODERATION: "text-classification",
    spec.SPEECH_TRANSLATION: spec.SPEECH_RECOGNITION,
}
_EMBEDS: Final = (spec.FEATURE_EXTRACTION, spec.SENTENCE_SIMILARITY)  # clients ask such a model for either
_PAINTS: Final = frozenset(
    {spec.TEXT_TO_IMAGE, spec.IMAGE_TO_IMAGE, spec.TEXT_TO_VIDEO, spec.IMAGE_TO_VIDEO, "image-text-to-image"}
)
_LIKELY: Final = (spec.CONVERSATIONAL, spec.TEXT_GENERATION, spec.FEATURE_EXTRACTION)  # of a model nobody describes


@dataclass(frozen=True, slots=True)
class Model:
    """A model as the Hub would know it. `places`: those that answer, in the order in which they are tried."""

    id: str
    route: Route
    places: tuple[Deployment, ...]
    mapping: dict[str, dict[str, Any]]
    task: Task  # as a mapping has it: what can be chatted with is `conversational`

    @property
    def pipeline_tag(self) -> Task:
        if self.task == spec.CONVERSATIONAL and any("vision" in each.can for each in self.places):
            return "image-text-to-text"
        return _PIPELINES.get(self.task, self.task)

    @property
    def tags(self) -> list[str]:
        tags = [self.pipeline_tag]
        if self.task == spec.CONVERSATIONAL:
            tags.append(spec.CONVERSATIONAL)
        return tags + [each for each in _EMBEDS if self.task in _EMBEDS and each not in tags]

    @property
    def warm(self) -> bool:
        return any(each.row.status == "live" for each in self.places)


def find(table: Table, identity: Identity, name: str) -> Model | None:
    """None where nobody has it, or this caller may not use it. A place or a suffix in an id is nothing to the Hub."""
    route = table.route(name)
    if route is None or route.pinned or not identity.allows(route.model):
        return None
    places = tuple(each for each in route.deployments if each.upstream in table.places)
    answering = tuple(each for each in places if each.upstream not in table.silent)
    mapping: dict[str, dict[str, Any]] = {}
    for each in answering:
        provider = slug(table, each)
        mapping.setdefault(provider, _entry(table, route, each, provider))
    task = next((each["task"] for each in mapping.values()), _task(table, route, places[0]) if places else ANY_TASK)
    return Model(route.model, route, answering, mapping, task) if places else None


def slug(table: Table, deployment: Deployment) -> str:
    """The Hub's name of who serves it."""
    name = table.places[deployment.upstream].provider.name
    return name if name in PROVIDERS else OURS


def _entry(table: Table, route: Route, deployment: Deployment, provider: str) -> dict[str, Any]:
    row = deployment.row
    entry: dict[str, Any] = {
        "status": row.status,
        "providerId": route.model if provider == OURS else deployment.provider_id,
        "task": _task(table, route, deployment),
        "isModelAuthor": False,
    }
    if row.adapter is not None and provider != OURS:
        entry["adapter"] = row.adapter
        if row.adapter_weights is not None:
            entry["adapterWeightsPath"] = row.adapter_weights
    return entry


def _task(table: Table, route: Route, deployment: Deployment) -> Task:
    """As the row says, or the route; where neither does, what such a server is mostly there for."""
    for known in (deployment.row.task, route.task):
        if known != ANY_TASK:
            return known
    tasks = table.places[deployment.upstream].provider.tasks()
    return next((each for each in _LIKELY if each in tasks), min(tasks, default=spec.TEXT_GENERATION))


# One model


def info(model: Model, expand: Collection[str] = ()) -> dict[str, Any]:
    """`GET /api/models/{id}`: the fields asked for, of those that we know; without any, all."""
    known: dict[str, Any] = {
        "pipeline_tag": model.pipeline_tag,
        "tags": model.tags,
        "inferenceProviderMapping": model.mapping,
        "inference": "warm" if model.warm else None,
        "author": model.id.partition("/")[0] if "/" in model.id else None,
        "private": False,
        "gated": False,
    }
    wanted = {name: each for name, each in known.items() if each is not None and (not expand or name in expand)}
    return {"_id": number(model.id), "id": model.id, "modelId": model.id, **wanted}


def number(name: str) -> str:
    """Like the Hub's ids of things, and always the same of one name."""
    return hashlib.sha256(name.encode()).hexdigest()[:24]


def status(model: Model, resting: Collection[str]) -> dict[str, Any]:
    """`GET /status/{id}`: whether it would answer now."""
    usable = [each for each in model.places if each.row.status != "error"]
    awake = any(each.name not in resting for each in usable)
    state = "Loaded" if awake else "Loadable" if usable else "error"
    kind = framework(model)
    return {"loaded": awake, "state": state, "compute_type": _compute(kind), "framework": kind}


def framework(model: Model) -> str:
    """What the Hub would run such a model with."""
    if model.task in (spec.CONVERSATIONAL, spec.TEXT_GENERATION, spec.RESPONSES):
        return "text-generation-inference"
    if model.task in _PAINTS:
        return "diffusers"
    return "sentence-transformers" if model.task in (*_EMBEDS, spec.TEXT_RANKING) else "transformers"


def _compute(kind: str) -> str:
    return "gpu" if kind in ("text-generation-inference", "diffusers") else "cpu"


# All of them


def models(table: Table, identity: Identity) -> Iterable[Model]:
    """Every model that somebody answers for, by id: pages neither repeat nor skip one while the table changes."""
    found: dict[str, Model] = {}
    for name in table.models():
        model = find(table, identity, name)
        if model is not None and model.places:
            found.setdefault(model.id, model)
    return (found[name] for name in sorted(found))


@dataclass(frozen=True, slots=True)
class Query:
    """`GET /api/models?…`. Empty: whatever it is."""

    providers: frozenset[str] = frozenset()  # any of them
    pipeline_tag: str = ""
    tags: tuple[str, ...] = ()  # all of them
    search: str = ""
    author: str = ""
    warm: bool = False
    limit: int = MOST
    after: str = ""  # the last id of the page before

    def takes(self, model: Model) -> bool:
        return (
            (not self.providers or not self.providers.isdisjoint(model.mapping))
            and self.pipeline_tag in ("", model.pipeline_tag)
            and set(self.tags) <= set(model.tags)
            and self.search.casefold() in model.id.casefold()
            and (not self.author or model.id.partition("/")[0].casefold() == self.author.casefold())
            and (not self.warm or model.warm)
        )


def page(found: Iterable[Model], query: Query) -> tuple[list[Model], str]:
    """A page of models, and the id behind which the next begins; empty where there is none."""
    chosen: list[Model] = []
    for model in found:
        if model.id > query.after and query.takes(model):
            if len(chosen) == query.limit:
                return chosen, chosen[-1].id
            chosen.append(model)
    return chosen, ""


def listed(model: Model, expand: Collection[str]) -> dict[str, Any]:
    """One row of the list. The mapping stands in it where it is asked for."""
    return info(model, expand or ("pipeline_tag", "tags", "inference", "private", "gated"))


def of_framework(found: Iterable[Model], name: str) -> list[dict[str, str]]:
    """`GET /framework/{name}`."""
    return [
        {"model_id": each.id, "task": each.pipeline_tag, "framework": name, "compute_type": _compute(name)}
        for each in found
        if framework(each) == name and each.warm
    ]


def tasks(found: Iterable[Model], defaults: Mapping[Task, str]) -> dict[str, Any]:
    """`GET /api/tasks`: which model a client takes for a task that was named alone. The defaults come first."""
    named: dict[Task, dict[str, None]] = {}
    for task, default in defaults.items():
        for each in {task: None, _PIPELINES.get(task, task): None}:
            named.setdefault(each, {})[default] = None
    for model in found:
        for task in {model.task: None, model.pipeline_tag: None}:
            if len(shown := named.setdefault(task, {})) < SHOWN:
                shown[model.id] = None
    return {
        task: {"id": task, "widgetModels": list(ids), "models": [{"id": each} for each in ids]}
        for task, ids in named.items()
    }


def whoami(identity: Identity) -> dict[str, Any] | None:
    """`GET /api/whoami-v2`: the tenant as the Hub's user; None for a caller without a key of ours."""
    if identity.tenant == ANONYMOUS:
        return None
    token = {
        "displayName": identity.tenant,
        "role": "fineGrained",  # it opens inference, and nothing else
        "fineGrained": {"canReadGatedRepos": False, "global": ["inference.serverless.write"], "scoped": []},
    }
    return {
        "type": "user",
        "id": number(identity.tenant),
        "name": identity.tenant,
        "fullname": identity.tenant,
        "isPro": identity.plan == "pro",
        "canPay": False,
        "orgs": [{"type": "org", "id": number(org), "name": org, "fullname": org} for org in sorted(identity.orgs)],
        "auth": {"type": "access_token", "accessToken": token},
    }
