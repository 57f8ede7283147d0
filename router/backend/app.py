"""The backend's paths: the Hub's inference API for one model, and what operators and routers ask of it."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from providers.spec import Fault, Result, Unreadable, Written
from router.backend import figures, reading
from router.backend.engine import Engine
from router.errors import Refused, not_found, too_large

MOST_BYTES: Final = 128 * 1024 * 1024
LEFT: Final = 499  # nginx's number for a caller who did not wait


@dataclass(frozen=True, slots=True)
class About:
    task: str
    version: str
    names: tuple[str, ...]  # what the model may be called in a path; the first is its own


class Backend:
    def __init__(self, engine: Engine, about: About) -> None:
        self._engine = engine
        self._about = about
        self._figures = figures.Figures()

    def app(self) -> Starlette:
        asked = [
            "/",
            "/predict",
            "/pipeline/{task}",
            "/pipeline/{task}/{model:path}",
            "/models/{model:path}/pipeline/{task}",
            "/models/{model:path}",
        ]
        return Starlette(
            routes=[
                Route("/", self._info, methods=["GET"]),
                Route("/info", self._info, methods=["GET"]),
                Route("/health", self._health, methods=["GET"]),
                Route("/metrics", self._metrics, methods=["GET"]),
                *(Route(path, self._predict, methods=["POST"]) for path in asked),
            ],
            exception_handlers={HTTPException: _no_such_path},
        )

    async def _info(self, request: Request) -> Response:
        engine, about = self._engine, self._about
        return _json(
            {
                "model_id": about.names[0],
                "task": about.task,
                "device": engine.device,
                "state": engine.state,
                "queue": engine.waiting,
                "max_queue": engine.most,
                "progress": engine.progress,
                "loaded_in": engine.loaded_in,
                "version": about.version,
            }
        )

    async def _health(self, request: Request) -> Response:
        """A model that is not loaded yet is no illness: requests say so, and load it."""
        failed = self._engine.state == "failed"
        return _json({"status": "failed" if failed else "ok", "state": self._engine.state}, 503 if failed else 200)

    async def _metrics(self, request: Request) -> Response:
        engine = self._engine
        text = self._figures.text(engine.waiting, engine.progress is not None, engine.state == "ready")
        return PlainTextResponse(text, media_type=figures.CONTENT_TYPE)

    async def _predict(self, request: Request) -> Response:
        began = time.perf_counter()
        try:
            response = await self._answer(request, began)
        except Unreadable as error:
            response = _fault(Fault(error.status, "invalid_request", error.message, error.param))
        except Refused as refused:
            response = _fault(refused.fault)
        except ClientDisconnect:
            response = Response(status_code=LEFT)
        self._figures.answered(response.status_code, time.perf_counter() - began)
        return response

    async def _answer(self, request: Request, began: float) -> Response:
        self._check(request.path_params)
        headers = request.headers
        data = await _body(request)
        waits = headers.get("x-wait-for-model", "").strip().lower() in ("1", "true")
        accept, agent = headers.get("accept", ""), headers.get("user-agent", "")
        question = reading.read(self._about.task, data, headers.get("content-type", ""), accept, agent, waits)
        result = await _unless_left(request, self._engine.run(question.ask, question.wait))
        written = question.write(result)
        body = written.body if isinstance(written, Written) else written.data
        took = {"x-compute-type": self._engine.device or "cpu", "x-compute-time": f"{time.perf_counter() - began:.3f}"}
        return Response(body, media_type=None, headers={"content-type": written.mime, **took})

    def _check(self, path: dict[str, Any]) -> None:
        task, model = path.get("task"), path.get("model")
        if task is not None and task != self._about.task:
            raise not_found(f"This server does {self._about.task}, not {task}.", "task")
        if model is not None and model not in self._about.names:
            raise not_found(f"Model {model} is not here; this server has {self._about.names[0]}.", "model")


async def _body(request: Request) -> bytes:
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > MOST_BYTES:
            raise too_large(MOST_BYTES)
        pieces.append(piece)
    return b"".join(pieces)


async def _unless_left(request: Request, answer: Awaitable[Result]) -> Result:
    """The answer; where the caller leaves before it is there, the work is given up."""
    work, leave = asyncio.ensure_future(answer), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((work, leave), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        work.cancel()
        leave.cancel()
        await asyncio.gather(work, leave, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _no_such_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _fault(Fault(error.status_code, "not_found", f"{request.method} {request.url.path}: {error.detail}"))


def _fault(fault: Fault) -> Response:
    headers = {} if fault.retry_after is None else {"retry-after": str(max(1, round(fault.retry_after)))}
    return Response(reading.DIALECT.fault(fault), fault.status, headers, "application/json")


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
