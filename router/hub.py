"""What callers may ask of models without using one: `/v1/models`, the Hub's look-ups, the Serverless API's states.

Official clients ask the Hub about a model before they ask the model, and send no key with that (huggingface_hub 2.4,
`_fetch_inference_provider_mapping`). So one named model is told of to everyone (who serves it is no secret), with the
rights of the caller's key where one of ours came with it. Whatever other credential comes, most likely one for the Hub
itself, counts as none. What lists models takes a key, where callers need one; then `/api/tasks` tells everybody else of
the default models alone.
"""

import base64
import urllib.parse
from asyncio import get_running_loop
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from providers import spec
from providers.dialects import DIALECTS
from providers.spec import Dialect, Fault
from router import catalog_view, hub_view, live
from router.doorman import Doorman
from router.errors import Refused, bad_request, not_found, unauthorized
from router.health import Figures
from router.keys import ANONYMOUS, Identity
from router.outgoing import Upstream
from router.routing import Table

_OPENAI: Final = DIALECTS["openai"]
_HF: Final = DIALECTS["huggingface"]
_TGI: Final = DIALECTS["tgi"]

Answer = Callable[[Request], Response]


class Shown(Protocol):
    """What callers see of the app. `measured`: a deployment's figures; `resting`: names that are left alone."""

    version: str

    @property
    def doorman(self) -> Doorman: ...
    @property
    def table(self) -> Table: ...
    @property
    def upstreams(self) -> Mapping[str, Upstream]: ...
    @property
    def default_models(self) -> Mapping[str, str]: ...
    def resting(self, now: float) -> Collection[str]: ...
    def measured(self, name: str) -> Figures | None: ...


class Hub:
    def __init__(self, shown: Shown, unknown: Answer) -> None:
        self._shown = shown
        self._unknown = unknown

    def routes(self) -> list[Route]:
        """Behind those that are more exact: `/models/{id}` takes every path below it."""
        return [
            Route("/v1/models", self._worded(_OPENAI, self._models)),
            Route("/v1/models/{id:path}", self._worded(_OPENAI, self._model)),
            Route("/api/models", self._worded(_HF, self._page)),
            Route("/api/models/{id:path}", self._worded(_HF, self._look_up)),
            Route("/api/tasks", self._worded(_HF, self._tasks)),
            Route("/api/whoami-v2", self._worded(_HF, self._whoami)),
            Route("/status/{id:path}", self._worded(_HF, self._status)),
            Route("/framework/{name}", self._worded(_HF, self._framework)),
            Route("/models/{id:path}", self._below),
            Route("/tgi/{id:path}", self._below),
            Route("/info", self._default_info),
        ]

    async def _meet(self, request: Request) -> None:
        """Who asks, before anything else: somebody may have to be asked about it."""
        try:
            request.state.caller = await self._shown.doorman.identify(request.scope["headers"])
        except Refused as refused:
            request.state.caller = refused

    def _identified(self, request: Request) -> Identity:
        caller: Identity | Refused = request.state.caller
        if isinstance(caller, Refused):
            raise caller
        return caller

    def _anyone(self, request: Request) -> Identity:
        """Whose key it is, or nobody in particular."""
        try:
            return self._identified(request)
        except Refused as refused:
            if refused.fault.status not in (401, 403, 503):
                raise
            return Identity(ANONYMOUS)

    # The Hub's router

    def _models(self, request: Request) -> Response:
        return _json(catalog_view.listed(self._shown.table, self._identified(request), self._shown.measured))

    def _model(self, request: Request) -> Response:
        return _json(self._entry(request, request.path_params["id"]))

    def _entry(self, request: Request, model: str) -> dict[str, Any]:
        shown = self._shown
        entry = catalog_view.entry(shown.table, self._identified(request), model, shown.measured)
        if entry is None:
            raise not_found(f"Model {model} does not exist", "model", "model_not_found")
        return entry

    # The Hub

    def _look_up(self, request: Request) -> Response:
        model = hub_view.find(self._shown.table, self._anyone(request), request.path_params["id"])
        if model is None:
            words = "Repository not found"
            return _json({"error": words}, 404, {"x-error-code": "RepoNotFound", "x-error-message": words})
        return _json(hub_view.info(model, _values(request, "expand")))

    def _page(self, request: Request) -> Response:
        identity = self._identified(request)
        query = _query(request)
        models, last = hub_view.page(hub_view.models(self._shown.table, identity), query)
        expand = _values(request, "expand")
        headers = {"link": f'<{_next(request, last)}>; rel="next"'} if last else {}
        return _json([hub_view.listed(each, expand) for each in models], headers=headers)

    def _tasks(self, request: Request) -> Response:
        table = self._shown.table
        try:
            found = hub_view.models(table, self._identified(request))
        except Refused as refused:
            if refused.fault.status != 401:
                raise
            found = []
        return _json(hub_view.tasks(found, self._shown.default_models))

    def _whoami(self, request: Request) -> Response:
        told = hub_view.whoami(self._identified(request))
        if told is None:
            raise unauthorized()
        return _json(told)

    # The Serverless API

    def _status(self, request: Request) -> Response:
        name = request.path_params["id"]
        model = hub_view.find(self._shown.table, self._anyone(request), name)
        if model is None:
            raise not_found(f"Model {name} does not exist")
        return _json(hub_view.status(model, self._shown.resting(get_running_loop().time())))

    def _framework(self, request: Request) -> Response:
        models = hub_view.models(self._shown.table, self._identified(request))
        return _json(hub_view.of_framework(models, request.path_params["name"]))

    def _worded(self, dialect: Dialect, answer: Answer) -> Callable[[Request], Any]:
        """An answer whose refusals are worded in a dialect."""

        async def worded(request: Request) -> Response:
            try:
                await self._meet(request)
                return answer(request)
            except Refused as refused:
                return refusal(dialect, refused.fault)

        return worded

    # TGI

    async def _below(self, request: Request) -> Response:
        """GET below a model: `/info`, `/health` and `/`."""
        await self._meet(request)
        model, _, last = request.path_params["id"].rpartition("/")
        if last not in ("info", "health"):
            model, last = request.path_params["id"].rstrip("/"), "health"
        return await self._about(request, model, last)

    async def _default_info(self, request: Request) -> Response:
        await self._meet(request)
        model = self._shown.default_models.get(spec.TEXT_GENERATION, "")
        return await self._about(request, model, "info") if model else self._unknown(request)

    async def _about(self, request: Request, model: str, what: str) -> Response:
        try:
            entry = self._entry(request, model)
        except Refused as refused:
            return refusal(_TGI, refused.fault)
        if what == "health":
            return Response(status_code=200)
        for place in entry["providers"]:
            upstream = self._shown.upstreams[place["provider"]]
            if upstream.provider.name in ("tgi", "sandbox"):
                info = await live.get(upstream, "/info")
                if isinstance(info, dict):
                    return _json({**info, "model_id": model})
        contexts = [place["context_length"] for place in entry["providers"] if "context_length" in place]
        limits = {"max_input_tokens": max(contexts), "max_total_tokens": max(contexts)} if contexts else {}
        made = {"model_id": model, "model_pipeline_tag": "text-generation", "router": "inference-router"}
        return _json({**made, "version": self._shown.version, **limits})


