"""What is noted of one request while it runs; at its end it becomes the Record. The one mutable thing a request has."""

import asyncio
import time
from collections.abc import Callable

from router.call import Endpoint
from router.record import Billing, Outcome, Record, Try
from router.usage import Usage


class Story:
    """Times are of `time.monotonic`, which loops count by too, but uvloop only in milliseconds.

    `leave` is what the server calls when the caller has gone.
    """

    __slots__ = (
        "billing",
        "broken",
        "code",
        "dropped",
        "endpoint",
        "first",
        "gone",
        "id",
        "key",
        "model",
        "outcome",
        "provider_id",
        "started",
        "status",
        "stream",
        "task",
        "tenant",
        "tries",
        "upstream",
        "usage",
        "waited",
    )

    def __init__(self, request_id: str, endpoint: Endpoint, started: float) -> None:
        self.id = request_id
        self.endpoint = endpoint
        self.started = started
        self.task: asyncio.Task[object] | None = None
        self.gone = False
        self.tenant = ""
        self.model = "other"
        self.stream = False
        self.status = 0
        self.outcome: Outcome = "ok"
        self.code = ""
        self.upstream = ""
        self.provider_id = ""
        self.key = ""
        self.billing: Billing = "none"
        self.first = 0.0  # the moment of the first event or the answer
        self.waited = 0.0  # seconds spent waiting for upstreams before that
        self.usage: Usage | None = None
        self.dropped = 0
        self.broken = ""
        self.tries: list[Try] = []

    def leave(self) -> None:
        self.gone = True
        if self.task is not None:
            self.task.cancel()

    def record(self, now: float, clock: Callable[[], float] = time.time) -> Record:
        usage = self.usage
        until = (self.first or now) - self.started
        return Record(
            id=self.id,
            time=clock(),
            dialect=self.endpoint.dialect.name,
            task=self.endpoint.task,
            model=self.model,
            tenant=self.tenant,
            status=self.status,
            outcome=self.outcome,
            stream=self.stream,
            seconds=now - self.started,
            upstream=self.upstream,
            provider_id=self.provider_id,
            key=self.key,
            billing=self.billing,
            code=self.code,
            first=until if self.first else 0.0,
            overhead=max(0.0, until - self.waited),
            input_tokens=usage.input if usage else 0,
            output_tokens=usage.output if usage else 0,
            cached_tokens=usage.cached if usage else 0,
            dropped_events=self.dropped,
            broken=self.broken,
            tries=tuple(self.tries),
        )
