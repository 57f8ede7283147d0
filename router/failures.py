"""What an attempt that did not serve came to, and the fault that the caller reads when none did."""

import re
from typing import Any, Final

import msgspec

from providers.dialects import huggingface
from providers.spec import Fault, Unreadable
from router import headroom
from router.bounds import Reached
from router.call import Call
from router.errors import Refused
from router.keypool import Shut
from router.record import Try
from router.retry import Kind, Outcome
from router.routing import Candidate, Plan
from router.upstream.answer import Headers

_SILENT: Final[dict[str, tuple[int, str, str]]] = {
    "refused": (502, "upstream_connect_failed", "could not be reached"),
    "dns": (502, "upstream_connect_failed", "could not be found"),
    "proxy": (502, "upstream_connect_failed", "could not be reached through the outbound proxy"),
    "tls": (502, "upstream_tls_error", "could not be trusted: the TLS handshake failed"),
    "connect_timeout": (504, "upstream_timeout", "did not accept a connection in time"),
    "queue_timeout": (503, "upstream_busy", "had no free connection in time"),
    "timeout": (504, "upstream_timeout", "did not answer in time"),
    "job_lost": (502, "upstream_job_lost", "took the request and its answer could not be had"),
    "upload": (400, "incomplete_body", "did not receive the whole body"),
}
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what a hostile body comes to
UNUSABLE: Final = (  # what reading a 2xx answer comes to that is no answer, nested too deep or full of great numbers
    ValueError, LookupError, TypeError, AttributeError, RecursionError, ArithmeticError,
)  # fmt: skip
_CODE: Final = re.compile(r"[\w.:-]{1,64}").fullmatch  # anything else is no word to judge by, to log or to hand on
_OURS: Final = {  # nobody was asked: it is this server that held back
    "keys_resting": "All keys for the upstream of '{}' wait for their limits.",
    "limit_reached": "The limit that is set for the upstream of '{}' is reached.",
}
_SAYING: Final = (400, 403)
_OF_THE_KEY: Final = (  # how a message begins → what it is about; what stands further in may be the caller's own words
    ("Your credit balance is too low", "credit_balance_too_low"),  # Anthropic, a 400
    ("User is locked. Reason: Exhausted balance", "exhausted_balance"),  # fal, a 403
    ("API key not valid", "invalid_api_key"),  # Google, a 400
    ("Incorrect API key provided", "invalid_api_key"),  # xAI, a 400
)
ERROR_LIMIT: Final = 1024 * 1024  # bytes of an error's body
_LONGEST_PLAIN: Final = 2000
_BAD: Final = (502, "upstream_bad_response", "gave an answer that could not be used")


class Failure(msgspec.Struct, frozen=True):
    """One attempt's end that is no answer: what the policy judges, and what may be shown of it."""

    candidate: Candidate
    outcome: Outcome
    detail: str = ""
    message: str = ""  # the upstream's own words, for faults of the request itself
    param: str | None = None
    estimated: float | None = None
    unreadable: Unreadable | None = None

    @property
    def loading(self) -> bool:
        """Whether it will serve once its model is there: the Hub's words, TGI's, vLLM's and llama.cpp's."""
        said = self.message.lower()
        return self.outcome.status == 503 and (self.estimated is not None or "loading" in said or "unhealthy" in said)


class Relayed(Refused):
    """A refusal in the upstream's own words, in the caller's dialect anyway."""


class _Error(msgspec.Struct, frozen=True):
    message: str | None = None
    code: str | int | None = None
    type: str | None = None
    param: str | None = None
    http_status_code: int | None = None


class _Body(msgspec.Struct, frozen=True):
    error: _Error | str | list[Any] | None = None
    error_type: str | None = None
    estimated_time: float | None = None
    message: str | None = None
    detail: Any = None
    code: str | int | None = None
    param: str | None = None


def of_answer(candidate: Candidate, status: int, headers: Headers, body: bytes, seconds: float) -> Failure:
    """An answer that is not 2xx. Redirects are never followed."""
    if status > 599:
        return Failure(candidate, Outcome(0, seconds, "bad_response"))
    if status < 400:
        return Failure(candidate, Outcome(502, seconds, "redirect"))
    code, message, param, estimated = _read(body)
    code = code if _CODE(code) else ""
    if status in _SAYING and (said := next((each for words, each in _OF_THE_KEY if message.startswith(words)), "")):
        code = said
    if code == "" and status == 400 and "context length" in message:
        code = "context_length_exceeded"
    if status == 400 and "out of memory" in message.lower():
        status = 503  # the Inference toolkit calls every error a 400
    hint = headroom.hint_of(headers)
    outcome = Outcome(status, seconds, "", code, estimated if hint is None else hint)
    return Failure(candidate, outcome, "", message, param, estimated)


def of_error_body(candidate: Candidate, headers: Headers, body: bytes) -> Failure:
    """200 with an error inside: classed as what it says."""
    try:
        error = msgspec.json.decode(body, type=_Body).error
    except _UNREADABLE:
        error = None
    said = error.http_status_code or error.code if isinstance(error, _Error) else None
    said = said if isinstance(said, int) and 400 <= said < 600 else 502
    return of_answer(candidate, said, headers, body, 0.0)


