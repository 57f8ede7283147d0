"""What a refusal's words say of the key that asked, and what the caller is told where no key is left."""

import json
from typing import Any, cast

import pytest

from router import failures, retry
from router.bounds import Bound, Reached
from router.keypool import Shut
from router.retry import Kind
from router.routing import Candidate

NOBODY = cast(Candidate, None)


def failure(status: int, body: Any) -> failures.Failure:
    return failures.of_answer(NOBODY, status, [], json.dumps(body).encode(), 0.1)


def openai(code: str | None, message: str = "", kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


LOW = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade."


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (401, openai("invalid_api_key", "Incorrect API key provided: sk-ab***cd."), "refused"),
        (401, anthropic("authentication_error", "invalid x-api-key"), "refused"),
        (
            400,
            {"error": "Incorrect API key provided: xai. You can obtain an API key from https://console.x.ai."},
            "refused",
        ),
        (400, openai(None, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT"), "refused"),
        (429, openai("insufficient_quota", "You exceeded your current quota.", "insufficient_quota"), "credit"),
        (400, openai("billing_hard_limit_reached", "Billing hard limit has been reached"), "credit"),
        (400, anthropic("invalid_request_error", LOW), "credit"),
        (402, {"error": "You have depleted your monthly included credits."}, "credit"),
        (402, {"title": "Insufficient credit", "detail": "You have insufficient credit to run this model."}, "credit"),
        (
            403,
            {"detail": "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard."},
            "credit",
        ),
        (403, {"detail": "Forbidden"}, "forbidden"),
    ],
)
def test_a_refusal_of_the_key_is_known_by_its_code_and_by_how_its_words_begin(status: int, body: Any, why: str) -> None:
    outcome = failure(status, body).outcome
    assert retry.kind_of(outcome) is Kind.KEY and retry.why_of(outcome) == why


@pytest.mark.parametrize(
    "message", [f"'{LOW}' is no value for `stop`", f"Invalid value: {LOW}", "the prompt says: API key not valid"]
)
def test_what_a_caller_wrote_and_has_sent_back_rests_no_key(message: str) -> None:
    assert retry.kind_of(failure(400, openai(None, message)).outcome) is Kind.CALLER


def test_where_a_key_waits_for_a_limit_that_is_the_answer_and_else_what_came_before() -> None:
    waiting = failures.no_key(NOBODY, None, Shut(12.0, True)).outcome
    assert (waiting.status, waiting.hint, retry.kind_of(waiting)) == (429, 12.0, Kind.BUSY)
    assert retry.kind_of(failures.no_key(NOBODY, None, Shut(600.0, False)).outcome) is Kind.KEY
    before = failure(500, {})
    assert failures.no_key(NOBODY, before).outcome == before.outcome


def test_a_full_upstream_is_busy_until_it_has_room() -> None:
    full = failures.full(NOBODY, Reached(Bound("upstream/x/requests", "upstream", "x", "requests", 2, 60.0), 2, 30.0))
    assert (full.outcome.status, full.outcome.hint, full.outcome.sent) == (429, 30.0, False)
    assert retry.kind_of(full.outcome) is Kind.BUSY
