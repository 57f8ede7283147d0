"""What routing is made of: its settings, the rows of the tables, and the records that a search passes on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec
from pydantic import Field

from providers import fim, spec
from providers.spec import ANY_TASK, Adapter, Provider, Task
from router.bounds import Bound, LimitSettings
from router.settings import Duration, Money, Settings

Can = Literal["tools", "json", "prefill", "vision"]
Policy = Literal["ordered", "weighted", "fastest", "cheapest", "least_busy"]

SERVES: Final[Mapping[Task, frozenset[Task]]] = {  # a row's task → the tasks that it serves beside itself
    spec.CONVERSATIONAL: frozenset({spec.TEXT_GENERATION, spec.RESPONSES, spec.TOKENIZE}),
    spec.TEXT_GENERATION: frozenset({spec.TOKENIZE}),
    spec.SPEECH_RECOGNITION: frozenset({spec.SPEECH_TRANSLATION}),
    spec.TEXT_TO_IMAGE: frozenset({spec.IMAGE_TO_IMAGE}),
    spec.SENTENCE_SIMILARITY: frozenset({spec.FEATURE_EXTRACTION, spec.TEXT_RANKING}),
    spec.FEATURE_EXTRACTION: frozenset({spec.SENTENCE_SIMILARITY, spec.TEXT_RANKING}),
    spec.TEXT_RANKING: frozenset({spec.SENTENCE_SIMILARITY}),
    spec.TEXT_TO_SPEECH: frozenset({spec.TEXT_TO_AUDIO}),
    spec.TEXT_TO_AUDIO: frozenset({spec.TEXT_TO_SPEECH}),
    "text-classification": frozenset({spec.MODERATION}),
}


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


@dataclass(frozen=True, slots=True)
class Place:
    """What routing knows of a configured upstream."""

    name: str
    provider: Provider
    local: bool


@dataclass(frozen=True, slots=True)
class Deployment:
    """An upstream and its id for a model."""

    upstream: str
    provider_id: str
    row: Row
    weight: float = 1.0
    context: int | None = None
    fim: Fim | None = None
    can: frozenset[str] = frozenset()
    model: str = ""  # the Hub's id; empty where it is the provider's
    price: Mapping[str, float | None] = field(default_factory=dict)  # as the file says, in a row's words; it wins

    name: str = field(init=False, default="")  # upstream/provider_id, as logs and errors write it

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.upstream}/{self.provider_id}")
        marks = fim.marks_of(self.model or self.provider_id) if self.fim is None else None
        if marks is not None:  # of a family whose marks are known, so that neither a row nor the file need say them
            object.__setattr__(self, "fim", Fim(*marks))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A deployment that can serve the call, and how: the dialect and task it is spoken to in.

    `exchanged`: neither relayed nor text: its request and answer go through the Hub's form (router/exchange.py).
    """

    deployment: Deployment
    provider: Provider
    adapter: Adapter
    dialect: str
    task: Task
    exchanged: bool = False
    local: bool = False  # at a server of one's own


@dataclass(frozen=True, slots=True)
class Drop:
    """A deployment that was considered, and why it is not tried."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Route:
    """A model and where it may be had. `pinned`: the caller named the place, so nothing else may serve."""

    model: str
    deployments: tuple[Deployment, ...]
    policy: Policy = "ordered"
    task: Task = ANY_TASK
    echo_model: bool = False
    pinned: bool = False
    splice: bool = True
    cache: bool | None = None
    spill: SpillSettings | None = None
    bounds: tuple[Bound, ...] = ()  # of all callers together
    special: bool = field(init=False, default=False)  # more is to be asked of it than who serves it

    def __post_init__(self) -> None:
        object.__setattr__(self, "special", bool(self.bounds or self.pinned or self.cache))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to try, in order, and what was left out and why."""

    route: Route
    attempts: tuple[Candidate, ...]
    dropped: tuple[Drop, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A route seen from one (task, dialect): its plan, in the route's order. `label`: the name that figures carry."""

    plan: Plan
    label: str = "other"


Score = Callable[[str], float | None]  # deployment name → a figure, None where unknown
