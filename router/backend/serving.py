"""The backend as a process: a port, uvicorn around the app, and an end that lets those in line have their answers."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import uvicorn

from router.backend import estimate
from router.backend.app import About, Backend
from router.backend.engine import Engine, Loaded, Order

DRAIN: Final = 60  # seconds after SIGTERM for answers under way and in line
log = logging.getLogger("inference-router.backend")


def serve(
    load: Callable[[Order], Loaded], order: Order, host: str, port: int, most: int, preload: bool, version: str
) -> int:
    """Serve until SIGTERM (drains) or SIGINT; the exit code. With `preload` a model that cannot be loaded ends it."""
    return asyncio.run(_serve(load, order, host, port, most, preload, version))


async def _serve(
    load: Callable[[Order], Loaded], order: Order, host: str, port: int, most: int, preload: bool, version: str
) -> int:
    cache = estimate.cache_directory()
    names = names_of(order.model)
    engine = Engine(
        names[0],
        lambda: load(order),
        most,
        estimate.expected(order, cache, estimate.hub_directory()),
        lambda seconds: estimate.learn(order, cache, seconds),
    )
    app = Backend(engine, About(order.task, version, names)).app()
    config = uvicorn.Config(
        app,
        host,
        port,
        lifespan="off",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN,
    )
    server = Server(config)
    loading = asyncio.create_task(_preload(engine, server)) if preload else None
    try:
        await server.serve()
    finally:
        engine.close()
        if loading is not None:
            loading.cancel()
    if preload and engine.state == "failed":
        log.error("%s could not be loaded: %s", names[0], engine.failure)
        return 1
    return 0 if server.started else 1


async def _preload(engine: Engine, server: "Server") -> None:
    engine.begin()
    await engine.settled()
    if engine.state == "failed":
        server.should_exit = True


def names_of(model: str) -> tuple[str, ...]:
    """What paths may call it. A directory goes by its last name."""
    if Path(model).is_dir():
        return Path(model).resolve().name, model.strip("/")
    return (model,)


class Server(uvicorn.Server):
    """uvicorn dies of the signal that it drained for; here a drain ends with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self.handle_exit, each, None)
        try:
            yield
        finally:
            for each in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(each)
