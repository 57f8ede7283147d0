"""What callers are told of limits: which one it is, whose, what is used, what was asked for, and when there is room."""

from typing import Final

from providers.spec import Fault
from router.bounds import NANO, Bound, Reached
from router.errors import Refused

_SPANS: Final = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86400.0: "day", 604800.0: "week"}
_BELOW_ONE: Final = tuple(b"%dms" % each for each in range(1001))  # what nearly all are, made ready


def seconds_of(seconds: float | None) -> bytes:
    """As OpenAI writes a span: `120ms`, `7.66s`, `6m0s`."""
    if seconds is None:
        return b"never"
    if seconds < 1:
        return b"%dms" % -(-seconds * 1000 // 1)
    if seconds < 60:
        return b"%.2fs" % seconds
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return (b"%dh" % hours if hours else b"") + b"%dm%ds" % divmod(rest, 60)


def span_of(nanoseconds: int) -> bytes:
    """The same, of whole nanoseconds."""
    return _BELOW_ONE[-(-nanoseconds // 1_000_000)] if nanoseconds < NANO else seconds_of(nanoseconds / NANO)


def refusal(reached: Reached, asked: int = 0) -> Refused:
    """429 for what comes back with time; 402 for money; 400 for what can never be had. `asked`: what there was no room
    for.
    """
    bound, resets = reached.bound, reached.resets
    whose = f"the {bound.scope} '{bound.of}'"
    if bound.kind == "budget":
        until = f"; it begins anew in {_span(resets)}" if resets is not None else ""
        message = (
            f"The budget{limit_of(bound)[len('the budget') :]} leaves no room for this request, which may cost up to"
            f" {_usd(asked)}: {_usd(reached.used)} are used or reserved{until}. Asking for less may fit."
        )
        return Refused(Fault(402, "budget_exceeded", message, retry_after=resets))
    if bound.kind == "concurrency":
        message = f"{_many(reached.used, 'request')} of {whose} running, which is as many as may be at once."
        return Refused(Fault(429, "concurrency_limit", message, retry_after=1.0))
    limit = limit_of(bound)
    if resets is None:
        message = f"This request may come to {asked} tokens, more than {limit} ever allows; ask for fewer (max_tokens)."
        return Refused(Fault(400, "request_too_large_for_limit", message, "max_tokens"))
    full = "is reached" if reached.used >= bound.amount else f"leaves no room for {asked} more"
    said = f"{limit[:1].upper()}{limit[1:]} {full} ({reached.used} used or reserved); try again in {_span(resets)}."
    return Refused(Fault(429, "rate_limit_exceeded", said, retry_after=resets))


def limit_of(bound: Bound) -> str:
    whose = f"the {bound.scope} '{bound.of}'"
    if bound.kind == "budget":
        return f"the budget of {whose}, {_usd(bound.amount)}{f' a {bound.period}' if bound.period else ''},"
    what = _many(bound.amount, bound.kind.replace("_", " ").removesuffix("s"))
    return f"the limit of {whose}, {what} {_per(bound.seconds)},"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _per(seconds: float) -> str:
    return f"per {_SPANS[seconds]}" if seconds in _SPANS else f"in {seconds:g} s"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "no time"
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 7200 else f"{round(seconds / 3600)} h"


def _usd(nano: int) -> str:
    return f"{nano / NANO:.9f}".rstrip("0").rstrip(".") + " USD"
