"""What one request holds of its limits, and what it may come to. Who grants it is router/limits.py."""

from dataclasses import dataclass
from typing import Final, Protocol

from providers.spec import Fault
from router.bounds import Bound, Grip
from router.identity import Identity
from router.price import Price
from router.record import Record

FUSED: Final = "budget_exceeded"
NEAR: Final = 64  # tokens before the end of a stream's reservation


@dataclass(frozen=True, slots=True)
class Estimate:
    """The most that a request may come to. `price` in nano-USD for all of it; None where nobody knows."""

    input: int = 0
    output: int = 0
    price: int | None = None
    rate: Price | None = None  # of the dearest candidate: what more of it costs
    markup: int = 0  # in millionths, that is in all of it
    named: bool = True  # the request itself says how much it wants at most


NOTHING: Final = Estimate()


class Held(Protocol):
    """The part of a lease (router/leases.py) that is settled in the end."""

    left: int
    shown: Grip | None
    head: bytes

    def settle(self, record: Record, hold: str) -> None: ...
    def unused(self, bound: Bound) -> int: ...


class Grants(Protocol):
    """The part of router/limits.py that a permit comes back to."""

    def told(self, permit: "Permit") -> bytes: ...
    async def extend(self, permit: "Permit") -> bool: ...
    def widen(self, permit: "Permit") -> bool | None: ...
    def fault(self, permit: "Permit") -> Fault: ...


class Permit:
    """`hold` is the name that the store knows it by. `most`: tokens reserved for its answer; `fused`: which ends there,
    unless there is more to be had.
    """

    held: tuple[tuple[Bound, int], ...] = ()
    lease: Held | None  # of which it has a part, under the name of `leased`
    leased: str = ""
    extended: tuple[tuple[str, list[tuple[Bound, int]]], ...] = ()  # under holds of their own
    bounds: tuple[Bound, ...] = ()  # that the reservation counts against
    estimate: Estimate = NOTHING
    most: int = 0  # output tokens reserved
    written: int = 0  # of those, what a stream has passed on
    fused: bool = False
    more: bool = True  # there may be more to be had

    def __init__(self, limits: Grants, identity: Identity, hold: str) -> None:
        self.limits = limits
        self.identity = identity
        self.hold = hold
        self.lease = None

    def told(self) -> bytes:
        """What the answer's head says of limits."""
        return self.limits.told(self)

    async def extend(self) -> None:
        """Ask for more, for a stream that has nearly used up what it has."""
        self.more = await self.limits.extend(self)

    def widen(self) -> bool:
        """More at once, for what has come already: whether that may go on. Where another machine must be asked first,
        it may, for as long as one read is.
        """
        if self.more:
            self.more = self.limits.widen(self) is not False
        return self.more

    def fault(self) -> Fault:
        """What its stream is told, which ends here."""
        return self.limits.fault(self)