def refusal(dialect: Dialect, fault: Fault) -> Response:
    after = {} if fault.retry_after is None else {"retry-after": str(max(1, round(fault.retry_after)))}
    return Response(dialect.fault(fault), fault.status, after, "application/json")


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, "application/json")


def _values(request: Request, name: str) -> frozenset[str]:
    """What stands under a name: Python repeats it, JavaScript adds brackets to it, people write commas."""
    params = request.query_params
    return frozenset(
        part for each in (*params.getlist(name), *params.getlist(f"{name}[]")) for part in each.split(",") if part
    )


def _query(request: Request) -> hub_view.Query:
    params = request.query_params
    providers = _values(request, "inference_provider")
    limit = params.get("limit", str(hub_view.MOST))
    if not (limit.isascii() and limit.isdigit() and len(limit) < 10):
        raise bad_request('The parameter "limit" must be a number.', "limit")
    return hub_view.Query(
        providers=providers if "all" not in providers else frozenset(),
        pipeline_tag=params.get("pipeline_tag", ""),
        tags=tuple(_values(request, "filter")),
        search=params.get("search", ""),
        author=params.get("author", ""),
        warm=params.get("inference") == "warm",
        limit=max(1, min(int(limit), hub_view.MOST)),
        after=_after(params.get("cursor", "")),
    )


def _after(cursor: str) -> str:
    try:
        return base64.b64decode(cursor, b"-_", validate=True).decode()
    except ValueError:
        raise bad_request('The parameter "cursor" is none that was given out.', "cursor") from None


def _next(request: Request, last: str) -> str:
    """The same question about what stands behind `last`. Whole, as clients do not complete it."""
    cursor = base64.urlsafe_b64encode(last.encode()).decode()
    asked = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    scheme = "https" if request.headers.get("x-forwarded-proto") == "https" else request.url.scheme
    query = urllib.parse.urlencode([*asked, ("cursor", cursor)])
    return f"{scheme}://{request.url.netloc}{request.url.path}?{query}"