def of_error_event(candidate: Candidate, headers: Headers, payload: bytes) -> Failure | None:
    """The first event of a stream, where it is an error; None where it is not."""
    try:
        body = msgspec.json.decode(payload, type=_Body)
    except _UNREADABLE:
        return None
    return None if body.error is None else of_error_body(candidate, headers, payload)


def _read(body: bytes) -> tuple[str, str, str | None, float | None]:
    """code, message, param and estimated_time of an error body in any of the shapes in use."""
    try:
        read = msgspec.json.decode(body, type=_Body)
    except _UNREADABLE:
        return "", _plain(body), None, None
    error = read.error
    if isinstance(error, _Error):
        code = error.code if isinstance(error.code, str) else error.type or ""
        return code, error.message or "", error.param, read.estimated_time
    if isinstance(error, list):
        error = "; ".join(str(each) for each in error)
    message = error or read.message or (read.detail if isinstance(read.detail, str) else "")
    if not message and read.detail is not None:
        message = msgspec.json.encode(read.detail).decode()
    code = read.error_type or (read.code if isinstance(read.code, str) else "") or ""
    return code, message, read.param, read.estimated_time


def _plain(body: bytes) -> str:
    """TGI's framework words a body that it cannot read as plain text; pages of HTML are nobody's message.

    All or nothing: what is cut could end in half a secret, which no Scrubber knows.
    """
    text = body.decode("utf-8", "replace").strip() if len(body) <= _LONGEST_PLAIN else ""
    return "" if text.startswith("<") or not text.isprintable() else text


def silent(reason: str) -> tuple[int, str, str]:
    """Status, code and words for an upstream that gave no answer."""
    return _SILENT.get(reason, _BAD)


def no_key(candidate: Candidate, last: Failure | None, shut: Shut | None = None) -> Failure:
    """No key may be lent. Where one of them only waits for a limit, that is the answer; else the keys are at fault."""
    if shut is not None and shut.limited:
        return Failure(candidate, Outcome(429, 0.0, "keys_resting", hint=shut.seconds, sent=False))
    return Failure(candidate, last.outcome if last else Outcome(401, 0.0, code="no_key"))


def full(candidate: Candidate, reached: Reached) -> Failure:
    """The upstream has given as much as the configuration lets it: it is passed over like one that is busy."""
    code = f"upstream_{reached.bound.kind}_limit"
    return Failure(candidate, Outcome(429, 0.0, "limit_reached", code, reached.resets, sent=False))


def nothing_to_try(call: Call, plan: Plan) -> Fault:
    reasons = tuple({"deployment": drop.name, "reason": drop.reason} for drop in plan.dropped)
    said = "; ".join(f"{drop.name}: {drop.reason}" for drop in plan.dropped) or "it has no deployment"
    message = f"The model '{call.model}' cannot be served for {call.endpoint.task} ({said})."
    return Fault(404, "model_not_supported", message, "model", attempts=reasons)


def refusal(call: Call, plan: Plan, last: Failure, tries: list[Try], kind: Kind) -> Refused:
    """The fault for a plan that is used up: the request's own where that was at fault, else all attempts."""
    outcome = last.outcome
    if last.unreadable is not None:
        return Refused(Fault(outcome.status, "invalid_request", last.unreadable.message, last.unreadable.param))
    pooled = kind is Kind.KEY and call.identity.user_key is None
    if kind in (Kind.CALLER, Kind.CONTEXT) or (kind is Kind.KEY and not pooled):
        message = last.message or f"The upstream answered {outcome.status}."
        return Relayed(Fault(outcome.status, outcome.code or "upstream_refused", message, last.param))
    listed = tuple(
        {
            "deployment": each.deployment,
            "status": each.status or None,
            "reason": each.reason,
            "ms": round(each.seconds * 1000),
        }
        for each in tries
    ) + tuple({"deployment": drop.name, "reason": drop.reason} for drop in plan.dropped)
    if pooled:
        message = "No key that this server holds was accepted upstream."
        return Refused(Fault(502, "upstream_credentials_exhausted", message, attempts=listed))
    if last.estimated is not None and outcome.status == 503:
        return Refused(huggingface.loading(call.model, last.estimated))
    if outcome.reason in _OURS:
        status, code, message = 429, "upstream_rate_limited", _OURS[outcome.reason].format(call.model)
    elif outcome.status == 0 or outcome.reason == "redirect":
        status, code, words = _SILENT.get(outcome.reason, _BAD)
        message = f"The upstream of '{call.model}' {words}."
    else:
        status = 404 if kind is Kind.ABSENT else outcome.status
        code = (
            "model_not_found" if kind is Kind.ABSENT else "upstream_rate_limited" if status == 429 else "upstream_error"
        )
        said = f": {last.message}" if last.message else ""
        message = f"The upstream of '{call.model}' answered {outcome.status}{said}"
        message += "" if message.endswith((".", "!", "?")) else "."
    if len(tries) > 1:
        message += f" {len(tries)} attempts were made."
    return Refused(Fault(status, code, message, retry_after=outcome.hint, attempts=listed))
