"""The composition root: a loaded configuration → parts → an ASGI app, opened and closed by its lifespan.

Requests for models take the short way: found by path before Starlette is entered. Everything else is ordinary routes.
The file is read again on SIGHUP, when it or a table changes, and on `POST /admin/reload`: checked whole and swapped at
once, or refused, and the old one goes on.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib import metadata
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from providers.dialects import DIALECTS
from providers.spec import Fault
from router import config, endpoints, rests, watch
from router.caller import AsgiCaller, Caller, headers_of
from router.config import ConfigFaults, Loaded
from router.doorman import Doorman
from router.health import Figures
from router.hub import Hub, refusal
from router.keys import Headers, Identity, Keyring
from router.keys_admin import KeysAdmin
from router.lasting import KEYS_CHANGED, Lasting
from router.operators import Operators, json_of
from router.outgoing import Upstream
from router.parts import Parts, needs_a_restart
from router.routing import Table
from router.sandbox import Sandbox
from router.siblings import Siblings
from router.usage_views import UsageViews
from router.views import Views

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Turn(Caller, Protocol):
    """A request on our own server."""

    method: bytes
    extra_lines: bytes

    def path(self) -> str: ...
    def query(self) -> str: ...


class Router:
    """The ASGI app. `drain` turns readiness to 503; what runs goes on. `again` reads the configuration anew."""

    def __init__(
        self, loaded: Loaded, siblings: Siblings | None = None, again: Callable[[], Loaded] | None = None
    ) -> None:
        self.version = version()
        self.draining = False
        self.generation = 1
        self._loaded = loaded
        self._again = again or (lambda: config.load(loaded.path, os.environ))
        self._siblings = siblings or Siblings(None, 0, 1)
        self._lasting = Lasting(loaded, self._siblings)
        self._metrics = self._lasting.metrics
        self._sandbox: Sandbox | None = None
        self._parts: Parts | None = None
        self._read: watch.Seen = {}  # the files as they were when they were read last
        self._reloading = asyncio.Lock()
        self._background: set[asyncio.Task[object]] = set()
        operators = self._operators = Operators(self, self._lasting.recorder, self._siblings, _unknown)
        self._usage = UsageViews(Views(self, self._lasting), operators.is_operator, _unknown)
        errors: Any = {404: _unknown_path, 405: _wrong_method}
        self._starlette = Starlette(
            routes=[
                *operators.routes(),
                *KeysAdmin(
                    self._lasting.stored,
                    lambda: self.parts.loaded.config,
                    operators.guarded,
                    changed=self._lasting.keys_changed,
                ).routes(),
                *self._usage.routes(),
                Route("/v1/messages", self._not_here, methods=["GET", "POST"]),
                Route("/", self._root),
                *Hub(self, _unknown).routes(),
            ],
            exception_handlers=errors,
            lifespan=self._lifespan,
        )
        self._starlette.router.redirect_slashes = False  # a redirect would tell what there is
        self.operators = Starlette(routes=operators.own_routes(), exception_handlers=errors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": headers_of(scope)}
            serve = self._served(AsgiCaller(scope, receive, send), scope) if self._parts is not None else None
            if serve is not None:
                await serve
                return
        await self._starlette(scope, receive, send)

    def _served(self, caller: AsgiCaller, scope: Scope) -> Awaitable[None] | None:
        """`short_way` on a server that is not ours."""
        assert self._parts is not None
        pipeline = self._parts.pipeline
        found = endpoints.find(scope["path"]) if scope["method"] == "POST" else None
        if found is not None:
            return caller.served(pipeline.serve(caller, *found))
        passage = pipeline.passthrough.find(scope["method"].encode(), scope["path"], scope["query_string"].decode())
        if passage is None:
            return None
        return caller.served(pipeline.serve(caller, endpoints.PASSED_THROUGH, "", passage))

    def short_way(self, turn: Turn) -> Awaitable[None] | None:
        """What our own server asks first: requests for models need no ASGI."""
        parts = self._parts
        if parts is None:
            return None
        if parts.cors is not None and b"origin" in turn.fields:
            turn.extra_lines = parts.cors.lines(turn.fields)
            if turn.method == b"OPTIONS" and turn.extra_lines:
                return turn.answer(204, parts.cors.preflight(turn.fields), b"")
        path = turn.path()
        found = endpoints.find(path) if turn.method == b"POST" else None
        if found is not None:
            return parts.pipeline.serve(turn, *found)
        passage = parts.pipeline.passthrough.find(turn.method, path, turn.query())
        return parts.pipeline.serve(turn, endpoints.PASSED_THROUGH, "", passage) if passage is not None else None

    def drain(self) -> None:
        self.draining = True

    def lifespan(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Opened and closed, for who serves it without a server."""
        return self._lifespan(self._starlette)

    @property
    def upstreams(self) -> Mapping[str, Upstream]:
        """By name, once it is open."""
        return self._parts.upstreams if self._parts is not None else {}

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        await self._lasting.open()
        self._parts = await self._make(await self._newest(), None)
        await self._siblings.open(self._told)
        self._in_background(watch.follow(self._files, self._changed, self._read))
        self._in_background(self._metrics.follow_lag())
        try:
            yield
        finally:
            for task in self._background:
                task.cancel()
            await asyncio.gather(*self._background, return_exceptions=True)
            self._usage.close()
            await self._siblings.close()
            await self._parts.close()
            if self._sandbox is not None:
                await self._sandbox.close()
            await self._lasting.close()

    async def _make(self, loaded: Loaded, before: Parts | None) -> Parts:
        named = any(each.provider == "sandbox" and not each.base_url for each in loaded.config.upstreams.values())
        if named and self._sandbox is None:
            self._sandbox = Sandbox()
            await self._sandbox.open()
        parts = Parts(loaded, self._lasting, self._sandbox.base_url if self._sandbox else "", before)
        await parts.open()
        return parts

    # Reload

    async def _newest(self) -> Loaded:
        """What was loaded, or the files as they are now where they were written since: by who started us, long ago."""
        self._read = watch.look(self._files())
        if not watch.newer(self._read, self._loaded.at):
            return self._loaded
        try:
            return await asyncio.to_thread(self._again)
        except ConfigFaults as faults:
            _say("the configuration has changed and was not read, the one before is in use:", *faults.faults)
            return self._loaded

    async def reload(self) -> list[str]:
        """Read the configuration again; its faults, none where it is in use from now on."""
        async with self._reloading:
            before = self._parts
            assert before is not None
            self._read = watch.look(self._files())
            try:
                loaded = await asyncio.to_thread(self._again)
            except ConfigFaults as faults:
                self._metrics.failed_reloads += 1
                _say("the configuration was not reloaded, the old one goes on:", *faults.faults)
                return list(faults.faults)
            self._parts = await self._make(loaded, before)
            self.generation += 1
            self._in_background(before.retire())
            _say(f"configuration {self.generation} is in use: {loaded.path}", *needs_a_restart(before.loaded, loaded))
            return []

    async def _changed(self) -> None:
        if watch.look(self._files()) != self._read:  # else somebody asked for it before it was seen
            await self.reload()

    def reload_soon(self) -> None:
        """For signals and siblings, which cannot wait."""
        self._in_background(self.reload())

    def _in_background(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _files(self) -> list[Any]:
        loaded = self._parts.loaded if self._parts is not None else self._loaded
        return [loaded.path, *config.table_files(loaded.config, loaded.path)]

    def _told(self, name: str) -> bytes:
        """What a sibling asks or says."""
        what, _, rest = name.partition(" ")
        if what == "reload":
            self.reload_soon()
            return b""
        if what == KEYS_CHANGED:
            self._lasting.look_at_keys()
            return b""
        if what == rests.WORD:
            self._lasting.rested(rest)
            return b""
        if what == "requests":
            return self._operators.last()
        return self._operators.one(rest) if what == "request" else self.snapshot()

    # What operators see

    @property
    def keyring(self) -> Keyring:
        assert self._parts is not None
        return self._parts.keyring

    async def who(self, headers: Headers) -> Identity:
        """Whose key it is. Raises Refused."""
        return await self.doorman.identify(headers)

    @property
    def doorman(self) -> Doorman:
        return self.parts.doorman

    @property
    def parts(self) -> Parts:
        assert self._parts is not None
        return self._parts

    @property
    def shows_metrics(self) -> bool:
        return self._parts is not None and self._parts.loaded.config.telemetry.metrics

    @property
    def behind_proxies(self) -> bool:
        return self._parts is None or bool(self._parts.loaded.config.server.trusted_proxies)

    def snapshot(self) -> bytes:
        now = asyncio.get_running_loop().time()
        lasting = self._lasting
        told = [*lasting.told(), *(self._parts.told(now) if self._parts is not None else ())]
        return self._metrics.snapshot(
            self.generation, lasting.resting.resting(now), list(lasting.limits.refused.items()), told
        )

    async def _root(self, _: Request) -> Response:
        return json_of({"ok": "ok"})

    # What callers see

    @property
    def table(self) -> Table:
        assert self._parts is not None
        return self._parts.pipeline.table

    @property
    def default_models(self) -> Mapping[str, str]:
        return self._parts.loaded.config.default_models if self._parts is not None else {}

    def resting(self, now: float) -> Mapping[str, float]:
        return self._lasting.resting.resting(now)

    def measured(self, name: str) -> Figures | None:
        return self._lasting.speeds.figures(name)

    async def _not_here(self, request: Request) -> Response:
        fault = Fault(404, "not_supported", f"{request.scope['path']} is reserved and not served by this version.")
        return refusal(DIALECTS["openai"], fault)


def _say(*lines: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write("\n".join([*lines, ""]))
        sys.stderr.flush()


def _unknown(request: Request) -> Response:
    path = request.scope["path"][:256]
    dialect = DIALECTS["openai" if path.startswith("/v1") else "huggingface"]
    return refusal(dialect, Fault(404, "not_found", f"There is no {request.method} {path}"))


async def _unknown_path(request: Request, _: Exception) -> Response:
    return _unknown(request)


async def _wrong_method(request: Request, _: Exception) -> Response:
    return refusal(DIALECTS["openai"], Fault(405, "method_not_allowed", f"{request.method} is not for this path."))


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
