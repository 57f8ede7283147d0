"""What the operator writes about one upstream."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from router.bounds import LimitSettings
from router.secrets import Secret
from router.settings import Duration, Matching, Settings


class Timeouts(Settings):
    """Clocks of one call (DECISIONS, "Clocks"); all in seconds once read."""

    connect: Duration = 5.0  # TCP and TLS
    first_event: Duration = 10.0  # streams: until the first event, while another candidate remains
    silence: Duration = 15.0  # streams: between two reads, while another candidate remains
    last_candidate: Duration = 120.0  # streams: both of the above where nothing else is left to try
    total: Duration = 600.0  # the whole call
    queue: Duration = 5.0  # waiting for a free connection
    idle: Duration = 15.0  # an unused connection is kept this long; keep it below the peer's own limit


class Tls(Settings):
    """Trust and identity towards one upstream; the system's trust store when empty."""

    ca: str = ""  # PEM file with the authorities to trust instead of the system's
    cert: str = ""  # PEM client certificate (with its key, or beside `key`)
    key: str = ""


class ProviderKey(LimitSettings):
    """One of an upstream's keys, and how much it may be used: the key alone, or with its own weight and limits."""

    key: Secret
    name: Annotated[str, Matching(r"^([A-Za-z0-9][\w.-]{0,31})?$")] = ""  # in figures; empty: digits of its SHA-256
    weight: float = Field(default=1.0, gt=0, le=1000)  # its share of the requests, against the others'

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, value: Any) -> Any:
        return value if isinstance(value, dict | cls) else {"key": value}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string", "format": "password"}, handler(core)]}

    def reveal(self) -> str:
        return self.key.reveal()

    def __bool__(self) -> bool:
        return bool(self.key)


def _told_apart(keys: list[ProviderKey]) -> list[ProviderKey]:
    names = [each.name for each in keys if each.name]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two keys are named {name}")
    return keys


class UpstreamSettings(Settings):
    """A configured place: provider + base_url + keys + timeouts."""

    provider: str
    base_url: str = ""  # empty: the provider's own
    keys: Annotated[list[ProviderKey], AfterValidator(_told_apart)] = Field(default=[])  # pooled; empty ones left out
    limits: LimitSettings = LimitSettings()  # of the upstream as a whole; one that is full is passed over
    headers: dict[str, str] = Field(default_factory=dict)  # sent with every request
    timeouts: Timeouts = Timeouts()
    models: Literal["discover"] | list[str] = Field(default_factory=list)  # ids served beside the tables' rows
    discover_every: Duration = 60.0
    when: Literal["always", "answers"] = "always"  # answers: only while its probe is answered
    connections: int = Field(default=256, ge=1)  # open at once; more wait in line
    proxy: str = ""  # http://host:port; empty: HTTPS_PROXY / HTTP_PROXY / NO_PROXY of the environment
    tls: Tls = Tls()
    url_inputs: Literal["refuse", "pass"] = "refuse"  # http(s) URLs inside bodies, for local backends
    fetch_from: list[str] = Field(default_factory=list)  # origins or networks that its answers may be fetched from
    pass_through: bool | None = None  # its whole API at /{name}/…; None: a hosted provider's, not one's own server's
