"""How many requests run and wait at servers of one's own, from their own figures: for `least_busy` and `spill`.

Only upstreams of a route that asks for it are asked, once a second, and the answer is believed for five. Between two
looks the requests that we sent there ourselves count.
"""

import asyncio
import re
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

from router import live
from router.outgoing import Upstream

EVERY: Final = 1.0
BELIEVED: Final = 5.0

# Requests that run and that wait, as the servers call them: TGI, vLLM, SGLang, llama.cpp, TEI, our own backend.
_GAUGES: Final = re.compile(
    rb"^(?:tgi_queue_size|tgi_batch_current_size|vllm:num_requests_(?:waiting|running)|sglang:num_(?:queue|running)_reqs"
    rb"|llamacpp:requests_(?:deferred|processing)|te_queue_size|(?:backend|inf)_(?:queue|batch_current)_size)"
    rb"(?:\{[^}\n]*\})?[ \t]+([0-9.e+]+)",
    re.MULTILINE,
)


def depth_of(exposition: bytes) -> float | None:
    """Requests that run or wait, of all models there; None where none of the known figures is shown."""
    try:
        found = [float(each) for each in _GAUGES.findall(exposition)]
    except ValueError:
        return None
    return sum(found) if found else None


class Load:
    """Asks `upstreams` while it is open."""

    def __init__(self, upstreams: Iterable[Upstream], clock: Callable[[], float] = monotonic) -> None:
        self._upstreams = list(upstreams)
        self._clock = clock
        self._depths: dict[str, tuple[float, float]] = {}  # upstream → how many, and when that was
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> None:
        self._tasks = [asyncio.create_task(self._follow(each), name=f"load {each.name}") for each in self._upstreams]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def of(self, upstream: Upstream) -> float:
        """Requests at it: as many as it says, and never fewer than are ours."""
        ours = float(upstream.pool.inflight)
        depth, at = self._depths.get(upstream.name, (0.0, 0.0))
        return max(ours, depth) if self._clock() - at < BELIEVED else ours

    async def _follow(self, upstream: Upstream) -> None:
        while True:
            depth = depth_of(await live.fetch(upstream, "/metrics") or b"")
            if depth is not None:
                self._depths[upstream.name] = depth, self._clock()
            await asyncio.sleep(EVERY)
