"""One request, step by step: the file to read first.

identify → read → find → plan → walk → relay, and one Record at the end, whatever the end was. Each verb is one file;
this one holds only their order, and the caller's leaving, which cancels whatever step is running.
"""

import asyncio
import functools
import os
import random
import re
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Final

from providers.spec import Fault, Unreadable
from router import failures, relay, routing
from router.accounts import Accounts
from router.attempts import Walker
from router.call import Call, Endpoint
from router.caller import Caller
from router.doorman import Doorman
from router.errors import Refused, not_found
from router.health import Resting
from router.idempotency import HEADER, Idempotency
from router.keeping import Keeper
from router.keys import Identity, Keyring
from router.passthrough import Passage, Passthrough
from router.reading import Reader
from router.recorder import Recorder
from router.routing import Drop, Found, Plan, Route, Table
from router.secrets import Scrubber
from router.spending import Spending
from router.story import Story

Fields = dict[bytes, bytes]  # of the head; of a name that stands there twice, the last

_SHOWN: Final = 32  # digits of an Idempotency-Key's digest
_NAMED: Final = 20  # upstreams that a refusal names
_REQUEST_ID: Final = re.compile(rb"[\w.-]{1,64}").fullmatch


class Pipeline:
    """Serves what `endpoints` names. `table` is replaced whole when models are discovered."""

    def __init__(
        self,
        *,
        table: Table,
        keyring: Keyring,
        doorman: Doorman,
        walker: Walker,
        recorder: Recorder,
        resting: Resting,
        accounts: Accounts,
        max_body: int,
        max_upload: int,
        default_models: dict[str, str],
        scrubber: Scrubber,
        passthrough: Passthrough,
        spending: Spending,
        keeper: Keeper,
        idempotency: Idempotency,
        off: Callable[[str], list[str]],
    ) -> None:
        self.table = table
        self._keyring = keyring
        self._doorman = doorman
        self._walker = walker
        self._recorder = recorder
        self._metrics = recorder.metrics
        self._speeds = walker.speeds
        self._resting = resting
        self._accounts = accounts
        self._reader = Reader(max_body, max_upload, default_models)
        self._scrubber = scrubber
        self.passthrough = passthrough
        self._spending = spending
        self._keeper = keeper
        self._idempotency = idempotency
        self._off = off  # upstreams that are switched off and have a model by their tables
        self._dice = random.Random()  # noqa: S311 - weights, not secrets
        self._prefix = os.urandom(6).hex()
        self._counter = 0
        self._running = 0  # requests
        self._leaving: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # known once it runs; asking for it costs a system call

    def open(self) -> None:
        self._loop = asyncio.get_running_loop()

    async def emptied(self) -> None:
        """No request comes here any more; come back when the last has ended."""
        self._leaving = asyncio.Event()
        if self._running:
            await self._leaving.wait()

    async def serve(self, caller: Caller, endpoint: Endpoint, model: str, passage: Passage | None = None) -> None:
        fields = caller.fields
        self._counter += 1
        entry = f"{self._prefix}-{self._counter:08x}"  # in order, as an index likes it
        given = _request_id(fields) if b"x-request-id" in fields else ""
        story = Story(given or entry, endpoint, monotonic(), self._accounts, entry)
        story.task = asyncio.current_task(self._loop)
        caller.on_gone = story.leave
        record = story.record
        metrics = self._metrics
        metrics.inflight += 1
        self._running += 1
        call: Call | None = None
        plan: Plan | None = None
        fault: Fault | None = None
        ended: asyncio.CancelledError | None = None
        try:
            try:
                identity = self._keyring.recognise(caller.headers, fields)
                if not isinstance(identity, Identity):
                    identity = await self._doorman.answer(identity)
                story.identity = identity
                record.tenant, record.virtual_key = identity.tenant, identity.key
                if b"x-hf-bill-to" in fields:
                    record.billed_to = identity.billed(fields[b"x-hf-bill-to"])
                if identity.limited:
                    await self._accounts.admit(identity, story)
                if passage is not None:
                    await self.passthrough.serve(caller, passage, story, identity, self.table)
                    return
                call = await self._reader.read(story, identity, fields, caller, model, self.table.task_of)
                found = self._find(call)
                record.model, record.stream = found.label, call.stream
                plan = self._plan(found)
                if identity.providers:
                    plan = self._reachable(plan, call)
                if HEADER in fields and (key := self._idempotency.key(caller, call)) is not None:
                    story.idempotency = key.hex()[:_SHOWN]
                    meet = functools.partial(self._meet, call=call, story=story, plan=plan, known=found.plan)
                    await self._idempotency.serve(key, caller, call, story, meet)
                elif story.permit is not None or call.endpoint.raw or plan.route.special:
                    await self._meet(caller, call, story, plan, found.plan)
                else:
                    await self._answer(caller, call, story, plan)
            except Refused as refused:
                fault = refused.fault
            except Unreadable as unreadable:
                fault = Fault(unreadable.status, "invalid_request", unreadable.message, unreadable.param)
            except asyncio.CancelledError as error:
                record.outcome = "client_gone" if story.gone else "broken"
                record.status = record.status or 499
                if not story.gone:
                    ended, fault = error, None if story.first else _STOPPING
                elif story.task is not None:
                    story.task.uncancel()
            except EOFError:
                record.outcome, record.status = "client_gone", 499
            except Exception:
                record.outcome, record.status = "error", record.status or 500
                raise
            if fault is not None:  # here, for no handler may wait (tests/test_native.py)
                await relay.refuse(caller, story, fault, self._scrubber)
            if ended is not None:
                record.outcome, record.broken = "broken", "shutdown"
                raise ended
        finally:
            ended = None  # a ring with its traceback
            story.task = None  # the task holds this frame: a ring that only the collector would undo
            caller.on_gone = None
            metrics.inflight -= 1
            self._running -= 1
            if self._leaving is not None and not self._running:
                self._leaving.set()
            closed = story.close(monotonic())
            self._accounts.close(call, story)
            if call is not None and call.upload is not None:
                call.upload.close()
            if self._walker.counts_keys:
                self._walker.spend(closed)
            self._recorder.record(closed, plan)
            self._speeds.learn(closed)
            if plan is not None and plan.route.spill is not None:
                self._spending.note(closed, plan)

    async def _meet(self, caller: Caller, call: Call, story: Story, plan: Plan, known: Plan) -> None:
        """Reserve for it, and answer it: from what is kept, or from upstream. `known`: the plan before it was put in
        order for this call.
        """
        accounts = self._accounts
        if (story.permit is not None or known.route.special) and not accounts.lends(call, known, story):
            await self._accounts.reserve(call, known, story, self.table)
        if call.endpoint.raw or plan.route.cache:
            key = self._keeper.key(call, plan.route)
            if key is not None:
                answer = functools.partial(self._answer, call=call, story=story, plan=plan)
                await self._keeper.serve(key, caller, call, story, answer)
                return
        await self._answer(caller, call, story, plan)

    async def _answer(self, caller: Caller, call: Call, story: Story, plan: Plan) -> None:
        if self._accounts.intend(call, plan, story):
            await self._accounts.sync()
        served = await self._walker.walk(call, plan, story)
        await relay.answer(caller, call, served, story, plan, self._walker, self._scrubber)

    def _find(self, call: Call) -> Found:
        """The model's route seen from this call; 404 where nobody knows it or this caller may not have it."""
        found = self.table.find(call.model, call.endpoint.task, call.endpoint.dialect.name)
        if found is None and call.identity.allows(call.model) and (off := self._off(call.model)[:_NAMED]):
            said = f"Model {call.model} does not exist here: {', '.join(off)} would have it and is switched off"
            told = tuple({"deployment": each, "reason": "its upstream is switched off"} for each in off)
            raise Refused(Fault(404, "model_not_found", said, "model", attempts=told))
        if found is None or not (call.identity.rights.all or self._allows(call.identity, found.plan.route)):
            raise not_found(f"Model {call.model} does not exist", "model", "model_not_found")
        if not found.plan.attempts:
            asked = {each.upstream for each in found.plan.route.deployments}
            others = sorted(
                place.name
                for place in self.table.places.values()
                if call.endpoint.task in place.provider.tasks() and place.name not in asked
            )[:_NAMED]
            fault = failures.nothing_to_try(call, found.plan)
            served = f" Upstreams that serve {call.endpoint.task}: {', '.join(others) or 'none'}."
            raise Refused(Fault(404, fault.code, fault.message + served, "model", attempts=fault.attempts))
        return found

    def _allows(self, identity: Identity, route: Route) -> bool:
        """A model at a named place may be written with the place's own id, which opens no other than its own would."""
        return all(identity.allows(each) for each in self.table.names(route))

    def _reachable(self, plan: Plan, call: Call) -> Plan:
        """Without the places that this caller's plan or key does not allow."""
        kept, dropped = [], list(plan.dropped)
        for each in plan.attempts:
            upstream = each.deployment.upstream
            if call.identity.reaches(upstream, self.table.places[upstream].provider.name):
                kept.append(each)
            else:
                dropped.append(Drop(each.deployment.name, "this key may not use it"))
        plan = replace(plan, attempts=tuple(kept), dropped=tuple(dropped))
        if not kept:
            raise Refused(failures.nothing_to_try(call, plan))
        return plan

    def _plan(self, found: Found) -> Plan:
        route = found.plan.route
        if route.policy == "ordered" and self._resting.calm and route.spill is None:
            return found.plan
        resting = self._resting.resting(monotonic())
        walker = self._walker
        spent = self._spending.of(route)
        return routing.plan(
            found.plan, dice=self._dice, resting=resting, speed=walker.speeds.of, busy=walker.busy,
            cost=self._accounts.prices.output, spent=spent,
        )  # fmt: skip


def _request_id(fields: Fields) -> str:
    """The caller's own, where it is one; it names the request to people, never to the ledger."""
    given = fields[b"x-request-id"]
    return given.decode() if _REQUEST_ID(given) and not _holds_a_key(given, fields) else ""


def _holds_a_key(given: bytes, fields: Fields) -> bool:
    """Whether an id, which is answered and logged, has the caller's own key in it."""
    return any(fields[name].split()[-1:] and fields[name].split()[-1] in given for name in _KEYS if name in fields)


_KEYS: Final = (b"authorization", b"x-api-key", b"api-key")
_STOPPING: Final = Fault(503, "shutting_down", "The server is shutting down; ask again.", retry_after=1.0)
