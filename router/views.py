"""What tenants and operators see of usage: where router/usage_views.py asks."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from router.bounds import Bound, Level
from router.keys import Headers, Identity
from router.lasting import Lasting


class Using(Protocol):
    """The part of the app that knows who calls."""

    async def who(self, headers: Headers) -> Identity: ...


class Views:
    def __init__(self, using: Using, lasting: Lasting) -> None:
        self._using = using
        self._lasting = lasting

    async def who(self, headers: Headers) -> Identity:
        return await self._using.who(headers)

    @property
    def ledger(self) -> str:
        return self._lasting.ledger_url

    def bounds(self, identity: Identity) -> Sequence[Bound]:
        return (*(bound for bound, _ in identity.admission), *identity.reserved)

    def level(self, bound: Bound) -> Level:
        level = self._lasting.store.level(bound)
        return msgspec.structs.replace(level, used=level.used - self._lasting.limits.leases.unused(bound))
