"""What one request has on loan while it runs: keys that are counted, room at upstreams; each given back exactly once.

Nearly no request has any, so a story begins without. An attempt that failed gives back at once what it had, and used
nothing; what served is settled when its answer has ended.
"""

import os

from router.bounds import Reached
from router.ceiling import NOTHING, Ceiling, Uses
from router.keypool import KeyPool, Lent


class Loans:
    __slots__ = ("_keys", "_rooms")

    def __init__(self) -> None:
        self._keys: list[tuple[KeyPool, Lent]] = []
        self._rooms: list[tuple[Ceiling, str, Uses]] = []

    def key(self, pool: KeyPool, lent: Lent) -> None:
        self._keys.append((pool, lent))

    async def room(self, ceiling: Ceiling, foreseen: Uses = NOTHING) -> Reached | None:
        """What an upstream has used up; None where it has room for one more attempt, which is then taken."""
        hold = os.urandom(8).hex()
        reached = await ceiling.take(hold, foreseen)
        if reached is None:
            self._rooms.append((ceiling, hold, foreseen))
        return reached

    def close(self, used: Uses = NOTHING) -> None:
        """All that is out goes back; what was used is the last one's, which served."""
        keys, self._keys = self._keys, []
        rooms, self._rooms = self._rooms, []
        for pool, lent in keys:
            pool.give_back(lent)
        for place, (ceiling, hold, taken) in enumerate(rooms, 1):
            ceiling.settle(hold, taken, used if place == len(rooms) else NOTHING)
