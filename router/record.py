"""What happened, as data: one `Record` a request, filled while it runs, from which metrics and the log are fed."""

from typing import Literal

import msgspec

Outcome = Literal["ok", "error", "broken", "client_gone"]
Billing = Literal["routed", "direct", "none"]
Cached = Literal["", "hit", "joined", "miss"]  # answered from what is kept, by another's answer, kept if it may be


class Try(msgspec.Struct, frozen=True, gc=False):
    """One attempt at one deployment."""

    upstream: str
    deployment: str
    status: int  # 0: no answer
    verdict: str
    reason: str
    seconds: float


class Splice(msgspec.Struct, frozen=True, gc=False):
    """A stream that broke at `upstream` after it had begun, and what became of it."""

    upstream: str
    reason: str
    result: Literal["continued", "restarted", "lost"]
    to: str = ""  # the deployment that carried on


class Record(msgspec.Struct, gc=False):
    """Times in seconds; `model` is the route's name, or `other` where it has none in the configuration. Money in whole
    nano-USD, None where nobody knows the price: `cost` is the provider's, `charge` the tenant's.
    """

    id: str
    time: float = 0.0  # Unix, at the end
    dialect: str = ""
    task: str = ""
    model: str = "other"
    tenant: str = ""
    status: int = 0
    outcome: Outcome = "ok"
    stream: bool = False
    seconds: float = 0.0
    upstream: str = ""
    provider_id: str = ""
    key: str = ""
    billing: Billing = "none"
    billed_to: str = ""  # the organisation that the caller named instead of itself
    code: str = ""  # of the fault, where one was answered
    first: float = 0.0  # until the first event (streams) or the answer
    overhead: float = 0.0  # of that, ours
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    dropped_events: int = 0
    broken: str = ""  # why a stream ended early
    tries: list[Try] = []
    splices: list[Splice] = []
    cache: Cached = ""
    entry: str = ""  # its name in the ledger: ours, whatever id the caller gave it
    virtual_key: str = ""
    reasoning_tokens: int = 0
    images: int = 0
    media_seconds: float = 0.0  # of sound or film, made or read
    characters: int = 0
    estimated: bool = False  # its usage was counted here, for want of the upstream's word
    cost: int | None = None
    charge: int | None = None
