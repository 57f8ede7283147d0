"""What one configuration makes: keyring, upstreams, table, pipeline; opened, used and let go as one.

A reload makes another and swaps the whole. The old one's requests go on with what they began with; when the last of
them has ended its connections are closed. What a reload must not touch (figures, log, who rests) is handed in.
"""

import asyncio
from collections.abc import Iterator
from typing import Final

import providers
from router import config
from router.attempts import Walker
from router.bounds import name_of
from router.ceiling import Ceiling
from router.config import Loaded
from router.cors import Cors
from router.doorman import Doorman
from router.exchange import Exchange
from router.idempotency import Idempotency
from router.keeping import Keeper
from router.keypool import KeyPool
from router.keys import Keyring
from router.lasting import Lasting
from router.live import Live
from router.load import Load
from router.outgoing import Upstream
from router.passthrough import Passthrough
from router.pipeline import Pipeline
from router.routing import RouteSettings, Table
from router.secrets import Scrubber
from router.series import Told
from router.upstream.fetch import Fetcher
from router.upstream.pool import Pool


class Parts:
    """`sandbox`: the address of the one in this process, where an upstream needs it. `before`: what these replace."""

    def __init__(self, loaded: Loaded, lasting: Lasting, sandbox: str, before: "Parts | None" = None) -> None:
        settings = loaded.config
        self.loaded = loaded
        self.lasting = lasting
        self.keyring = Keyring(
            settings.auth,
            settings.plans,
            settings.virtual_keys,
            stored=lasting.stored is not None,
            loopback=config.on_loopback(settings.server.host),
        )
        lasting.metrics.tenants = frozenset(self.keyring.tenants())
        self.doorman = Doorman(self.keyring, settings.auth, lasting.heard)
        self.upstreams: dict[str, Upstream] = {}
        for name, each in settings.upstreams.items():
            provider = providers.find(each.provider)
            assert provider is not None, "checked at load"
            base_url = each.base_url or provider.base_url or sandbox
            known = before.upstreams[name].keys if before is not None and name in before.upstreams else None
            keys = KeyPool(name, each.keys, lasting.resting, store=lasting.store, rests=lasting.rests, before=known)
            ceiling = Ceiling(name, each.limits, lasting.store)
            self.upstreams[name] = Upstream(
                name,
                provider,
                each,
                keys,
                base_url,
                settings.retry.budget,
                lasting.names,
                ceiling if ceiling.bounds else None,
            )
        lasting.resting.settings = settings.rest
        scrubber = Scrubber(config.secrets_of(settings))
        self._exchange = Exchange(Fetcher(lasting.names))
        asking = {
            each.upstream for route in settings.models.values() if _asks_load(route) for each in route.deployments
        }
        self._load = Load(each for name, each in self.upstreams.items() if name in asking)
        self.pipeline = Pipeline(
            table=config.table_of(loaded),
            keyring=self.keyring,
            doorman=self.doorman,
            walker=Walker(
                self.upstreams,
                lasting.rests,
                lasting.speeds,
                settings.retry,
                scrubber,
                self._exchange,
                self._load,
                lasting.cold,
            ),
            recorder=lasting.recorder,
            resting=lasting.resting,
            accounts=lasting.accounts,
            max_body=settings.server.max_body,
            max_upload=settings.server.max_upload,
            default_models=settings.default_models,
            scrubber=scrubber,
            spending=lasting.spending,
            keeper=Keeper(
                settings.cache,
                int(loaded.digest or "0", 16),
                shared=lasting.shared.answers if lasting.shared is not None else None,
            ),
            idempotency=Idempotency(settings.idempotency, lasting.claims),
            off=lambda model: [
                name for name, each in loaded.off.items() if model in loaded.tables.get(each.provider, {})
            ],
            passthrough=Passthrough(self.upstreams, scrubber, settings.server.max_body, settings.retry),
        )
        self.cors = Cors(settings.server.cors) if settings.server.cors else None
        self._live = Live(self.upstreams, lambda: self.pipeline.table, self._swap)
        self._take_over(before)
        lasting.accounts.forget()

    def _swap(self, table: Table) -> None:
        self.pipeline.table = table

    def _take_over(self, before: "Parts | None") -> None:
        """What upstreams that stay as they were have listed, and that they answer, is believed until they are asked."""
        table = self.pipeline.table
        same = [
            name
            for name, each in self.upstreams.items()
            if before is not None and name in before.upstreams and before.upstreams[name].settings == each.settings
        ]
        known = before.pipeline.table if before is not None else table
        discovered = {name: ids for name, ids in known.discovered.items() if name in same} | dict(table.discovered)
        silent = frozenset(each for each in self._live.silent() if each not in same or each in known.silent)
        purposes = {name: task for name, task in known.purposes.items() if name in same}
        self.pipeline.table = table.with_live(discovered, silent, purposes)

    async def open(self) -> None:
        self.pipeline.open()
        self._load.open()
        await self._sow()
        await self._live.open()
        if self.lasting.stored is not None:
            await asyncio.to_thread(self.lasting.stored.attach, self.keyring)  # very many keys take a second

    async def _sow(self) -> None:
        """What upstreams and keys had spent before this process counted. A tenant's is asked for when it comes."""
        seeds = self.lasting.seeds
        places = self.upstreams.values()
        bounds = [
            bound for each in places for bound in (*(each.ceiling.bounds if each.ceiling else ()), *each.keys.bounds())
        ]
        if seeds is not None and (missing := seeds.missing(bounds)):
            await seeds.sow(missing)

    async def retire(self) -> None:
        """Let what runs end, then close."""
        await self._live.close()
        await self._load.close()
        for pool in self._pools():
            pool.retire()
        await self.pipeline.emptied()
        await self.close()

    async def close(self) -> None:
        if self.lasting.stored is not None:
            await asyncio.to_thread(self.lasting.stored.detach, self.keyring)
        await self._live.close()
        await self._load.close()
        await self._exchange.close()
        await self.doorman.close()
        for pool in self._pools():
            await pool.close()

    def told(self, now: float) -> Iterator[Told]:
        """How full the limits of the file's tenants are, and what is left of the providers' own."""
        yield "router_config_info", (self.loaded.digest,), 1.0
        store = self.lasting.store
        for identity in self.keyring.of_file():
            for bound in (*(each for each, _ in identity.admission), *identity.reserved):
                marks = (identity.tenant, name_of(bound))
                yield "router_limit_used_ratio", marks, store.level(bound).used / max(1, bound.amount)
        for name, upstream in self.upstreams.items():
            for key in upstream.keys.state(now):
                if key.left is not None:
                    yield "router_key_headroom_ratio", (name, key.name.partition("/")[2]), key.left

    def _pools(self) -> list[Pool]:
        return [pool for upstream in self.upstreams.values() for pool in upstream.pools()]


def _asks_load(route: RouteSettings) -> bool:
    return route.policy == "least_busy" or (route.spill is not None and route.spill.queue is not None)


# Settings of `server` that a reload cannot change.
_AT_START: Final = ("host", "port", "workers", "tls", "drain", "drain_delay")


def needs_a_restart(before: Loaded, after: Loaded) -> list[str]:
    """A line for each setting that differs and cannot be changed while it runs."""
    old, new = before.config, after.config
    changed = [f"server.{name}" for name in _AT_START if getattr(old.server, name) != getattr(new.server, name)]
    changed += ["stores"] if old.stores != new.stores else []
    changed += ["telemetry.listen"] if old.telemetry.listen != new.telemetry.listen else []
    changed += ["telemetry.log"] if old.telemetry.log != new.telemetry.log else []
    return [f"{name} takes effect at the next start" for name in changed]
