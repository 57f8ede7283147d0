"""What operators ask: is it well, how much has it done, what became of that request, and read your file again.

On the main port these answer callers from loopback and bearers of the admin key and are a 404 to everyone else
(DECISIONS, "Loopback"); health answers all. With several workers any of them answers for all.
"""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.exposition import exposition
from router.keys import Keyring
from router.outgoing import Upstream
from router.recorder import Recorder
from router.siblings import Siblings

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
_FORWARDED: Final = frozenset({b"forwarded", b"via", b"origin"})
_SHOWN: Final = 100  # of the last requests


class Seen(Protocol):
    """What operators see of the app. `reload` gives the faults of the file; none where it is in use now."""

    version: str
    draining: bool
    generation: int

    @property
    def keyring(self) -> Keyring: ...
    @property
    def shows_metrics(self) -> bool: ...
    @property
    def behind_proxies(self) -> bool: ...
    @property
    def upstreams(self) -> Mapping[str, Upstream]: ...
    def snapshot(self) -> bytes: ...
    async def reload(self) -> list[str]: ...


class Operators:
    def __init__(
        self, seen: Seen, recorder: Recorder, siblings: Siblings, unknown: Callable[[Request], Response]
    ) -> None:
        self._seen = seen
        self._recorder = recorder
        self._siblings = siblings
        self._unknown = unknown

    def routes(self) -> list[Route]:
        """Of the main port."""
        return [
            *self._health_routes(),
            Route("/metrics", self.guarded(self._metrics)),
            Route("/admin/reload", self.guarded(self._reload), methods=["POST"]),
            Route("/admin/upstreams", self.guarded(self._upstreams)),
            Route("/admin/requests", self.guarded(self._requests)),
            Route("/admin/requests/{id}", self.guarded(self._request)),
        ]

    def own_routes(self) -> list[Route]:
        """Of a port that only operators can reach: figures and health."""
        return [*self._health_routes(), Route("/metrics", self._metrics)]

    def _health_routes(self) -> list[Route]:
        ready = ("/health", "/health/readiness", "/readyz")
        alive = ("/health/liveness", "/healthz")
        return [*(Route(path, self._ready) for path in ready), *(Route(path, self._alive) for path in alive)]

    def guarded(self, endpoint: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def guarded(request: Request) -> Response:
            if not self.is_operator(request):
                return self._unknown(request)
            response: Response = await endpoint(request)
            return response

        return guarded

    def is_operator(self, request: Request) -> bool:
        headers = request.scope["headers"]
        if self._seen.keyring.is_admin(headers):
            return True
        client = request.scope.get("client")
        host = request.headers.get("host", "").rsplit(":", 1)[0].strip("[]")
        forwarded = any(name in _FORWARDED or name.startswith(b"x-forwarded") for name, _ in headers)
        near = client is not None and client[0] in _LOOPBACK and host in {*_LOOPBACK, "localhost"}
        return near and not forwarded and not self._seen.behind_proxies

    async def _alive(self, _: Request) -> Response:
        return json_of({"status": "ok"})

    async def _ready(self, _: Request) -> Response:
        return json_of({"status": "draining"}, 503) if self._seen.draining else json_of({"status": "ready"})

    async def _metrics(self, request: Request) -> Response:
        if not self._seen.shows_metrics:
            return self._unknown(request)
        others = await self._siblings.ask_all("metrics")
        text = exposition([self._seen.snapshot(), *others], self._seen.version)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _reload(self, _: Request) -> Response:
        faults = await self._seen.reload()
        if faults:
            return json_of({"generation": self._seen.generation, "faults": faults}, 422)
        await self._siblings.ask_all("reload")
        return json_of({"generation": self._seen.generation})

    async def _upstreams(self, _: Request) -> Response:
        """Of this worker: who of the upstreams and their keys rests, and what is left of them."""
        now = monotonic()
        return json_of({name: upstream.state(now) for name, upstream in self._seen.upstreams.items()})

    async def _requests(self, _: Request) -> Response:
        others = await self._siblings.ask_all("requests")
        found = [each for part in (self.last(), *others) for each in msgspec.json.decode(part)]
        return json_of({"requests": sorted(found, key=lambda each: -each["time"])[:_SHOWN]})

    async def _request(self, request: Request) -> Response:
        wanted = request.path_params["id"]
        parts = [self.one(wanted), *await self._siblings.ask_all(f"request {wanted}"[:512])]
        found = next((each for each in parts if each), b"")
        if not found:
            return json_of({"error": f"No request {wanted[:64]} is among the last ones."}, 404)
        return Response(found, media_type="application/json")

    # What siblings are told

    def last(self) -> bytes:
        return msgspec.json.encode(self._recorder.last(_SHOWN))

    def one(self, request_id: str) -> bytes:
        found = self._recorder.find(request_id)
        return msgspec.json.encode(found) if found is not None else b""


def json_of(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
