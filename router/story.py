"""One request while it runs: its Record as far as it is known, and what only the running has use for."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from router.bounds import Bound
from router.call import Call, Endpoint
from router.ceiling import Uses
from router.identity import Identity
from router.loans import Loans
from router.permit import Permit
from router.record import Record
from router.routing import Candidate, Plan
from router.usage import Usage


class Account(Protocol):
    """The part of router/accounts.py that steps behind the first need."""

    async def reserve_passage(self, call: Call, plan: Plan, story: "Story", bounds: tuple[Bound, ...]) -> None: ...
    def intend(self, call: Call, plan: Plan, story: "Story") -> bool: ...
    async def sync(self) -> None: ...
    def bill(self, story: "Story") -> None: ...


class Story:
    """Times are of `time.monotonic`, which loops count by too, but uvloop only in milliseconds.

    `leave` is what the server calls when the caller has gone.
    """

    __slots__ = (
        "account", "billed", "candidate", "endpoint", "events", "first", "gone", "idempotency", "identity", "intended",
        "loans", "permit", "proven", "read", "record", "started", "task", "waited", "written", "wrote",
    )  # fmt: skip

    def __init__(
        self, request_id: str, endpoint: Endpoint, started: float, account: Account | None = None, entry: str = ""
    ) -> None:
        self.record = Record(request_id, endpoint.dialect.name, endpoint.task, entry)
        self.endpoint = endpoint
        self.started = started
        self.task: asyncio.Task[object] | None = None
        self.gone = False
        self.proven = True  # the answer's end is known to be one
        self.first = 0.0  # the moment of the first event or the answer
        self.waited = 0.0  # seconds spent waiting for upstreams before that
        self.read = self.wrote = False  # how many tokens, an upstream has said
        self.written = 0  # of those read, the ones that the provider wrote to its cache
        self.events = 0  # of a stream, that have passed since an upstream last said how many tokens it wrote
        self.account = account  # where it is billed
        self.billed = False  # as a whole answer
        self.identity: Identity | None = None
        self.loans: Loans | None = None  # of keys and of room at upstreams
        self.permit: Permit | None = None  # what it holds of its limits
        self.candidate: Candidate | None = None  # that is asked, or was last
        self.intended = False  # an intent of it stands in the ledger
        self.idempotency = ""

    def become(self, endpoint: Endpoint) -> None:
        """The path left the task open; now it is known."""
        self.endpoint = endpoint
        self.record.task = endpoint.task

    def leave(self) -> None:
        self.gone = True
        if self.task is not None:
            self.task.cancel()

    def borrow(self) -> Loans:
        if self.loans is None:
            self.loans = Loans()
        return self.loans

    def give_back(self) -> None:
        """It has ended, and so have its loans."""
        if self.loans is not None:
            record = self.record
            self.loans.close(Uses(record.input_tokens, record.output_tokens, record.cost or 0))

    def use(self, usage: Usage) -> None:
        """What an upstream said was used so far: the last word stands, and nothing is summed."""
        record = self.record
        if usage.input is not None:
            record.input_tokens = usage.input
            self.read = True
        if usage.output is not None:
            record.output_tokens = usage.output
            self.wrote = True
            self.events = 0
        if usage.cached is not None:
            record.cached_tokens = usage.cached
        if usage.reasoning is not None:
            record.reasoning_tokens = usage.reasoning
        if usage.written is not None:
            self.written = usage.written
        if usage.images is not None or usage.seconds is not None or usage.characters is not None:
            record.images = usage.images or record.images
            record.media_seconds = usage.seconds or record.media_seconds
            record.characters = usage.characters or record.characters
        if usage.estimated:
            record.estimated = True

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
