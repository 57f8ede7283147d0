"""The records that a search passes on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from providers import fim, spec
from providers.spec import ANY_TASK, Adapter, Provider, Task
from router.bounds import Bound
from router.routing.settings import Fim, Policy, Row, SpillSettings

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
