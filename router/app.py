"""The composition root: a loaded configuration → parts → an ASGI app, opened and closed by its lifespan.

Requests for models take the short way: found by path before Starlette is entered. Everything else is ordinary routes.
`/metrics` answers loopback callers and bearers of the admin key and is a 404 to everyone else (DECISIONS, "Loopback").
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib import metadata
from typing import Any, Final, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import providers
from providers import spec
from providers.dialects import DIALECTS
from providers.spec import Dialect, Fault
from router import catalog_view, config, endpoints, live
from router.attempts import Walker
from router.caller import AsgiCaller, Caller
from router.config import Loaded
from router.errors import Refused, not_found
from router.health import Resting
from router.keys import Identity, KeyPool, Keyring
from router.live import Live
from router.metrics import Metrics, exposition
from router.outgoing import Upstream
from router.pipeline import Pipeline
from router.recorder import Recorder
from router.sandbox import Sandbox
from router.secrets import Scrubber
from router.siblings import Siblings

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
_FORWARDED: Final = frozenset({b"forwarded", b"via", b"origin"})

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Turn(Caller, Protocol):
    """A request on our own server."""

    method: bytes

    def path(self) -> str: ...


class Router:
    """The ASGI app. `drain` turns readiness to 503; what runs goes on."""

    def __init__(self, loaded: Loaded, siblings: Siblings | None = None) -> None:
        self._loaded = loaded
        self._siblings = siblings or Siblings(None, 0, 1)
        self._draining = False
        self._generation = 1
        settings = loaded.config
        self._metrics = Metrics()
        self._resting = Resting()
        self._keyring = Keyring(settings.auth, settings.plans, settings.virtual_keys)
        log = sys.stdout.buffer if settings.telemetry.log == "json" else None
        self._scrubber = Scrubber(config.secrets_of(settings))
        self._recorder = Recorder(self._metrics, log)
        self._pipeline: Pipeline | None = None
        self._upstreams: dict[str, Upstream] = {}
        self._starlette = Starlette(
            routes=[
                Route("/health", self._health),
                Route("/health/liveness", self._alive),
                Route("/healthz", self._alive),
                Route("/health/readiness", self._ready),
                Route("/readyz", self._ready),
                Route("/metrics", self._show_metrics),
                Route("/v1/models", self._models),
                Route("/v1/models/{id:path}", self._model),
                Route("/models/{id:path}", self._below),
                Route("/tgi/{id:path}", self._below),
                Route("/info", self._default_info),
                Route("/v1/messages", self._not_here, methods=["GET", "POST"]),
                Route("/", self._root),
            ],
            exception_handlers={404: _unknown_path, 405: _wrong_method},
            lifespan=self._lifespan,
        )
        self.operators = Starlette(  # on a port of their own, that only they can reach
            routes=[
                Route("/health", self._health),
                Route("/health/liveness", self._alive),
                Route("/health/readiness", self._ready),
                Route("/metrics", self._metrics_now),
            ],
            exception_handlers={404: _unknown_path, 405: _wrong_method},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            found = endpoints.find(scope["path"])
            if found is not None and self._pipeline is not None:
                caller = AsgiCaller(scope, receive, send)
                try:
                    await self._pipeline.serve(caller, *found)
                finally:
                    caller.close()
                return
        await self._starlette(scope, receive, send)

    def short_way(self, turn: Turn) -> Awaitable[None] | None:
        """What our own server asks first: requests for models need no ASGI."""
        if turn.method != b"POST" or self._pipeline is None:
            return None
        found = endpoints.find(turn.path())
        return None if found is None else self._pipeline.serve(turn, *found)

    def drain(self) -> None:
        self._draining = True

    def lifespan(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Opened and closed, for who serves it without a server."""
        return self._lifespan(self._starlette)

    @property
    def upstreams(self) -> Mapping[str, Upstream]:
        """By name, once it is open."""
        return self._upstreams

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        settings = self._loaded.config
        async with contextlib.AsyncExitStack() as stack:
            sandbox: Sandbox | None = None
            upstreams: dict[str, Upstream] = {}
            for name, each in settings.upstreams.items():
                provider = providers.find(each.provider)
                assert provider is not None, "checked at load"
                base_url = each.base_url or provider.base_url or ""
                if provider.name == "sandbox" and not base_url:
                    if sandbox is None:
                        sandbox = Sandbox()
                        await sandbox.open()
                        stack.push_async_callback(sandbox.close)
                    base_url = sandbox.base_url
                upstreams[name] = Upstream(
                    name, provider, each, KeyPool(name, tuple(each.keys), self._resting), base_url
                )
                stack.push_async_callback(upstreams[name].pool.close)
            pipeline = Pipeline(
                table=config.table_of(self._loaded),
                keyring=self._keyring,
                walker=Walker(upstreams, self._resting, settings.retry, self._scrubber),
                recorder=self._recorder,
                resting=self._resting,
                max_body=settings.server.max_body,
                max_upload=settings.server.max_upload,
                default_models=settings.default_models,
                scrubber=self._scrubber,
            )

            def swap(table: Any) -> None:
                pipeline.table = table

            following = Live(upstreams, lambda: pipeline.table, swap)
            pipeline.table = pipeline.table.with_live(pipeline.table.discovered, following.silent())
            self._upstreams = upstreams
            pipeline.open()
            self._pipeline = pipeline
            self._recorder.open()
            stack.callback(self._recorder.close)
            await self._siblings.open(lambda _: self._snapshot())
            stack.push_async_callback(following.close)
            await following.open()
            yield
            await self._siblings.close()

    # Operators

    async def _alive(self, _: Request) -> Response:
        return _json({"status": "ok"})

    async def _ready(self, _: Request) -> Response:
        return _json({"status": "draining"}, 503) if self._draining else _json({"status": "ready"})

    async def _health(self, request: Request) -> Response:
        return await self._ready(request)

    async def _root(self, _: Request) -> Response:
        return _json({"ok": "ok"})

    async def _show_metrics(self, request: Request) -> Response:
        if not self._loaded.config.telemetry.metrics or not self._is_operator(request):
            return _unknown(request)
        return await self._metrics_now(request)

    async def _metrics_now(self, _: Request) -> Response:
        others = await self._siblings.ask_all("metrics")
        text = exposition([self._snapshot(), *others], version())
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    def _snapshot(self) -> bytes:
        resting = self._resting.resting(asyncio.get_running_loop().time())
        return self._metrics.snapshot(self._generation, [_rest_labels(name) for name in resting])

    def _is_operator(self, request: Request) -> bool:
        headers = request.scope["headers"]
        if self._keyring.is_admin(headers):
            return True
        client = request.scope.get("client")
        host = request.headers.get("host", "").rsplit(":", 1)[0].strip("[]")
        forwarded = any(name in _FORWARDED or name.startswith(b"x-forwarded") for name, _ in headers)
        trusted = not self._loaded.config.server.trusted_proxies
        near = client is not None and client[0] in _LOOPBACK and host in {*_LOOPBACK, "localhost"}
        return near and not forwarded and trusted

    # Callers

    async def _models(self, request: Request) -> Response:
        return await self._for_callers(request, lambda who, table: catalog_view.listed(table, who))

    async def _model(self, request: Request) -> Response:
        model = request.path_params["id"]
        return await self._for_callers(request, lambda who, table: _found(catalog_view.entry(table, who, model), model))

    async def _for_callers(self, request: Request, view: Callable[[Identity, Any], Any]) -> Response:
        assert self._pipeline is not None
        try:
            return _json(view(self._keyring.identify(request.scope["headers"]), self._pipeline.table))
        except Refused as refused:
            return _refusal(DIALECTS["openai"], refused.fault)

    async def _below(self, request: Request) -> Response:
        """GET below a model: TGI's `/info`, `/health` and `/`."""
        model, _, last = request.path_params["id"].rpartition("/")
        if last not in ("info", "health"):
            model, last = request.path_params["id"].rstrip("/"), "health"
        return await self._about(request, model, last)

    async def _default_info(self, request: Request) -> Response:
        model = self._loaded.config.default_models.get(spec.TEXT_GENERATION, "")
        return await self._about(request, model, "info") if model else _unknown(request)

    async def _about(self, request: Request, model: str, what: str) -> Response:
        assert self._pipeline is not None
        try:
            identity = self._keyring.identify(request.scope["headers"])
            entry = _found(catalog_view.entry(self._pipeline.table, identity, model), model)
        except Refused as refused:
            return _refusal(DIALECTS["tgi"], refused.fault)
        if what == "health":
            return Response(status_code=200)
        for place in entry["providers"]:
            upstream = self._upstreams[place["provider"]]
            if upstream.provider.name in ("tgi", "sandbox"):
                info = await live.get(upstream, "/info")
                if isinstance(info, dict):
                    return _json({**info, "model_id": model})
        contexts = [place["context_length"] for place in entry["providers"] if "context_length" in place]
        info = {
            "model_id": model,
            "model_pipeline_tag": "text-generation",
            "router": "inference-router",
            "version": version(),
        }
        return _json(
            info | ({"max_input_tokens": max(contexts), "max_total_tokens": max(contexts)} if contexts else {})
        )

    async def _not_here(self, request: Request) -> Response:
        fault = Fault(404, "not_supported", f"{request.scope['path']} is reserved and not served by this version.")
        return _refusal(DIALECTS["openai"], fault)


