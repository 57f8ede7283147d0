"""One request's account: what it may use, the intent before it is sent, and in the end the entry in the ledger.

What limits count (router/limits.py) and what the ledger holds (router/ledger.py) is decided here, once for every way
that a request can take: relayed, translated, played, passed through, answered from what is kept. All of `close` is
synchronous and fails no request.
"""

import time
from collections.abc import Callable
from typing import Final

from providers.spec import Fault
from router import charges, estimates, units
from router.bounds import Bound
from router.call import Call
from router.endpoints import PAID_MEDIA
from router.entry import Attempt, Entry, Intent
from router.errors import Refused
from router.identity import Identity
from router.leases import Lease
from router.ledger import Full, Ledger
from router.limits import Limits, estimated, metered, owned, parts_of
from router.permit import Estimate, Permit
from router.prices import Prices
from router.record import Record
from router.routing import Candidate, Plan, Table
from router.seeds import Seeds
from router.story import Story
from router.usage import Usage

LEASES: Final = 4096  # pairs of caller and model
ONE_OF_EACH: Final = Usage(images=1, seconds=1.0, characters=1)
FULL: Final = Fault(503, "ledger_full", "What requests cost cannot be written down now; ask again.", retry_after=5.0)


class Accounts:
    """One for the life of the process. `ledger`: None where none is kept."""

    def __init__(
        self,
        limits: Limits,
        ledger: Ledger | None = None,
        seeds: Seeds | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits
        self.ledger = ledger
        self._seeds = seeds
        self.prices = Prices()
        self._leases: dict[tuple[int, int], tuple[Identity, Plan, Lease]] = {}  # by identity, which is held with it
        self._clock = clock

    async def admit(self, identity: Identity, story: Story) -> None:
        """By the head alone. Raises Refused."""
        story.permit = permit = Permit(self.limits, identity, story.record.entry)
        if not self.limits.admits(permit):
            await self.limits.admit(permit)

    def lends(self, call: Call, known: Plan, story: Story) -> bool:
        """Whether it has its reservation already, of what was taken for many: nothing has to be waited for."""
        kept = self._leases.get((id(call.identity), id(known)))
        return kept is not None and story.permit is not None and self.limits.lend(story.permit, kept[2], call)

    async def reserve(self, call: Call, known: Plan, story: Story, table: Table) -> None:
        """By the body. `known`: the route's plan, which is the same for every such call. Raises Refused."""
        identity = call.identity
        kept = self._leases.get((id(identity), id(known)))
        if kept is None:
            kept = await self._lease(identity, known, table)
        lease = kept[2]
        if not lease.bounds:
            return
        permit = story.permit
        if permit is None:
            permit = story.permit = Permit(self.limits, identity, story.record.entry)
        if not self.limits.lend(permit, lease, call):
            estimate = estimated(call, known, identity, self.prices) if lease.metered else Estimate()
            await self.limits.reserve(permit, lease.bounds, estimate, call.stream)

    def forget(self) -> None:
        """A new configuration is in use: what was made ready of the old one is not."""
        self._leases.clear()

    async def _lease(self, identity: Identity, known: Plan, table: Table) -> tuple[Identity, Plan, Lease]:
        """What this caller's requests for this model count against, made ready; what was spent before is asked for."""
        route = known.route
        bounds = table.bounds(route) + identity.reserved
        for name in table.names(route) if identity.per_model else ():
            bounds += tuple(each for each in identity.bounds_for(name) if each not in bounds)
        if self._seeds is not None and (missing := self._seeds.missing(bounds)):
            await self._seeds.sow(missing)
        lease = Lease(bounds, metered(bounds))
        if lease.metered:
            running = [bound for bound, _ in identity.admission if bound.kind == "concurrency"]
            self.limits.leases.offer(lease, parts_of(known, identity, self.prices), running)
            self.limits.show(lease, identity)
        if len(self._leases) >= LEASES:
            self._leases.clear()
        kept = self._leases[id(identity), id(known)] = identity, known, lease
        return kept

    def intend(self, call: Call, plan: Plan, story: Story) -> bool:
        """It is about to be sent; whether that must be on the disk before. Raises Refused where it could not be written
        down, and somebody would pay for it.
        """
        if self.ledger is None:
            story.intended = True
            return False
        first = plan.attempts[0]
        permit = story.permit
        most = permit.estimate.price if permit is not None else None
        self._write(story, first.deployment.upstream, most, plan)
        return call.endpoint.task in PAID_MEDIA and not first.local

    async def sync(self) -> None:
        if self.ledger is not None:
            await self.ledger.sync()

    def _write(self, story: Story, upstream: str, most: int | None, plan: Plan) -> None:
        assert self.ledger is not None
        record = story.record
        intent = Intent(
            record.entry, self._clock(), record.id, record.tenant, record.virtual_key, record.model, record.task,
            record.dialect, upstream, most, story.idempotency,
        )  # fmt: skip
        try:
            self.ledger.intend(intent)
        except Full:
            if not all(self._unpaid(story.identity, each) for each in plan.attempts):
                raise Refused(FULL) from None
        story.intended = True

    def _unpaid(self, identity: Identity | None, candidate: Candidate) -> bool:
        """Whether we pay nobody for it: the caller does himself, or it is free, as a server of one's own is."""
        if identity is not None and owned(identity, candidate):
            return True
        price = self.prices.of(candidate)
        return candidate.local if price is None else charges.most_cost(1, 1, ONE_OF_EACH, price) == 0

    def close(self, call: Call | None, story: Story) -> None:
        """It has ended, however it did."""
        record = story.record
        if story.intended or record.cache in charges.FREE:
            if record.outcome == "client_gone" and record.upstream and not story.read and call is not None:
                record.input_tokens = estimates.estimate_input(call)  # which the provider has, whatever it came to
                record.estimated = True
                story.use(units.asked(call))  # what is paid by the piece is made all the same
                self.bill(story)
            elif not story.billed or record.outcome != "ok":
                self.bill(story)
        if story.permit is not None:  # first what others wait for
            self.limits.settle(story.permit, record)
        if story.loans is not None:
            story.give_back()
        if self.ledger is not None and (story.intended or record.cache in charges.FREE):
            self.ledger.settle(entry_of(record, story.idempotency))

    def bill(self, story: Story) -> None:
        """What it has come to as far as is known now."""
        story.billed = True
        record, candidate, identity = story.record, story.candidate, story.identity
        price = self.prices.of(candidate) if candidate is not None else None
        if price is None and record.upstream and record.outcome != "error" and record.cache not in charges.FREE:
            record.cost, record.charge = None, 0 if record.billing == "direct" else None
            return
        record.cost = cost = charges.cost_of(record, price, story.written)
        markup = identity.markup if identity is not None else 0.0
        if cost and not markup and record.billing != "direct":
            record.charge = cost
        else:
            record.charge = charges.charge_of(cost, charges.markup_of(markup), record.billing, record.outcome)

    async def reserve_passage(self, call: Call, plan: Plan, story: Story, bounds: tuple[Bound, ...]) -> None:
        """By the body, of what is passed through. `bounds`: of all models that it may be for. Raises Refused."""
        permit, identity = story.permit, call.identity
        bounds += identity.reserved
        if not bounds:
            return
        if permit is None:
            permit = story.permit = Permit(self.limits, identity, story.record.entry)
        if self._seeds is not None and (missing := self._seeds.missing(bounds)):
            await self._seeds.sow(missing)
        estimate = estimated(call, plan, identity, self.prices) if metered(bounds) else Estimate()
        await self.limits.reserve(permit, bounds, estimate, call.stream)


def entry_of(record: Record, idempotency: str = "") -> Entry:
    failed = tuple(_failed(record)) if len(record.tries) > 1 or record.outcome == "error" else ()
    return Entry(
        record.entry, record.time, record.id, record.tenant, record.virtual_key, record.model, record.task,
        record.dialect, record.upstream, record.provider_id, record.key, record.billing, record.billed_to,
        record.status, record.outcome, record.stream, record.cache, record.seconds, record.input_tokens,
        record.output_tokens, record.cached_tokens, record.reasoning_tokens, record.images, record.media_seconds,
        record.characters, record.estimated, record.cost, record.charge, len(record.tries), idempotency, failed,
    )  # fmt: skip


def _failed(record: Record) -> list[Attempt]:
    """The tries that did not serve. One that was answered, or timed out, may be asked for all the same."""
    return [
        Attempt(each.upstream, each.deployment, each.status, each.reason, each.seconds, each.seconds > 0.0)
        for each in record.tries
        if each.verdict != "serve"
    ]
