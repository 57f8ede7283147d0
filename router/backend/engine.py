"""The one model and the line in front of it: loading, whose turn it is, and who has left.

Everything here lives on the loop but the calls of `load` and of what it returns, which run one at a time in one thread
(always the same: torch keeps pools a thread). The thread reports back through the loop, so nothing needs a lock.
"""

import asyncio
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from providers.dialects.huggingface import loading
from providers.spec import Ask, Fault, Result, Unreadable
from router.errors import Refused

AGAIN: Final = 30.0  # seconds after which a load that failed is tried again
FIRST_GUESS: Final = 1.0  # seconds that an answer takes, before there was one

State = Literal["idle", "loading", "ready", "failed"]
Step = Callable[[float], None]
"""Told by a run how far it is, from 0 to 1, between its steps; raises Left where nobody waits for it any more."""
Run = Callable[[Ask, Step], Result]


@dataclass(frozen=True, slots=True)
class Order:
    """What to load. `model` is an id of the Hub's or a directory; `device` and `dtype` may be "auto"."""

    model: str
    task: str
    device: str = "auto"
    dtype: str = "auto"


@dataclass(frozen=True, slots=True)
class Loaded:
    run: Run
    device: str


class Left(Exception):
    """The caller has gone: the run may stop here."""


@dataclass(eq=False, slots=True)
class Job:
    ask: Ask
    done: asyncio.Future[Result]
    share: float = 0.0
    left: bool = False

    def step(self, share: float) -> None:
        self.share = share
        if self.left:
            raise Left


class Engine:
    """`expected`: seconds that loading will take, as far as that can be known; `learn` is told what it took."""

    def __init__(
        self,
        name: str,
        load: Callable[[], Loaded],
        most: int,
        expected: float = 20.0,
        learn: Callable[[float], None] = lambda seconds: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.most = most
        self.state: State = "idle"
        self.loaded_in: float | None = None
        self._load = load
        self._loaded: Loaded | None = None
        self._failure = ""
        self._expected = expected
        self._learn = learn
        self._clock = clock
        self._since = 0.0  # when loading began, or failed
        self._pace = FIRST_GUESS  # seconds an answer takes, a moving mean
        self._line: deque[Job] = deque()
        self._running: Job | None = None
        self._settled = asyncio.Event()
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def device(self) -> str | None:
        return self._loaded.device if self._loaded else None

    @property
    def waiting(self) -> int:
        return len(self._line)

    @property
    def progress(self) -> float | None:
        """How far the answer under way is, of 1."""
        return self._running.share if self._running else None

    @property
    def failure(self) -> str:
        return self._failure

    def begin(self) -> None:
        """Load, unless that was done, is under way, or failed a moment ago."""
        if self.state == "idle" or (self.state == "failed" and self._clock() - self._since >= AGAIN):
            self.state, self._since = "loading", self._clock()
            self._settled.clear()
            self._in_thread(self._load, self._is_loaded)

    async def settled(self) -> None:
        """Until it is loaded, or cannot be."""
        await self._settled.wait()

    async def run(self, ask: Ask, wait: bool) -> Result:
        """The answer, when its turn has come. `wait` waits for a model that is loading too. Raises Refused."""
        self.begin()
        if self.state == "failed":
            raise Refused(Fault(500, "model_failed", f"Model {self.name} could not be loaded: {self._failure}"))
        if self.state == "loading" and not wait:
            raise Refused(loading(self.name, self._remaining()))
        if len(self._line) >= self.most:
            raise self._busy()
        job = Job(ask, asyncio.get_running_loop().create_future())
        self._line.append(job)
        self._next()
        try:
            return await job.done
        finally:
            job.left = True
            if job in self._line:
                self._line.remove(job)

    def close(self) -> None:
        """Nobody is served any more; what runs in the thread dies with the process."""
        self._calls.put(None)

    def _remaining(self) -> float:
        return round(max(1.0, self._expected - (self._clock() - self._since)), 1)

    def _busy(self) -> Refused:
        patience = math.ceil(self._pace * (len(self._line) + 1))
        message = f"Model too busy, unable to get response in less than {patience} second(s)"
        return Refused(Fault(503, "model_busy", message, retry_after=patience))

    def _next(self) -> None:
        if self._loaded is None or self._running is not None or not self._line:
            return
        job, run, began = self._line.popleft(), self._loaded.run, self._clock()
        self._running = job

        def over(result: Result | None, error: Exception | None) -> None:
            self._running = None
            if result is not None:
                self._pace += (self._clock() - began - self._pace) / 4
            _settle(job, result, error)
            self._next()

        self._in_thread(lambda: run(job.ask, job.step), over)

    def _is_loaded(self, loaded: Loaded | None, error: Exception | None) -> None:
        took = self._clock() - self._since
        if loaded is not None:
            self.state, self._loaded, self.loaded_in, self._failure = "ready", loaded, round(took, 3), ""
            self._learn(took)
        else:
            self.state, self._since, self._failure = "failed", self._clock(), _words_of(error)
            while self._line:
                fault = Fault(500, "model_failed", f"Model {self.name} could not be loaded: {self._failure}")
                _settle(self._line.popleft(), None, Refused(fault))
        self._settled.set()
        self._next()

    def _in_thread(self, call: Callable[[], Any], over: Callable[[Any, Exception | None], None]) -> None:
        loop = asyncio.get_running_loop()

        def work() -> None:
            result, failure = None, None
            try:
                result = call()
            except Exception as error:  # noqa: BLE001 - whatever a model does is an answer, and the next one's turn
                failure = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(over, result, failure)

        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="model", daemon=True)
            self._thread.start()
        self._calls.put(work)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def _settle(job: Job, result: Result | None, error: Exception | None) -> None:
    if job.done.done():  # its caller left
        return
    if result is not None:
        job.done.set_result(result)
    else:
        job.done.set_exception(error if isinstance(error, Refused | Unreadable) else _refusal(error))


def _refusal(error: Exception | None) -> Refused:
    """A pipeline raises ValueError and TypeError for what it was given, and anything else for reasons of its own."""
    if isinstance(error, ValueError | TypeError):
        return Refused(Fault(400, "invalid_request", _words_of(error)))
    if isinstance(error, MemoryError):
        return Refused(Fault(503, "out_of_memory", f"Out of memory: {_words_of(error)}", retry_after=5.0))
    return Refused(Fault(500, "model_error", _words_of(error)))


def _words_of(error: Exception | None) -> str:
    """One paragraph: libraries print pages."""
    said = str(error).strip().partition("\n\n")[0][:600]
    return said if isinstance(error, ValueError) and said else f"{type(error).__name__}: {said}"
