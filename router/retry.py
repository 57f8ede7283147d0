"""What to do after an attempt: a table over (status, body code, was it sent?), pure, with clock and dice passed in.

`judge` reads an `Outcome` (what came back) and a `Standing` (what is still possible) and says one of
SERVE: give this to the caller · AGAIN: same deployment, after `wait` · ROTATE: same deployment, another key ·
NEXT: the next deployment · STOP: nothing further, tell the caller.
The rules are those of DECISIONS ("429 and 503", "Other 4xx", "Replay") and FAULTS §2.2.
"""

import math
import random
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from enum import Enum
from types import MappingProxyType
from typing import Final, Literal

import msgspec
from pydantic import Field

from router.settings import Duration, Settings, Share

SHORT_HINT: Final = 3.0  # a server's hint up to this many seconds is waited for although others could serve
QUICK: Final = 2.0  # a 502 later than this may have been a generation
REST_MOST: Final = 300.0  # seconds for which anybody is left alone, whatever the hint
LONGEST: Final = 3600.0


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

CODES: Final[dict[str, Kind]] = {  # what the body says wins over the status
    "insufficient_quota": Kind.KEY,
    "billing_hard_limit_reached": Kind.KEY,
    "credit_balance_too_low": Kind.KEY,
    "invalid_api_key": Kind.KEY,
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
    """`rest_key`, `rest`: seconds for which the key or the deployment is left alone; 0 for not at all. `failed`: it
    counts against the deployment.
    """

    verdict: Verdict
    wait: float = 0.0
    rest_key: float = 0.0
    rest: float = 0.0
    failed: bool = False


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


def judge(outcome: Outcome, standing: Standing, settings: RetrySettings, dice: random.Random) -> Judgement:
    if 200 <= outcome.status < 300 and not outcome.reason:
        return SERVED
    kind = kind_of(outcome, settings.kinds)
    if kind is Kind.CALLER or (kind is Kind.KEY and not standing.pooled):
        return Judgement(Verdict.STOP)
    rest = min(outcome.hint or 0.0, REST_MOST)
    rest_key = 60.0 if kind is Kind.KEY else rest if outcome.status == 429 and standing.pooled else 0.0
    if kind is Kind.KEY or (kind is Kind.BUSY and standing.other_key):
        rest_key = rest_key or 1.0
    judged = _verdict(kind, outcome, standing, settings, dice)
    resting = 60.0 if kind is Kind.ABSENT else rest if kind is Kind.BUSY and not standing.other_key else 0.0
    asked = kind is Kind.BUSY and outcome.hint is not None  # it said when to come back: that is no failure
    failed = kind in _FAILURES and not asked and outcome.reason != "queue_timeout"
    return Judgement(judged.verdict, judged.wait, rest_key, resting, failed)


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


def hint_of(headers: list[tuple[bytes, bytes]]) -> float | None:
    """Seconds that the upstream asks us to wait, from the five forms in use; None where it says nothing usable.

    `retry-after-ms`, `retry-after` in seconds (also fractions) or as an HTTP date (read against its own `date`),
    `x-ratelimit-reset-*` (`6m0s`, `1s`), IETF `ratelimit: "api";r=0;t=55`.
    """
    found = {
        name: value.decode("latin-1").strip()[:128] for name, value in headers if name in _HINTS or name == b"date"
    }
    for name, factor in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        seconds = _number(found.get(name, ""))
        if seconds is not None:
            return _usable(seconds * factor)
    if b"retry-after" in found:
        return _usable(_until(found[b"retry-after"], found.get(b"date", "")))
    for name in (b"x-ratelimit-reset-requests", b"x-ratelimit-reset-tokens", b"x-ratelimit-reset"):
        if name in found:
            return _usable(_span(found[name]))
    if b"ratelimit" in found:
        parts = dict(part.strip().partition("=")[::2] for part in found[b"ratelimit"].split(";"))
        return _usable(_number(parts.get("t", "")) if parts.get("r") == "0" else None)
    return None


_HINTS: Final = frozenset(
    {
        b"retry-after-ms",
        b"retry-after",
        b"x-ratelimit-reset-requests",
        b"x-ratelimit-reset-tokens",
        b"x-ratelimit-reset",
        b"ratelimit",
    }
)
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _usable(seconds: float | None) -> float | None:
    """Nothing below a moment, and never more than an hour: what is asked for beyond it is asked for in error."""
    return min(seconds, LONGEST) if seconds is not None and seconds > 0.0 else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) or "_" in text else value


def _until(date: str, now: str) -> float | None:
    try:
        return (parsedate_to_datetime(date) - parsedate_to_datetime(now)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _span(text: str) -> float | None:
    """`6m0s`, `1.5s`, `20ms`, or plain seconds."""
    plain = _number(text)
    if plain is not None:
        return plain
    total = 0.0
    number = ""
    position = 0
    while position < len(text):
        if text[position] in "0123456789.":
            number += text[position]
            position += 1
            continue
        unit = next((each for each in ("ms", "s", "m", "h", "d") if text.startswith(each, position)), "")
        value = _number(number)
        if not unit or value is None:
            return None
        total += value * _UNITS[unit]
        number = ""
        position += len(unit)
    return None if number else total
