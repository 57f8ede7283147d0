"""What may be used in how long, and by whom: the words that plans, keys, models and upstreams limit with.

A `Bound` is one limit of one of them; a `Store` counts against bounds, for this process, this host or all replicas
(router/stores). A rate is a bucket (GCRA): all of it may be used at once, and it fills again evenly. Money is of the
calendar's day, week, month or year in UTC. What a call may come to is taken before it is made and settled after it.
"""

from collections.abc import Awaitable, Sequence
from typing import Final, Literal, Protocol, runtime_checkable

import msgspec
from pydantic import Field

from router.settings import Money, Rate, Settings

Kind = Literal["requests", "tokens", "input_tokens", "output_tokens", "concurrency", "budget"]
Scope = Literal["tenant", "key", "model", "upstream"]

NANO: Final = 1_000_000_000  # nano-USD to the dollar, nanoseconds to the second
RATES: Final = ("requests", "tokens", "input_tokens", "output_tokens")


class LimitSettings(Settings):
    """How much in how long. All that is left out is without a limit."""

    requests: Rate | None = None
    tokens: Rate | None = None  # read and written together
    input_tokens: Rate | None = None
    output_tokens: Rate | None = None
    concurrency: int | None = Field(default=None, ge=1)  # requests that may run at once
    budget: Money | None = None


class Bound(msgspec.Struct, frozen=True):
    """`name` is what it is counted under, the same after a reload. `amount` in requests, tokens or nano-USD.

    A rate has `seconds`; a budget a calendar's `period` in UTC, or none, for ever; concurrency has neither.
    """

    name: str
    scope: Scope
    of: str  # whose it is: a tenant's name, a key's, a model's, an upstream's
    kind: Kind
    amount: int
    seconds: float = 0.0
    period: str = ""


class Reached(msgspec.Struct, frozen=True):
    """A bound that leaves no room. `used`: of its amount, reserved included; `resets`: seconds until there is room for
    what was asked, as far as is known; None where that is for ever.
    """

    bound: Bound
    used: int
    resets: float | None


class Level(msgspec.Struct, frozen=True):
    """How full a bound is. `resets`: seconds until it is empty again; None: never."""

    used: int
    resets: float | None


Asked = Sequence[tuple[Bound, int]]  # what is to be taken
Held = Sequence[tuple[Bound, int, int]]  # what was taken, and what of it was used in the end (it may be more)


class Store(Protocol):
    """Counts. `hold` names one request's takings, so that a repeated message counts once and a lost one ends.

    `settle` is final: a rate or a budget then stands at what was used, concurrency goes down by what was taken. Used up
    or not, `settle` and `add` always succeed.
    """

    remote: bool  # take must be awaited: it asks another machine

    def take(self, asked: Asked, hold: str) -> Reached | Awaitable[Reached | None] | None:
        """All of it or, where one bound has no room, nothing."""
        ...

    def settle(self, held: Held, hold: str) -> None: ...

    def add(self, bound: Bound, amount: int) -> None:
        """So much was used, whatever the bound says."""
        ...

    def level(self, bound: Bound) -> Level:
        """As far as is known here, without asking anybody."""
        ...

    def seed(self, bound: Bound, used: int) -> None:
        """A budget's present period has seen at least so much (as the ledger says)."""
        ...


class Grip(Protocol):
    """Some bounds of a store, found once: for those that come again and again."""

    def settle(self, used: Sequence[int], hold: str) -> None:
        """As the store's. `used`: of each kind, at the places that the bounds were named with."""
        ...

    def room(self, unused: int) -> Sequence[tuple[int, int]]:
        """Of each bound, how much is left, with so many times of what is taken of it; and nanoseconds until it is empty
        again.
        """
        ...


@runtime_checkable
class Local(Store, Protocol):
    """One that counts in this process or on this host."""

    def grip(self, held: Held) -> Grip:
        """`held`: bounds, what is taken of each every time, and the place in `used` of what it comes to."""
        ...


def name_of(bound: Bound) -> str:
    """What a tenant's limit is called in figures: by its kind, and whose it is where it is not the tenant's own."""
    return bound.kind if bound.scope == "tenant" else f"{bound.scope} {bound.kind}"


def bounds_of(scope: Scope, of: str, limits: LimitSettings, part: str = "") -> tuple[Bound, ...]:
    """The bounds that settings come to. `part`: where one has several sets of them, which."""
    found: list[Bound] = []
    stem = f"{scope}/{of}/{part}/" if part else f"{scope}/{of}/"
    for kind in RATES:
        rate: Rate | None = getattr(limits, kind)
        if rate is not None:
            found.append(Bound(stem + kind, scope, of, kind, rate.count, rate.seconds))
    if limits.concurrency is not None:
        found.append(Bound(f"{stem}concurrency", scope, of, "concurrency", limits.concurrency))
    if limits.budget is not None:
        amount = round(limits.budget.amount * NANO)
        found.append(Bound(f"{stem}budget", scope, of, "budget", amount, 0.0, limits.budget.period))
    return tuple(found)
