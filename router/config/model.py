"""The whole of config.yaml as one frozen record, composed of the settings that each part owns.

Beside it stand the settings whose part is not a policy of its own: where to listen, what to show, what to keep.
`NOT_ENFORCED` says openly which of them this version reads and does nothing with.
"""

import ipaddress
import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from router.cache import CacheSettings
from router.claims import IdempotencySettings
from router.keys import AuthSettings, PlanSettings, VirtualKey
from router.retry import RestSettings, RetrySettings
from router.routing import RouteSettings
from router.settings import Duration, Settings, Size
from router.upstream.settings import UpstreamSettings

NOT_ENFORCED: Final = ("telemetry.otlp",)

_ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?/?").fullmatch
_ADDRESS: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]*):(\d{1,5})").fullmatch


def _address(value: str) -> str:
    found = _ADDRESS(value)
    if value and (found is None or int(found[1]) > 65535):
        raise ValueError("expected an address such as 0.0.0.0:9090")
    return value


def _origin(value: str) -> str:
    if value != "*" and not _ORIGIN(value):
        raise ValueError('expected an origin such as https://app.example, or "*"')
    return value


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError("expected a network such as 10.0.0.0/8") from None
    return value


class ServerTls(Settings):
    """PEM files."""

    cert: str
    key: str


class ServerSettings(Settings):
    """Where to listen, and the bounds of what comes in."""

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8080, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=256)
    max_body: Size = 20 * 2**20  # of a JSON request
    max_upload: Size = 200 * 2**20  # of a multipart request
    drain: Duration = 30.0  # after SIGTERM, for answers under way
    drain_delay: Duration = 1.0  # of those, how long everybody is still served while readiness says 503
    tls: ServerTls | None = None
    cors: list[Annotated[str, AfterValidator(_origin)]] = Field(default=[])  # that browsers may ask from; "*": all
    # Where proxies stand before the router a caller from loopback may be anybody: operators send the admin key.
    trusted_proxies: list[Annotated[str, AfterValidator(_network)]] = Field(default=[])


class StoresSettings(Settings):
    """Where state is kept. Serving goes on without any of it."""

    # Limits, who rests, kept answers: of this host alone (memory), or of all replicas on one Redis.
    shared: str = Field(default="memory", pattern=r"^(memory$|rediss?://|unix://)")
    # What was used and what it costs, and the keys made by `keys create`; empty: SQLite in `directory`.
    ledger: str = Field(default="", pattern=r"^$|^off$|^sqlite:///.|^postgresql://.")
    directory: str = ""  # for the ledger and what waits to be written into it; empty: the platform's, for state
    spool: Size = 2**30  # of what waits, at most; beyond that nothing that somebody pays for is served


class TelemetrySettings(Settings):
    """What is shown, and where."""

    metrics: bool = True
    listen: Annotated[str, AfterValidator(_address)] = ""  # a port of its own for /metrics and /health
    otlp: str = ""
    log: Literal["json", "off"] = "json"


class Config(Settings):
    """config.yaml."""

    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    plans: dict[str, PlanSettings] = Field(default={})
    virtual_keys: list[VirtualKey] = Field(default=[])
    upstreams: dict[str, UpstreamSettings] = Field(default={})  # in the order in which they are tried
    tables: list[str] = Field(default=["builtin:*.yaml", "tables/*.yaml"])  # files or patterns; later ones win
    models: dict[str, RouteSettings] = Field(default={})  # explicit routes; they win over the tables
    default_models: dict[str, str] = Field(default={})  # task → id, for paths that name no model
    retry: RetrySettings = RetrySettings()
    rest: RestSettings = RestSettings()
    cache: CacheSettings = CacheSettings()
    idempotency: IdempotencySettings = IdempotencySettings()
    stores: StoresSettings = StoresSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
