"""What routing is told: its settings in the file, and the rows of the tables."""

from collections.abc import Mapping
from typing import Literal

import msgspec
from pydantic import Field

from providers.spec import ANY_TASK, Task
from router.bounds import LimitSettings
from router.settings import Duration, Money, Settings

Can = Literal["tools", "json", "prefill", "vision"]
Policy = Literal["ordered", "weighted", "fastest", "cheapest", "least_busy"]


class FimSettings(Settings):
    """The marks that a code model was trained to fill in the middle with."""

    prefix: str
    suffix: str
    middle: str


class PriceSettings(Settings):
    """What a place asks, in USD. What is left out is not known; 0 is a price."""

    input: float | None = Field(default=None, ge=0)  # per million tokens, these five
    output: float | None = Field(default=None, ge=0)
    cached_input: float | None = Field(default=None, ge=0)
    cache_write: float | None = Field(default=None, ge=0)
    reasoning: float | None = Field(default=None, ge=0)
    image: float | None = Field(default=None, ge=0)  # a piece, these three
    second: float | None = Field(default=None, ge=0)
    character: float | None = Field(default=None, ge=0)


class DeploymentSettings(Settings):
    """One upstream of a route, and the id under which it knows the model."""

    upstream: str
    provider_id: str = ""  # empty: the table's, else the model's own id
    weight: float = Field(default=1.0, gt=0)
    context: int | None = Field(default=None, gt=0)  # tokens
    fim: FimSettings | None = None  # for a server that takes no `suffix` of its own
    can: list[Can] | None = None  # None: what its table row says
    price: PriceSettings | None = None  # None: what its table row says, else what genai-prices lists


class SpillSettings(Settings):
    """When calls go on to hosted deployments although one of our own could take them: it is crowded or slow."""

    queue: int | None = Field(default=None, ge=1)  # requests that run or wait at it
    first_token: Duration | None = None  # seconds until its first event, as the last ones were
    most: Money | None = None  # what hosted deployments of this route may cost; then our own have all of it


class RouteSettings(Settings):
    """`models.<id>`: either deployments, or an alias of another model. `*` in the id is a wildcard."""

    task: str = ANY_TASK
    policy: Policy = "ordered"
    deployments: list[DeploymentSettings] = Field(default_factory=list)
    alias: str = ""
    echo_model: bool = False  # answers carry the id that the caller wrote instead of the provider's
    splice: bool = True  # a stream that breaks may be carried on by another deployment
    cache: bool | None = None  # answers are kept; None: those of requests in the Hub's shape, as `cache` says
    spill: SpillSettings | None = None
    limits: LimitSettings = LimitSettings()  # of all callers together


class Fim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The marks of `FimSettings`, as a row has them."""

    prefix: str
    suffix: str
    middle: str

    def prompt(self, before: str, after: str) -> str:
        return f"{self.prefix}{before}{self.suffix}{after}{self.middle}"


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a provider's table (DECISIONS, "Tables"). Prices: USD per million tokens or unit; None: unknown."""

    id: str
    task: Task = ANY_TASK
    status: Literal["live", "staging", "error"] = "live"
    context: int | None = None
    adapter: str | None = None
    adapter_weights: str | None = None
    can: frozenset[Can] = frozenset()
    fim: Fim | None = None
    price: dict[str, float | None] = {}


Rows = Mapping[str, Row]  # HF id → row