def _found(entry: dict[str, Any] | None, model: str) -> dict[str, Any]:
    if entry is None:
        raise not_found(f"Model {model} does not exist", "model", "model_not_found")
    return entry


def _rest_labels(name: str) -> tuple[str, str]:
    """`upstream/…digest` of a key, `upstream/id` of a deployment → upstream, key (empty for a deployment)."""
    upstream, _, rest = name.partition("/")
    return upstream, rest if rest.startswith("…") else ""


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _refusal(dialect: Dialect, fault: Fault) -> Response:
    return Response(dialect.fault(fault), fault.status, media_type="application/json")


def _unknown(request: Request) -> Response:
    path = request.scope["path"][:256]
    dialect = DIALECTS["openai" if path.startswith("/v1") else "huggingface"]
    return _refusal(dialect, Fault(404, "not_found", f"There is no {request.method} {path}"))


async def _unknown_path(request: Request, _: Exception) -> Response:
    return _unknown(request)


async def _wrong_method(request: Request, _: Exception) -> Response:
    return _refusal(DIALECTS["openai"], Fault(405, "method_not_allowed", f"{request.method} is not for this path."))


def version() -> str:
    try:
        return metadata.version("inference-router")
    except metadata.PackageNotFoundError:
        return "0"


def _from_environment() -> Router:
    """For those who bring their own ASGI server: `uvicorn router.app:app`, configured as `serve` finds it."""
    return Router(config.load(None, os.environ))


def __getattr__(name: str) -> Router:
    if name == "app":
        return _from_environment()
    raise AttributeError(name)
