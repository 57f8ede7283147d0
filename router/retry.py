"""What to do after an attempt: a table over (status, body code, was it sent?), pure, with clock and dice passed in.

`judge` reads an `Outcome` (what came back) and a `Standing` (what is still possible) and says one of
SERVE: give this to the caller · AGAIN: same deployment, after `wait` · ROTATE: same deployment, another key ·
NEXT: the next deployment · STOP: nothing further, tell the caller.
The rules are those of DECISIONS ("429 and 503", "Other 4xx", "Replay") and FAULTS §2.2.
"""

import random
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, Literal

import msgspec
from pydantic import Field

from router.settings import Duration, Rate, Settings, Share

SHORT_HINT: Final = 3.0  # a server's hint up to this many seconds is waited for although others could serve
QUICK: Final = 2.0  # a 502 later than this may have been a generation
REST_MOST: Final = 300.0  # seconds for which anybody is left alone, whatever the hint


class Kind(Enum):
    """How a failure is treated."""

    BUSY = "busy"  # an explicit refusal for now: nothing was generated
    KEY = "key"  # the key is at fault
    BROKEN = "broken"  # the server failed
    SLOW = "slow"  # it may still be working: never the same target again
    UNSENT = "unsent"  # nothing reached it
    ABSENT = "absent"  # it does not have the model: our table was wrong
    CONTEXT = "context"  # too long for this deployment
    CALLER = "caller"  # the request itself: returned, never counted


class Backoff(Settings):
    first: Duration = 0.25
    most: Duration = 8.0
    jitter: Literal["full", "none"] = "full"


class RetrySettings(Settings):
    """Budgets of one request; all of them lie inside its deadline."""

    tries_per_deployment: int = Field(default=2, ge=1)
    rotations: int = Field(default=4, ge=0)  # other keys of the same pool
    deployments: int = Field(default=3, ge=1)
    attempts: int = Field(default=6, ge=1)  # in all, rotations included
    backoff: Backoff = Backoff()
    honour_retry_after: Duration = 20.0  # the longest server hint that is waited for
    budget: Share = 0.2  # retries per request over 10 s, per upstream
    splice: bool = True  # streams that break are carried on by another deployment
    kinds: dict[str, Kind] = Field(default={})  # a status or a body's code → how it is treated; wins over KINDS, CODES


class RestSettings(Settings):
    """When a deployment is left alone, and for how long."""

    after: Rate = Rate(3, 10.0)
    first: Duration = 1.0
    most: Duration = 60.0


Why = Literal["refused", "credit", "forbidden", "limited"]
REST: Final[dict[Why, float]] = {"refused": 600.0, "credit": 3600.0, "forbidden": 60.0}  # seconds, of a key's own fault


class Verdict(Enum):
    SERVE = "serve"
    AGAIN = "again"
    ROTATE = "rotate"
    NEXT = "next"
    STOP = "stop"


KINDS: Final[dict[int, Kind]] = {
    401: Kind.KEY,
    402: Kind.KEY,
    403: Kind.KEY,
    404: Kind.ABSENT,
    408: Kind.BROKEN,
    409: Kind.BROKEN,
    410: Kind.ABSENT,
    425: Kind.BUSY,
    429: Kind.BUSY,
    503: Kind.BUSY,
    504: Kind.SLOW,
    529: Kind.BUSY,
}

CREDIT: Final = frozenset(  # words for money that is used up
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "credit_balance_too_low",
        "enforced_spend_limit_reached",
        "exhausted_balance",
        "insufficient_balance",
        "insufficient_credits",
    }
)
CODES: Final[dict[str, Kind]] = {  # what the body says wins over the status
    "invalid_api_key": Kind.KEY,
    "authentication_error": Kind.KEY,
    "account_deactivated": Kind.KEY,
    "organization_restricted": Kind.KEY,
    **dict.fromkeys(CREDIT, Kind.KEY),
    "context_length_exceeded": Kind.CONTEXT,
    "content_policy_violation": Kind.CALLER,
    "content_filter": Kind.CALLER,
    "model_not_found": Kind.ABSENT,
}


class Outcome(msgspec.Struct, frozen=True):
    """One attempt's end. `status` 0: no usable answer came; `reason` says why."""

    status: int
    seconds: float
    reason: str = ""
    code: str = ""
    hint: float | None = None  # seconds, from Retry-After and its kin, or estimated_time
    sent: bool = True


class Standing(msgspec.Struct, frozen=True):
    """What is still possible for this call."""

    tries: int  # at this deployment, this one included
    attempts: int  # in all, this one included
    rotations: int
    other_key: bool
    pooled: bool  # the key is ours or there is none; not the caller's
    others: bool  # another candidate may follow
    larger: bool  # one of them has a larger context
    remaining: float  # seconds to the deadline
    replay: bool
    wait: bool = False  # the caller asked to wait for the model
    affordable: bool = True  # the upstream's retry budget has room


class Judgement(msgspec.Struct, frozen=True):
    """`rest_key`, `rest`: seconds for which the key or the deployment is left alone; 0 for not at all. `why`: what the
    key rests for. `failed`: it counts against the deployment.
    """

    verdict: Verdict
    wait: float = 0.0
    rest_key: float = 0.0
    rest: float = 0.0
    failed: bool = False
    why: Why = "limited"


