import random

import pytest

from router.headroom import hint_of
from router.retry import Kind, Outcome, RetrySettings, Standing, Verdict, judge, kind_of

SETTINGS = RetrySettings()
DICE = random.Random(7)


def standing(**changes: object) -> Standing:
    given = {
        "tries": 1,
        "attempts": 1,
        "rotations": 0,
        "other_key": False,
        "pooled": True,
        "others": True,
        "larger": False,
        "remaining": 600.0,
        "replay": True,
    }
    return Standing(**{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcome", "changes", "verdict"),
    [
        (Outcome(200, 1.0), {}, Verdict.SERVE),
        (Outcome(429, 0.1), {"other_key": True}, Verdict.ROTATE),
        (Outcome(429, 0.1, hint=2.0), {}, Verdict.AGAIN),
        (Outcome(429, 0.1, hint=9.0), {}, Verdict.NEXT),
        (Outcome(429, 0.1), {}, Verdict.NEXT),
        (Outcome(429, 0.1, hint=9.0), {"others": False}, Verdict.AGAIN),
        (Outcome(429, 0.1, hint=90.0), {"others": False}, Verdict.STOP),
        (Outcome(503, 0.1), {"others": False}, Verdict.AGAIN),
        (Outcome(500, 0.1), {}, Verdict.AGAIN),
        (Outcome(500, 0.1), {"tries": 2}, Verdict.NEXT),
        (Outcome(500, 0.1), {"replay": False}, Verdict.STOP),
        (Outcome(502, 9.0), {}, Verdict.NEXT),
        (Outcome(504, 0.1), {"others": False}, Verdict.STOP),
        (Outcome(0, 0.0, "refused", sent=False), {}, Verdict.NEXT),
        (Outcome(0, 0.0, "refused", sent=False), {"replay": False}, Verdict.NEXT),
        (Outcome(0, 0.0, "refused", sent=False), {"others": False}, Verdict.AGAIN),
        (Outcome(0, 0.0, "closed"), {}, Verdict.NEXT),
        (Outcome(0, 0.0, "closed"), {"others": False}, Verdict.AGAIN),
        (Outcome(0, 0.0, "closed"), {"replay": False}, Verdict.STOP),
        (Outcome(0, 9.0, "timeout"), {"others": False}, Verdict.STOP),
        (Outcome(401, 0.1), {"other_key": True}, Verdict.ROTATE),
        (Outcome(401, 0.1), {}, Verdict.NEXT),
        (Outcome(401, 0.1), {"pooled": False}, Verdict.STOP),
        (Outcome(429, 0.1, code="insufficient_quota"), {}, Verdict.NEXT),
        (Outcome(404, 0.1), {}, Verdict.NEXT),
        (Outcome(400, 0.1), {}, Verdict.STOP),
        (Outcome(422, 0.1), {}, Verdict.STOP),
        (Outcome(400, 0.1, code="content_policy_violation"), {}, Verdict.STOP),
        (Outcome(400, 0.1, code="context_length_exceeded"), {}, Verdict.STOP),
        (Outcome(400, 0.1, code="context_length_exceeded"), {"larger": True}, Verdict.NEXT),
        (Outcome(500, 0.1), {"attempts": 6}, Verdict.STOP),
        (Outcome(500, 0.1), {"remaining": 0.0}, Verdict.STOP),
    ],
)
def test_the_table_says(outcome: Outcome, changes: dict[str, object], verdict: Verdict) -> None:
    assert judge(outcome, standing(**changes), SETTINGS, DICE).verdict is verdict


def test_a_refused_key_rests_and_the_deployment_does_not() -> None:
    judged = judge(Outcome(401, 0.1), standing(), SETTINGS, DICE)
    assert judged.rest_key > 0 and judged.rest == 0


def test_a_model_that_the_table_was_wrong_about_rests_there() -> None:
    assert judge(Outcome(404, 0.1), standing(), SETTINGS, DICE).rest > 0


def test_what_the_caller_did_wrong_rests_nothing() -> None:
    judged = judge(Outcome(400, 0.1), standing(), SETTINGS, DICE)
    assert judged.rest_key == judged.rest == 0


def test_ten_thousand_hints_of_noise_are_no_exception_and_no_long_sleep() -> None:
    dice = random.Random(11)
    alphabet = [*b"0123456789.-+eE_ \t:;,=smhd", *b"GMTnaif\xff\x00"]
    for _ in range(10_000):
        name = dice.choice([b"retry-after", b"retry-after-ms", b"x-ratelimit-reset", b"ratelimit", b"date"])
        found = hint_of([(name, bytes(dice.choices(alphabet, k=dice.randrange(24))))])
        assert found is None or 0.0 < found <= 3600.0
        judged = judge(Outcome(429, 0.1, hint=found), standing(others=dice.random() < 0.5), SETTINGS, dice)
        assert 0.0 <= judged.wait <= 22.0 and 0.0 <= judged.rest <= 300.0


def test_a_slow_bad_gateway_may_have_been_a_generation() -> None:
    assert kind_of(Outcome(502, 0.1)) is Kind.BROKEN
    assert kind_of(Outcome(502, 5.0)) is Kind.SLOW


def test_only_what_the_deployment_did_wrong_counts_against_it() -> None:
    wrong = [Outcome(500, 0.1), Outcome(503, 0.1), Outcome(0, 0.0, "refused", sent=False), Outcome(0, 9.0, "timeout")]
    right = [Outcome(400, 0.1), Outcome(401, 0.1), Outcome(404, 0.1), Outcome(503, 0.1, hint=37.2)]
    right += [Outcome(429, 0.1, code="insufficient_quota"), Outcome(0, 0.0, "queue_timeout", sent=False)]
    assert all(judge(each, standing(), SETTINGS, DICE).failed for each in wrong)
    assert not any(judge(each, standing(), SETTINGS, DICE).failed for each in right)


def test_without_a_budget_nothing_is_tried_again_but_elsewhere() -> None:
    for others, verdict in ((True, Verdict.NEXT), (False, Verdict.STOP)):
        judged = judge(Outcome(500, 0.1), standing(others=others, affordable=False), SETTINGS, DICE)
        assert judged.verdict is verdict


@pytest.mark.parametrize(
    ("name", "kind", "outcome", "verdict"),
    [
        ("418", Kind.BUSY, Outcome(418, 0.1), Verdict.NEXT),
        ("418", Kind.BROKEN, Outcome(418, 0.1), Verdict.AGAIN),
        ("out_of_capacity", Kind.BUSY, Outcome(400, 0.1, code="out_of_capacity"), Verdict.NEXT),
        ("500", Kind.CALLER, Outcome(500, 0.1), Verdict.STOP),
        ("insufficient_quota", Kind.CALLER, Outcome(429, 0.1, code="insufficient_quota"), Verdict.STOP),
    ],
)
def test_the_operator_has_the_last_word_on_what_a_failure_is(
    name: str, kind: Kind, outcome: Outcome, verdict: Verdict
) -> None:
    settings = RetrySettings(kinds={name: kind})
    assert judge(outcome, standing(), settings, DICE).verdict is verdict
