"""Callers: they ask without pause, and try once more what failed before its answer began, as SDKs do by themselves.

What no retry can hide is a stream that was cut; it is counted by what was happening to the replicas just then.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2

LIMITED: Final = 429  # an answer, to one who asks for more than he may have
PAUSE: Final = 0.5  # seconds before the second try, as the SDKs wait at first


@dataclass
class Seen:
    """What callers had, by the phase in which it ended."""

    answered: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)  # failed once, and went well the second time
    failed: Counter[str] = field(default_factory=Counter)  # twice
    cut: Counter[str] = field(default_factory=Counter)  # streams that had begun
    reasons: Counter[str] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)  # of requests that were served to the end
    cut_ids: set[str] = field(default_factory=set)  # of those whose stream was cut
    doubtful: int = 0  # tries that a replica may have counted though nobody had an answer
    slowest: dict[str, float] = field(default_factory=dict)


class Callers:
    def __init__(self, base: str, key: str, answers: frozenset[int] = frozenset({200})) -> None:
        """`answers`: the statuses that are none of a failure."""
        self.phase = "before"
        self.seen = Seen()
        self._base = base
        self._answers = answers
        self._headers = {"authorization": f"Bearer {key}"}
        self._number = itertools.count()
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._client = httpx2.AsyncClient(timeout=60, limits=httpx2.Limits(max_connections=500))

    def start(self, plain: int, streams: int, events: int) -> None:
        """So many callers of plain answers, and so many of streams of so many events."""
        for nth in range(plain + streams):
            body = _body("hello" if nth < plain else f"[[stream {events}]]", stream=nth >= plain)
            self._tasks.append(asyncio.create_task(self._call_on(body, 0.05 if nth < plain else 0.0)))

    async def end(self) -> Seen:
        """Let what runs come to its end."""
        self._stop.set()
        await asyncio.gather(*self._tasks)
        await self._client.aclose()
        return self.seen

    async def _call_on(self, body: Mapping[str, Any], pause: float) -> None:
        while not self._stop.is_set():
            await self.call(body)
            await asyncio.sleep(pause)

    async def call(self, body: Mapping[str, Any]) -> int:
        """The status of the answer in the end; 0 where there was none."""
        status = 0
        for nth in range(2):
            began = time.monotonic()
            request = f"drill-{id(self) % 10000}-{next(self._number)}"
            status, reason = await self._try(body, request)
            seconds = time.monotonic() - began
            self.seen.slowest[self.phase] = max(self.seen.slowest.get(self.phase, 0.0), seconds)
            if not reason:
                self.seen.answered[self.phase] += 1
                self.seen.hidden[self.phase] += nth
                if status == 200:
                    self.seen.ids.add(request)
                return status
            self.seen.reasons[f"{self.phase}: {reason}"] += 1
            self.seen.doubtful += 1
            if status == 200:
                self.seen.cut[self.phase] += 1
                self.seen.cut_ids.add(request)
                return status
            if nth == 0:
                await asyncio.sleep(PAUSE)
        self.seen.failed[self.phase] += 1
        return status

    async def _try(self, body: Mapping[str, Any], request: str) -> tuple[int, str]:
        """The status, and why it is no answer."""
        status = 0
        url, headers = f"{self._base}/v1/chat/completions", {**self._headers, "x-request-id": request}
        try:
            async with self._client.stream("POST", url, json=body, headers=headers) as answer:
                status = answer.status_code
                text = (await answer.aread()).rstrip()
        except httpx2.TransportError as error:
            return (status if body["stream"] else 0), type(error).__name__
        if status not in self._answers:
            return status, f"status {status}"
        if body["stream"] and status == 200 and not text.endswith(b"[DONE]"):
            return status, "no [DONE]"
        return status, ""


def _body(prompt: str, *, stream: bool) -> dict[str, Any]:
    return {"model": "mock", "stream": stream, "messages": [{"role": "user", "content": prompt}]}


async def admitted(base: str, key: str, asked: int, at_once: int, pause: float) -> tuple[int, int, Seen]:
    """Of so many requests with that key, each caller's a pause apart: let in, refused, and what became of each."""
    callers = Callers(base, key, frozenset({200, LIMITED}))
    room = asyncio.Semaphore(at_once)

    async def one() -> int:
        async with room:
            await asyncio.sleep(pause)
            return await callers.call(_body("hello", stream=False))

    found = Counter(await asyncio.gather(*(one() for _ in range(asked))))
    return found[200], found[LIMITED], await callers.end()
