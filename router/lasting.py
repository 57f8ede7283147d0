"""What outlives a configuration: figures and the log, who rests, what limits have counted, the ledger, the stores.

Made once, opened before the first configuration's parts and closed after the last's. Serving goes on without any of
the stores: what they are for is then done by this process alone, and made up for when they are back.
"""

import asyncio
import importlib
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from router import rests, state
from router.accounts import Accounts
from router.bounds import Store
from router.claims import Claims, Memory
from router.coldstart import ColdStarts
from router.config import ConfigFaults, Loaded
from router.doorman import Heard
from router.health import Resting, Speeds
from router.ledger import Ledger
from router.limits import Limits
from router.metrics import Metrics
from router.recorder import Recorder
from router.rests import Rests, ToReplicas, ToSiblings
from router.seeds import Seeds
from router.series import Told
from router.siblings import Siblings
from router.spending import Spending
from router.stores import sql
from router.stores.claims import HostClaims
from router.stores.host import HostStore
from router.stores.memory import MemoryStore
from router.stores.storedkeys import StoredKeys
from router.upstream.names import Names

if TYPE_CHECKING:
    from router.stores.redis import Shared

KEYS_CHANGED: Final = "keys"
KEYS: Final = "keys.json"  # what the store's keys were, for a start without it

log = logging.getLogger("router")


class Lasting:
    """`ledger`, `stored` and `shared` are None where there is none of it."""

    def __init__(self, loaded: Loaded, siblings: Siblings) -> None:
        config = loaded.config
        self.siblings = siblings
        self.metrics = Metrics()
        self.recorder = Recorder(self.metrics, _log(config.telemetry.log))
        self.resting = Resting(config.rest)
        self.rests = Rests(self.resting)
        self.speeds = Speeds()
        self.names = Names()
        self.cold = ColdStarts()
        self.heard = Heard()
        self.local = _local(siblings)
        self.shared: Shared | None = None
        self.ledger_url = loaded.ledger
        self._directory = loaded.state
        self._said_so = bool(config.stores.ledger or config.stores.directory)
        self._spool = config.stores.spool
        self._shared_url = config.stores.shared
        self._idempotency = config.idempotency
        self.ledger: Ledger | None = None
        keys = self._directory / KEYS
        self.stored = StoredKeys(self.connect, self.ledger_url, keys, _keys_away) if self.ledger_url else None
        self.seeds: Seeds | None = None
        self._listening: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[object] | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self.claims: Claims = Memory(config.idempotency.max_bytes, config.idempotency.ttl)

    @property
    def store(self) -> Store:
        return self.local if self.shared is None else self.shared.limits

    def connect(self) -> sql.Database:
        """The ledger's database, for one who asks it beside the ledger."""
        return sql.database(self.ledger_url)

    async def open(self) -> None:
        self.recorder.open()
        if self._shared_url != "memory":
            replica = str(self.siblings.directory or "")
            redis = importlib.import_module("router.stores.redis")  # only where it is used: it is an extra
            self.shared = redis.Shared(self._shared_url, self.local, replica=replica)
            await self.shared.open()
        self._open_rests()
        self._open_ledger()
        if self.stored is not None:
            await asyncio.to_thread(self.stored.open)
            self.seeds = Seeds(self.store, self.connect, self._adopted)
        kept = self._idempotency
        if self.siblings.directory is not None and self.siblings.count > 1:
            path = self.siblings.directory / "claims.db"
            self.claims = HostClaims(path, self.siblings.index, kept.max_bytes, kept.ttl)
        if self.shared is not None:
            self.claims = self.shared.claims(self.claims, kept.max_bytes, kept.ttl)
            self._listening = asyncio.create_task(self.shared.changes.listen(self._changed))
        await self.claims.open()
        self.limits = Limits(self.store)
        self.accounts = Accounts(self.limits, self.ledger, self.seeds)
        self._sweeping = asyncio.create_task(self.limits.leases.follow())
        self.spending = Spending(self.store)

    def _open_rests(self) -> None:
        ways: list[Any] = [ToSiblings(self.siblings)] if self.siblings.count > 1 else []
        if self.shared is not None:
            ways.append(ToReplicas(self.shared.rests, self.rests))
        self.rests.open(*ways)

    def _open_ledger(self) -> None:
        if not self.ledger_url:
            return
        ledger = Ledger(self.connect(), state.spool_directory(self._directory), self._spool // self.siblings.count)
        try:
            ledger.open()
        except OSError as error:
            said = f"stores.directory: {self._directory} cannot be written to: {error.strerror}"
            if self._said_so:
                raise ConfigFaults([said]) from None
            log.warning("%s; nothing is written down of what requests use", said)
            self.ledger_url, self.stored = "", None
            return
        self.ledger = ledger

    def _adopted(self) -> bool:
        return self.ledger is None or self.ledger.adopted or self.ledger.away

    async def close(self) -> None:
        """What can be told and written is; the rest is found at the next start."""
        await self.rests.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
            self.limits.leases.reclaim()
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        if self.seeds is not None:
            await self.seeds.close()
        if self.stored is not None:
            await asyncio.to_thread(self.stored.close)
        if self.ledger is not None:
            await self.ledger.close()
        await self.claims.close()
        if self.shared is not None:
            await self.shared.close()
        if isinstance(self.local, HostStore):
            self.local.close()
        self.recorder.close()

    def keys_changed(self) -> None:
        """Of the store, here: whoever else has them looks at once, not only at the next time."""
        tell = self.siblings.ask_all(KEYS_CHANGED)
        self._telling = asyncio.get_running_loop().create_task(tell)  # held, or it may be collected
        if self.shared is not None:
            self.shared.changes.notify(KEYS_CHANGED)

    def look_at_keys(self) -> None:
        if self.stored is not None:
            self.stored.soon()

    def _changed(self, what: str) -> None:
        """Another replica says so; or, by an empty word, that something may have been missed."""
        if what in ("", KEYS_CHANGED):
            self.look_at_keys()

    def rested(self, message: str) -> None:
        """A sibling says who rests."""
        self.rests.merge(rests.read(message))

    def told(self) -> Iterator[Told]:
        """Figures that stores keep themselves."""
        ledger = self.ledger
        if ledger is not None:
            yield "router_ledger_lag_seconds", (), ledger.lag
            yield "router_ledger_waiting_entries", (), ledger.waiting
            yield "router_ledger_away", (), float(ledger.away)
            for result in ("written", "reconciled", "lost", "refused"):
                yield "router_ledger_entries", (result,), float(getattr(ledger, result))
        if self.shared is not None:
            yield "router_store_degraded", ("redis",), float(self.shared.degraded)
            yield "router_store_failures", ("redis",), float(sum(self.shared.limits.failures.values()))


def _log(where: str) -> BinaryIO | None:
    return sys.stdout.buffer if where == "json" else None


def _local(siblings: Siblings) -> MemoryStore | HostStore:
    directory = siblings.directory
    if directory is None or siblings.count == 1:
        return MemoryStore()
    return HostStore(directory / "limits", siblings.index, siblings.count)


def _keys_away(reason: str) -> None:
    if reason:
        log.warning("keys cannot be looked up (%s); those that are known go on", reason)
    else:
        log.warning("keys can be looked up again")
