"""A model made of events: it loads when told to, and each of its answers ends when told to."""

import queue
import threading
from collections.abc import Callable
from typing import Any

from providers.spec import Ask, Result
from router.backend import Loaded, Step

SOON = 10.0  # seconds that nothing here takes


class Model:
    """`load` and `run` say that they were reached, and go on when they are let. `makes` makes the answer."""

    def __init__(self, makes: Callable[[Ask], Any] = lambda ask: [{"label": str(ask.inputs), "score": 1.0}]) -> None:
        self.makes = makes
        self.fails: Exception | None = None  # what loading comes to
        self.may_load = threading.Event()
        self.loads = 0
        self.begun: queue.Queue[Any] = queue.Queue()  # inputs, as their turn comes
        self.may_end: queue.Queue[float] = queue.Queue()  # shares; 1.0 ends an answer
        self.ended: queue.Queue[Any] = queue.Queue()

    def load(self) -> Loaded:
        self.loads += 1
        assert self.may_load.wait(SOON)
        if self.fails is not None:
            raise self.fails
        return Loaded(self.run, "cpu")

    def run(self, ask: Ask, step: Step) -> Result:
        self.begun.put(ask.inputs)
        try:
            share = 0.0
            while share < 1.0:
                share = self.may_end.get(timeout=SOON)
                step(share)
            return Result(self.makes(ask))
        finally:
            self.ended.put(ask.inputs)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
