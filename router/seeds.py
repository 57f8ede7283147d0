"""What budgets had spent before this process counted: asked of the ledger when a tenant is first seen.

A budget outlives whoever counts it: after a start it goes on where the ledger says. The first request of a tenant waits
for that, though not for long; where the ledger is away nobody does, and it is asked again.
"""

import asyncio
import functools
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from router.bounds import Bound, Store
from router.stores.books import Books, Scope
from router.stores.buckets import stretch
from router.stores.sql import Away, Database

PATIENCE: Final = 1.0  # seconds that a request waits for it
LOOK: Final = 0.05  # seconds between two looks at whether somebody else found that the ledger is away
AGAIN: Final = 5.0  # seconds until a ledger that was away is asked again
KNOWN: Final = 100_000  # budgets that need not be asked for again


class Seeds:
    """`connect` makes a connection for this alone. `ready` tells when all that others left is in the ledger."""

    def __init__(
        self, store: Store, connect: Callable[[], Database], ready: Callable[[], bool], again: float = AGAIN
    ) -> None:
        self._store = store
        self._connect = connect
        self._ready = ready
        self._again = again
        self._asked: set[str] = set()  # names of budgets that nobody need wait for any more
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        self._database: Database | None = None
        self._thread = ThreadPoolExecutor(1, "seeds")  # what hangs here takes no thread from anybody else
        self._away = False  # nobody waits for a ledger that gave no answer

    def missing(self, bounds: Iterable[Bound]) -> list[Bound]:
        """Budgets that were never asked for; those that are a part of a tenant's are not told apart in the ledger."""
        asked = self._asked
        return [each for each in bounds if each.kind == "budget" and each.name not in asked and _is_whole(each)]

    async def sow(self, bounds: Sequence[Bound]) -> None:
        """As far as can be done in `PATIENCE`; what is left is done behind."""
        if len(self._asked) >= KNOWN:
            self._asked.clear()
        tasks = [self._asking.get(each.name) or self._begin(each) for each in bounds]
        until = time.monotonic() + PATIENCE
        while not self._away and not all(task.done() for task in tasks):
            if time.monotonic() >= until:
                self._away = True
                break
            await asyncio.wait(tasks, timeout=LOOK)
        self._asked.update(each.name for each in bounds)

    def _begin(self, bound: Bound) -> "asyncio.Task[None]":
        task = self._asking[bound.name] = asyncio.get_running_loop().create_task(self._ask(bound))
        task.add_done_callback(functools.partial(self._over, bound.name))
        return task

    def _over(self, name: str, _: object) -> None:
        self._asking.pop(name, None)

    async def _ask(self, bound: Bound) -> None:
        while True:
            for _ in range(40):  # not in turn, or many tenants would wait for each other
                if self._ready():
                    break
                await asyncio.sleep(0.05)
            async with self._turn:
                since = _begun(bound)
                try:
                    used = await asyncio.get_running_loop().run_in_executor(self._thread, self._spent, bound, since)
                except Away:
                    self._away = True
                else:
                    self._away = False
                    if since == _begun(bound):  # else it is of a period that has ended meanwhile
                        self._store.seed(bound, used)
                    return
            await asyncio.sleep(self._again)

    def _spent(self, bound: Bound, since: float) -> int:
        if self._database is None:
            self._database = self._connect()
        scope: Scope = "provider_key" if bound.scope == "upstream" and "/" in bound.of else bound.scope
        return Books(self._database).spent(scope, bound.of, since)

    async def close(self) -> None:
        for task in [*self._asking.values()]:
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        if self._database is not None:
            self._database.interrupt()
            self._thread.submit(self._database.close)
        self._thread.shutdown(wait=False)


def _begun(bound: Bound) -> float:
    """The first moment of the present period."""
    return float(stretch(bound.period, time.time())[0]) if bound.period else 0.0


def _is_whole(bound: Bound) -> bool:
    return bound.name == f"{bound.scope}/{bound.of}/budget"