_FAILURES: Final = frozenset({Kind.BUSY, Kind.BROKEN, Kind.SLOW, Kind.UNSENT})
SERVED: Final = Judgement(Verdict.SERVE)


def kind_of(outcome: Outcome, kinds: Mapping[str, Kind] = MappingProxyType({})) -> Kind:
    for name in (outcome.code, str(outcome.status)) if kinds else ():
        if name in kinds:
            return kinds[name]
    if outcome.code in CODES:
        return CODES[outcome.code]
    if outcome.status == 0:
        return Kind.UNSENT if not outcome.sent else Kind.SLOW if outcome.reason == "timeout" else Kind.BROKEN
    if outcome.status == 502 and outcome.seconds > QUICK:
        return Kind.SLOW
    if outcome.status in KINDS:
        return KINDS[outcome.status]
    return Kind.CALLER if 400 <= outcome.status < 500 else Kind.BROKEN


def why_of(outcome: Outcome) -> Why:
    """What a key is at fault for."""
    if outcome.status == 402 or outcome.code in CREDIT:
        return "credit"
    return "refused" if outcome.status == 401 or CODES.get(outcome.code) is Kind.KEY else "forbidden"


def waits_for_key(wait: float, others: bool, remaining: float, settings: RetrySettings, paused: float = 0.0) -> bool:
    """Whether to wait so many seconds for the first of an upstream's keys, of which all rest. `others`: another
    deployment could serve; `remaining`: of the call's time; `paused`: for how long it was waited here before.

    Nothing is asked meanwhile, so it draws on no budget.
    """
    return not others and wait <= min(settings.honour_retry_after - paused, remaining / 2)


def judge(outcome: Outcome, standing: Standing, settings: RetrySettings, dice: random.Random) -> Judgement:
    if 200 <= outcome.status < 300 and not outcome.reason:
        return SERVED
    kind = kind_of(outcome, settings.kinds)
    if kind is Kind.CALLER or (kind is Kind.KEY and not standing.pooled):
        return Judgement(Verdict.STOP)
    rest = min(outcome.hint or 0.0, REST_MOST)
    why = why_of(outcome) if kind is Kind.KEY else "limited"
    rest_key = REST.get(why, 0.0) or (rest if outcome.status == 429 and standing.pooled else 0.0)
    if kind is Kind.BUSY and standing.other_key:
        rest_key = rest_key or 1.0
    judged = _verdict(kind, outcome, standing, settings, dice)
    resting = 60.0 if kind is Kind.ABSENT else rest if kind is Kind.BUSY and not standing.other_key else 0.0
    asked = kind is Kind.BUSY and outcome.hint is not None  # it said when to come back: that is no failure
    failed = kind in _FAILURES and not asked and outcome.reason != "queue_timeout"
    return Judgement(judged.verdict, judged.wait, rest_key, resting, failed, why)


def _verdict(
    kind: Kind, outcome: Outcome, standing: Standing, settings: RetrySettings, dice: random.Random
) -> Judgement:
    """The verdict by kind; budgets and the deadline are looked at here and nowhere else."""
    if standing.attempts >= settings.attempts or standing.remaining <= 0:
        return Judgement(Verdict.STOP)
    if kind in (Kind.BROKEN, Kind.SLOW) and not standing.replay:
        return Judgement(Verdict.STOP)  # paid media: it may have been generated (FAULTS D14)
    further = Judgement(Verdict.NEXT if standing.others else Verdict.STOP)
    if kind in (Kind.BUSY, Kind.KEY) and standing.other_key and standing.rotations < settings.rotations:
        return Judgement(Verdict.ROTATE)
    if kind is Kind.CONTEXT:
        return Judgement(Verdict.NEXT if standing.larger else Verdict.STOP)
    if kind in (Kind.KEY, Kind.ABSENT, Kind.SLOW):
        return further
    pause = _pause(kind, outcome, standing, settings, dice) if standing.affordable else None
    return further if pause is None else Judgement(Verdict.AGAIN, pause)


def _pause(
    kind: Kind, outcome: Outcome, standing: Standing, settings: RetrySettings, dice: random.Random
) -> float | None:
    """Seconds to wait before the same deployment is tried again, or None where it is not."""
    if outcome.reason == "redirect":
        return None  # it would send us there again
    longest = min(settings.honour_retry_after, standing.remaining / 2)
    if kind is Kind.BUSY and outcome.hint is not None:
        patient = standing.wait and not standing.others
        if not patient and standing.tries >= settings.tries_per_deployment:
            return None
        if outcome.hint <= (SHORT_HINT if standing.others else longest):
            return outcome.hint + dice.uniform(0.0, min(1.0, outcome.hint / 10))
        return longest if patient else None
    if standing.tries >= settings.tries_per_deployment or (standing.others and kind is not Kind.BROKEN):
        return None
    if standing.others and outcome.status == 0:
        return None  # a dead connection: the next one at once
    most = min(settings.backoff.most, settings.backoff.first * 2.0 ** (standing.tries - 1))
    pause = dice.uniform(0.0, most) if settings.backoff.jitter == "full" else most
    return pause if pause <= longest else None
