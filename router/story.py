"""One request while it runs: its Record as far as it is known, and what only the running has use for."""

import asyncio
import time
from collections.abc import Callable

from router.call import Endpoint
from router.record import Record
from router.usage import Usage


class Story:
    """Times are of `time.monotonic`, which loops count by too, but uvloop only in milliseconds.

    `leave` is what the server calls when the caller has gone.
    """

    __slots__ = ("endpoint", "first", "gone", "proven", "record", "started", "task", "waited")

    def __init__(self, request_id: str, endpoint: Endpoint, started: float) -> None:
        self.record = Record(request_id, 0.0, endpoint.dialect.name, endpoint.task)
        self.endpoint = endpoint
        self.started = started
        self.task: asyncio.Task[object] | None = None
        self.gone = False
        self.proven = True  # the answer's end is known to be one
        self.first = 0.0  # the moment of the first event or the answer
        self.waited = 0.0  # seconds spent waiting for upstreams before that

    def become(self, endpoint: Endpoint) -> None:
        """The path left the task open; now it is known."""
        self.endpoint = endpoint
        self.record.task = endpoint.task

    def leave(self) -> None:
        self.gone = True
        if self.task is not None:
            self.task.cancel()

    def use(self, usage: Usage) -> None:
        record = self.record
        record.input_tokens, record.output_tokens, record.cached_tokens = usage.tokens()

    def close(self, now: float, clock: Callable[[], float] = time.time) -> Record:
        record = self.record
        until = (self.first or now) - self.started
        record.time = clock()
        record.seconds = now - self.started
        ours = until - self.waited
        record.overhead = ours if ours > 0.0 else 0.0
        if self.first:
            record.first = until
        return record
