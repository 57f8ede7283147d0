"""What happened, as data: one `Record` a request, filled while it runs, from which metrics and the log are fed.

The classes are dataclasses for the log, which is written by their fields' names and in their order; `init=False`,
because an `__init__` of one's own is compiled with the class, and a dataclass's is not.
"""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["ok", "error", "broken", "client_gone"]
Billing = Literal["routed", "direct", "none"]
Cached = Literal["", "hit", "joined", "miss"]  # answered from what is kept, by another's answer, kept if it may be
Carried = Literal["continued", "restarted", "lost"]


@dataclass(init=False, slots=True)
class Try:
    """One attempt at one deployment."""

    upstream: str
    deployment: str
    status: int  # 0: no answer
    verdict: str
    reason: str
    seconds: float

    def __init__(self, upstream: str, deployment: str, status: int, verdict: str, reason: str, seconds: float) -> None:
        self.upstream = upstream
        self.deployment = deployment
        self.status = status
        self.verdict = verdict
        self.reason = reason
        self.seconds = seconds


@dataclass(init=False, slots=True)
class Splice:
    """A stream that broke at `upstream` after it had begun, and what became of it."""

    upstream: str
    reason: str
    result: Carried
    to: str  # the deployment that carried on

    def __init__(self, upstream: str, reason: str, result: Carried, to: str = "") -> None:
        self.upstream = upstream
        self.reason = reason
        self.result = result
        self.to = to


@dataclass(init=False, slots=True, eq=False)
class Record:
    """Times in seconds; `model` is the route's name, or `other` where it has none in the configuration. Money in whole
    nano-USD, None where nobody knows the price: `cost` is the provider's, `charge` the tenant's.
    """

    id: str
    time: float  # Unix, at the end
    dialect: str
    task: str
    model: str
    tenant: str
    status: int
    outcome: Outcome
    stream: bool
    seconds: float
    upstream: str
    provider_id: str
    key: str
    billing: Billing
    billed_to: str  # the organisation that the caller named instead of itself
    code: str  # of the fault, where one was answered
    first: float  # until the first event (streams) or the answer
    overhead: float  # of that, ours
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    dropped_events: int
    broken: str  # why a stream ended early
    tries: list[Try]
    splices: list[Splice]
    cache: Cached
    entry: str  # its name in the ledger: ours, whatever id the caller gave it
    virtual_key: str
    reasoning_tokens: int
    images: int
    media_seconds: float  # of sound or film, made or read
    characters: int
    estimated: bool  # its usage was counted here, for want of the upstream's word
    cost: int | None
    charge: int | None

    def __init__(self, request_id: str, dialect: str = "", task: str = "", entry: str = "") -> None:
        self.id = request_id
        self.dialect = dialect
        self.task = task
        self.entry = entry
        self.model = "other"
        self.outcome, self.billing = "ok", "none"
        self.tenant = self.virtual_key = self.billed_to = self.code = self.broken = ""
        self.upstream = self.provider_id = self.key = ""
        self.cache = ""
        self.status = 0
        self.stream = self.estimated = False
        self.time = self.seconds = self.first = self.overhead = self.media_seconds = 0.0
        self.input_tokens = self.output_tokens = self.cached_tokens = self.reasoning_tokens = 0
        self.images = self.characters = self.dropped_events = 0
        self.tries: list[Try] = []
        self.splices: list[Splice] = []
        self.cost: int | None = None
        self.charge: int | None = None
