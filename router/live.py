"""What upstreams are asked in the background: which models they list, and whether they answer at all.

`models: discover` reads the upstream's own list every `discover_every`; `when: answers` is probed by the same request,
again every 30 s, as is one that did not answer. Neither delays a request, nor the start by more than half a second;
each change makes a new routing table, swapped whole.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from providers.spec import ANY_TASK, Task
from router.outgoing import Upstream
from router.routing import Table
from router.upstream.faults import Broken, Silence

PROBE: Final = 30.0
ANSWER: Final = 5.0  # seconds that a probe may take
PATIENCE: Final = 0.5  # seconds that a start waits for the first answers
LIST_LIMIT: Final = 16 * 1024 * 1024
TOOLKITS: Final = ("diffusers", "transformers")
OF_ONE_MODEL: Final = ("tgi", "tei", *TOOLKITS)


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class Live:
    """Keeps `table()` current through `swap`."""

    def __init__(
        self, upstreams: Mapping[str, Upstream], table: Callable[[], Table], swap: Callable[[Table], None]
    ) -> None:
        self._upstreams = [
            each for each in upstreams.values() if each.settings.models == "discover" or each.settings.when == "answers"
        ]
        self._table = table
        self._swap = swap
        self._tasks: list[asyncio.Task[None]] = []
        self._asked: set[str] = set()  # those that were asked once, whatever they said
        self._all_asked = asyncio.Event()

    def silent(self) -> frozenset[str]:
        """Those that nobody may be sent to before they answered once."""
        return frozenset(each.name for each in self._upstreams if each.settings.when == "answers")

    async def open(self) -> None:
        """Begin to ask; come back when all were asked once, so that what is there is routable from the first request,
        or after `PATIENCE`.
        """
        self._tasks = [asyncio.create_task(self._follow(each), name=f"live {each.name}") for each in self._upstreams]
        if self._tasks:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self._all_asked.wait()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _follow(self, upstream: Upstream) -> None:
        settings = upstream.settings
        while True:
            listed, purpose = await ask(upstream)
            self._note(upstream, listed, purpose)
            self._asked.add(upstream.name)
            if len(self._asked) == len(self._upstreams):
                self._all_asked.set()
            pause = PROBE if settings.when == "answers" or listed is None else settings.discover_every
            await asyncio.sleep(pause * random.uniform(0.9, 1.1))  # noqa: S311 - so that workers do not ask in step

    def _note(self, upstream: Upstream, listed: tuple[str, ...] | None, purpose: Task) -> None:
        table = self._table()
        discovered = dict(table.discovered)
        silent = set(table.silent)
        if listed is None:
            if upstream.settings.when == "answers":
                silent.add(upstream.name)
        else:
            silent.discard(upstream.name)
            if upstream.settings.models == "discover":
                discovered[upstream.name] = listed
        purposes = {**table.purposes, upstream.name: purpose} if listed is not None else table.purposes
        if discovered != table.discovered or silent != table.silent or purposes != table.purposes:
            self._swap(table.with_live(discovered, frozenset(silent), purposes))


async def ask(upstream: Upstream) -> tuple[tuple[str, ...] | None, Task]:
    """The ids that an upstream lists, and what they are for where it says; None where it does not answer like what it
    is said to be.
    """
    if upstream.provider.name in OF_ONE_MODEL:
        return await ask_its_model(upstream)
    found = await get(upstream, upstream.provider.models_path or "/v1/models")
    try:
        return tuple(each.id for each in msgspec.convert(found, _Models).data), ANY_TASK
    except msgspec.ValidationError:
        return None, ANY_TASK


async def ask_its_model(upstream: Upstream) -> tuple[tuple[str, ...] | None, Task]:
    """Of a server of one model. Inference Endpoints do not tell which, and say only that they are well; a server of a
    task that is another provider's is not this upstream, though it stands at its address.
    """
    info = await get(upstream, "/info")
    if isinstance(info, dict) and isinstance(model := info.get("model_id"), str):
        task = info.get("task")
        if task is None:
            return (model,), ANY_TASK
        return ((model,), task) if task in upstream.provider.tasks() else (None, ANY_TASK)
    well = upstream.provider.name in TOOLKITS and await fetch(upstream, "/health")
    return () if well else None, ANY_TASK


async def get(upstream: Upstream, path: str) -> Any:
    """A small JSON document of an upstream; None where it does not give one."""
    body = await fetch(upstream, path)
    try:
        return None if body is None else msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


async def fetch(upstream: Upstream, path: str) -> bytes | None:
    """A small document of an upstream; None where it does not give one."""
    now = asyncio.get_running_loop().time()
    key = upstream.keys.peek(now)
    deadline = now + ANSWER
    answer = await upstream.pool.open(upstream.get(path, key), b"", first=ANSWER, deadline=deadline, replay=True)
    if isinstance(answer, Silence):
        return None
    try:
        body = await answer.read(LIST_LIMIT)
        return body if answer.status == 200 else None
    except Broken:
        return None
    finally:
        answer.close()
