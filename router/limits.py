"""What a request may use: admitted by its head, reserved for by its body, settled once when it has ended.

At the head a tenant's requests and what runs at once are counted, before any of the body is read. When the model is
known, tokens and money are reserved: the most that the request may come to. In the end only what was used stays. A
stream that comes near the end of its reservation asks for more; where there is no more it ends there (the fuse).

Counting is a Store's (router/bounds.py, router/stores); this file says what is asked of it, and words its refusals.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from time import monotonic
from typing import Final

from providers.spec import Fault
from router import charges, estimates, units
from router.bounds import Bound, Kind, Reached, Store, name_of
from router.call import Call
from router.errors import Refused
from router.identity import Identity
from router.leases import INPUT, Lease, Leases
from router.permit import FUSED, NEAR, Estimate, Held, Permit
from router.price import Price
from router.prices import Prices
from router.record import Record
from router.refusals import limit_of, refusal, seconds_of, span_of
from router.routing import Candidate, Plan
from router.usage import Usage

STEP: Final = 1024  # tokens that a stream asks for when it nears the end of what it has
GROWING: Final = ("tokens", "output_tokens", "budget")  # with what an answer writes
TAGS: Final = 1000  # pairs of tenant and limit that are counted apart
_SHOWN: Final = b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%b\r\n"


class Limits:
    """One for the life of the process; what it counts outlives configurations."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._remote = store.remote
        self.leases = Leases(store)
        self.refused: dict[tuple[str, str], int] = {}  # (tenant, limit) → how often

    @property
    def store(self) -> Store:
        return self._store

    def admits(self, permit: Permit) -> bool:
        """As `admit`, of a store that answers at once; False where another machine must be asked."""
        if self._remote:
            return False
        if asked := permit.identity.admission:
            reached = self._store.take(asked, permit.hold)
            assert reached is None or isinstance(reached, Reached)
            self._admitted(permit, reached)
        return True

    async def admit(self, permit: Permit) -> None:
        """Raises Refused where the tenant or its key has had its requests, or as many run as may."""
        if asked := permit.identity.admission:
            self._admitted(permit, await self._take(asked, permit.hold))

    def _admitted(self, permit: Permit, reached: Reached | None) -> None:
        if reached is not None:
            raise self._refusal(permit.identity, reached)
        permit.held = permit.identity.admission

    def lend(self, permit: Permit, lease: Lease, call: Call) -> bool:
        """Whether the request's reservation is a part of a bundle that was taken before."""
        if not lease.covers(call):
            return False
        now = monotonic()
        if lease.left and now < lease.ends_at:
            lease.left -= 1
        elif not self.leases.takes(lease, now):
            return False
        permit.lease = lease
        permit.leased = lease.hold
        permit.bounds = lease.bounds
        permit.estimate = lease.estimate
        if call.stream and any(each.kind in GROWING for each in lease.bounds):
            permit.most, permit.fused = lease.estimate.output, True
        return True

    async def reserve(self, permit: Permit, bounds: tuple[Bound, ...], estimate: Estimate, stream: bool) -> None:
        """Raises Refused where what the request may come to is more than is left; then it holds nothing any more."""
        permit.bounds = bounds
        permit.estimate = estimate
        output = estimate.output
        reached = await self._take(_asked(bounds, estimate, output), permit.hold)
        if reached is not None and self.leases.reclaim():
            reached = await self._take(_asked(bounds, estimate, output), permit.hold)
        if reached is not None and stream and not estimate.named:  # its fuse ends it where it has to
            output = max(NEAR, self._fitting(bounds, estimate))
            reached = await self._take(_asked(bounds, estimate, output), permit.hold)
        if reached is not None:
            self._give_back(permit)
            asked = {bound.name: amount for bound, amount in _asked(bounds, estimate, output)}
            raise self._refusal(permit.identity, reached, asked[reached.bound.name])
        permit.held += tuple(_asked(bounds, estimate, output))
        if stream and any(each.kind in GROWING for each in bounds):
            permit.most, permit.fused = output, True

    async def extend(self, permit: Permit) -> bool:
        """A stream wants to go on beyond its reservation: whether it may."""
        for asked, hold, step in self._steps(permit):
            if await self._take(asked, hold) is None:
                permit.extended += ((hold, asked),)
                permit.most += step
                return True
        return False

    def widen(self, permit: Permit) -> bool | None:
        """The same without waiting; None where another machine would have to be asked."""
        if self._remote:
            return None
        for asked, hold, step in self._steps(permit):
            if self._store.take(asked, hold) is None:
                permit.extended += ((hold, asked),)
                permit.most += step
                return True
        return False

    def _steps(self, permit: Permit) -> Iterator[tuple[list[tuple[Bound, int]], str, int]]:
        """What may be asked for, the most first: what was written already is in each."""
        wider = [each for each in permit.bounds if each.kind in GROWING]
        short = max(0, permit.written - permit.most)
        for step in (short + STEP, short + NEAR, short):
            if step:
                asked = [(each, self._of_output(each, permit.estimate, step)) for each in wider]
                yield asked, f"{permit.hold}+{permit.most}", step

    def settle(self, permit: Permit, record: Record) -> None:
        """The request has ended: what it used stays counted, all else is given back."""
        if permit.lease is not None:
            permit.lease.settle(record, permit.leased)
        elif permit.held:
            held = [(bound, amount, _used(bound, amount, record)) for bound, amount in permit.held]
            self._store.settle(held, permit.hold)
        permit.held, permit.lease = (), None
        if permit.extended:
            extended, permit.extended = permit.extended, ()
            for hold, asked in extended:
                self._store.settle([(bound, amount, 0) for bound, amount in asked], hold)

    def _give_back(self, permit: Permit) -> None:
        """It was refused before anything was done for it."""
        self._store.settle([(bound, amount, 0) for bound, amount in permit.held], permit.hold)
        permit.held = ()

    async def _take(self, asked: Sequence[tuple[Bound, int]], hold: str) -> Reached | None:
        taken = self._store.take(asked, hold)
        if self._remote and taken is not None and not isinstance(taken, Reached):
            return await taken
        assert taken is None or isinstance(taken, Reached)
        return taken

    def _fitting(self, bounds: Sequence[Bound], estimate: Estimate) -> int:
        """Output tokens that there is room for, as far as is known here."""
        found = estimate.output
        for bound in bounds:
            free = bound.amount - self._store.level(bound).used
            if bound.kind == "output_tokens":
                found = min(found, free)
            elif bound.kind == "tokens":
                found = min(found, free - estimate.input)
            elif bound.kind == "budget" and estimate.price and estimate.output:
                beside = estimate.price - self._of_output(bound, estimate, estimate.output)
                each = max(1, -(-(estimate.price - beside) // estimate.output))
                found = min(found, (free - beside) // each)
        return found

    def fault(self, permit: Permit) -> Fault:
        """What a stream that is ended is told: which limit has the least room, as a share."""
        spent = [each for each in permit.bounds if each.kind in GROWING]
        tightest = max(spent, key=lambda each: self._store.level(each).used / max(1, each.amount))
        return Fault(402, FUSED, f"The answer was ended: {limit_of(tightest)} leaves no room for more.")

    @staticmethod
    def _of_output(bound: Bound, estimate: Estimate, tokens: int) -> int:
        """What so many tokens more come to."""
        return tokens if bound.kind != "budget" else _money(estimate, tokens)

    # What the caller is told

    def told(self, permit: Permit) -> bytes:
        """`x-ratelimit-…` for requests and tokens, of the bound with the least room of each."""
        lease = permit.lease
        if lease is not None and lease.shown is not None:
            figures: list[int | bytes] = []
            for left, ahead in lease.shown.room(lease.left):
                figures += (left, span_of(ahead))
            return lease.head % tuple(figures)
        requests = self._tightest([bound for bound, _ in permit.identity.admission if bound.kind == "requests"], None)
        bounds = permit.bounds or permit.identity.reserved
        return requests + self._tightest([bound for bound in bounds if bound.kind == "tokens"], permit.lease)

    def _tightest(self, bounds: list[Bound], lease: Held | None) -> bytes:
        if not bounds:
            return b""
        bound = bounds[0]
        level = self._store.level(bound)
        for other in bounds[1:]:
            more = self._store.level(other)
            if other.amount - more.used < bound.amount - level.used:
                bound, level = other, more
        used = level.used - (lease.unused(bound) if lease is not None else 0)
        return _template(bound) % (max(0, bound.amount - used), seconds_of(level.resets))

    def show(self, lease: Lease, identity: Identity) -> None:
        """Make ready what the heads of answers say, where no more than one bound of a kind has to be looked at."""
        requests = [(bound, 0) for bound, _ in identity.admission if bound.kind == "requests"]
        tokens = [(bound, amount) for bound, amount in lease.part if bound.kind == "tokens"]
        if lease.part and len(requests) < 2 and len(tokens) < 2:
            shown = requests + tokens
            lease.shown = self.leases.grip([(bound, part, 0) for bound, part in shown])
            lease.head = b"".join(_template(bound) for bound, _ in shown)

    def _refusal(self, identity: Identity, reached: Reached, asked: int = 1) -> Refused:
        bound = reached.bound
        tag = (identity.tenant, name_of(bound))
        if tag in self.refused or len(self.refused) < TAGS:
            self.refused[tag] = self.refused.get(tag, 0) + 1
        return refusal(reached, asked)


def _template(bound: Bound) -> bytes:
    kind = bound.kind.encode()
    return _SHOWN % (kind, bound.amount, kind, kind)


def metered(bounds: Iterable[Bound]) -> bool:
    """Whether any of them counts tokens or money, which must be estimated."""
    return any(each.kind not in ("requests", "concurrency") for each in bounds)


def _asked(bounds: Iterable[Bound], estimate: Estimate, output: int) -> list[tuple[Bound, int]]:
    money = estimate.price or 0
    if output != estimate.output:
        money = max(0, money - _money(estimate, estimate.output - output))
    amounts: dict[Kind, int] = {
        "requests": 1,
        "concurrency": 1,
        "input_tokens": estimate.input,
        "output_tokens": output,
        "tokens": estimate.input + output,
        "budget": money,
    }
    return [(bound, amounts[bound.kind]) for bound in bounds]


def _money(estimate: Estimate, tokens: int) -> int:
    """What so many tokens of output come to beside the rest of it."""
    rate = estimate.rate
    if rate is None:
        return 0
    whole, rest = (charges.most_cost(estimate.input, each, None, rate) or 0 for each in (tokens, 0))
    return charges.charge_of(whole - rest, estimate.markup, "routed") or 0


def _used(bound: Bound, taken: int, record: Record) -> int:
    match bound.kind:
        case "requests":
            return taken
        case "concurrency":
            return 0
        case "input_tokens":
            return record.input_tokens
        case "output_tokens":
            return record.output_tokens
        case "tokens":
            return record.input_tokens + record.output_tokens
        case "budget":
            return record.charge or 0


def estimated(call: Call, plan: Plan, identity: Identity, prices: Prices) -> Estimate:
    """The most that a call may come to at any of the deployments that it may be sent to."""
    most = [estimates.most_output(call, each) for each in plan.attempts]
    read = estimates.estimate_input(call)
    found = _dearest(plan, identity, prices, read, most, units.asked(call))
    return replace(found, named=estimates.says_most(call))


def _dearest(
    plan: Plan, identity: Identity, prices: Prices, read: int, outputs: Sequence[int], pieces: Usage | None
) -> Estimate:
    markup = charges.markup_of(identity.markup)
    written = 0
    dearest: int | None = None
    rate: Price | None = None
    for candidate, most in zip(plan.attempts, outputs, strict=True):
        written = max(written, most)
        price = None if owned(identity, candidate) else prices.of(candidate)
        cost = charges.most_cost(read, most, pieces, price)
        charge = charges.charge_of(cost, markup, "routed")
        if charge is not None and (dearest is None or charge > dearest):
            dearest, rate = charge, price
    return Estimate(read, written, dearest, rate, markup)


def parts_of(plan: Plan, identity: Identity, prices: Prices) -> list[tuple[Estimate, bool]]:
    """What a request of this plan may come to at its worst, by how much it asks for; the flag: or does not say."""
    most = max((each.deployment.context or estimates.DEFAULT for each in plan.attempts), default=estimates.DEFAULT)
    sizes = [(most, True), *((each, False) for each in (4096, 1024, 256) if each < most)]
    count = len(plan.attempts)
    return [(_dearest(plan, identity, prices, INPUT, [each] * count, None), is_open) for each, is_open in sizes]


def owned(identity: Identity, candidate: Candidate) -> bool:
    """Whether the tenant pays that provider itself."""
    if identity.user_key is not None:
        return True
    stored = identity.stored_keys
    return identity.own_first and (candidate.deployment.upstream in stored or candidate.provider.name in stored)
