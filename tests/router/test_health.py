"""Who is left alone, for how long, and how they come back; and how many retries an upstream is asked to bear."""

import random
from typing import Any

import pytest

from router.health import DEPLOYMENTS, LEAST, PROBE, RAMP, WINDOW, Budget, Figures, Resting, Speeds
from router.record import Record, Try
from router.retry import RestSettings
from router.settings import Rate
from tests.router.stories import recorded


def broken(at: float = 0.0) -> Resting:
    """One whose breaker has just opened."""
    resting = Resting(RestSettings(), random.Random(1))
    for second in range(3):
        resting.fail("a", at + second)
    return resting


def test_the_third_failure_in_ten_seconds_opens_the_breaker_for_a_second() -> None:
    resting = Resting()
    resting.fail("a", 0.0)
    resting.fail("a", 5.0)
    assert not resting.resting(5.0)
    resting.fail("a", 9.9)
    assert resting.resting(9.9) == {"a": 10.9}
    assert not resting.resting(10.9)


def test_failures_that_are_far_apart_open_nothing() -> None:
    resting = Resting()
    for second in range(0, 600, 6):
        resting.fail("a", float(second))
        assert not resting.resting(float(second))
    assert not resting.resting(2000.0) and resting.calm


def test_each_failed_probe_doubles_the_rest_up_to_the_most() -> None:
    resting, now, rests = broken(), 2.0, []
    for _ in range(9):
        now = resting.until("a")
        resting.begin("a", now)
        resting.fail("a", now)
        rests.append(resting.until("a") - now)
    assert rests == pytest.approx([2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0])


def test_a_rest_that_was_asked_for_outlives_the_probe() -> None:
    resting = broken()
    resting.begin("a", 3.5)
    resting.rest("a", 100.0)  # its answer had a Retry-After
    resting.fail("a", 3.6)
    assert resting.until("a") == 100.0


def test_while_one_probes_the_others_stay_away() -> None:
    resting = broken()
    assert resting.resting(2.5)
    assert not resting.resting(3.1)
    resting.begin("a", 3.1)
    assert resting.resting(3.2) == {"a": 3.1 + PROBE}


def test_failures_of_requests_that_had_begun_before_lengthen_nothing() -> None:
    resting = broken()
    until = resting.until("a")
    for _ in range(50):
        resting.fail("a", 2.1)
    assert resting.until("a") == until


def test_one_that_served_its_probe_gets_its_share_back_over_a_while() -> None:
    resting = broken()
    resting.begin("a", 3.5)
    resting.serve("a", 3.6)

    def share(at: float) -> float:
        return sum("a" not in resting.resting(at) for _ in range(2000)) / 2000

    assert share(3.6 + RAMP / 10) == pytest.approx(0.1, abs=0.03)
    assert share(3.6 + RAMP / 2) == pytest.approx(0.5, abs=0.05)
    assert share(3.6 + RAMP) == 1.0
    assert resting.calm


def test_one_that_fails_on_its_way_back_opens_again_with_the_first_rest() -> None:
    resting = broken()
    resting.begin("a", 3.5)
    resting.serve("a", 3.6)
    for at in (4.0, 4.1, 4.2):
        resting.fail("a", at)
    assert resting.resting(4.2) == {"a": 5.2}


def test_a_later_moment_never_gives_way_to_an_earlier_one() -> None:
    resting = Resting()
    resting.rest("a", 50.0)
    resting.rest("a", 10.0)
    assert resting.until("a") == 50.0 and not resting.calm
    assert resting.resting(51.0) == {} and resting.calm


def test_what_counts_as_too_many_is_the_operators_to_say() -> None:
    resting = Resting(RestSettings(after=Rate(1, 1.0), first=5.0))
    resting.fail("a", 0.0)
    assert resting.resting(0.0) == {"a": 5.0}


@pytest.mark.parametrize("rate", [1, 10, 100])
def test_retries_are_a_share_of_the_requests_of_the_last_seconds(rate: int) -> None:
    budget, asked = Budget(0.2), 0
    for tick in range(60 * rate):
        budget.requests += 1
        asked += 1
        if budget.allows(tick / rate):
            budget.retry()
            asked += 1
    windows = 60 / WINDOW
    assert asked <= 60 * rate + max(0.2 * 60 * rate * 1.05, LEAST * (windows + 1))


def test_a_quiet_time_leaves_no_debt_and_no_riches() -> None:
    budget = Budget(0.2)
    budget.requests = 10_000
    assert budget.allows(1.0)
    assert budget.allows(1000.0)
    for _ in range(LEAST):
        assert budget.allows(1000.0)
        budget.retry()
    budget.requests = 10
    assert sum(budget.allows(1000.0 + WINDOW * 3) for _ in range(3)) == 3


def ended(*tries: Try, **more: Any) -> Record:
    return recorded(tries=list(tries), **more)


def test_a_deployments_figures_follow_what_it_does() -> None:
    speeds = Speeds()
    assert speeds.of("a") is None and speeds.figures("a") is None
    speeds.note("a", 1.0)
    speeds.note("a", 2.0)
    assert speeds.of("a") == pytest.approx(1.2)
    served = Try("u", "b", 200, "serve", "", 0.5)
    speeds.learn(ended(served, stream=True, seconds=2.5, first=0.5, output_tokens=100))
    assert speeds.figures("b") == Figures(None, 50.0, 0.0)
    speeds.learn(ended(served, seconds=9.0, first=0.5, output_tokens=50))
    assert speeds.figures("b") == Figures(None, 60.0, 0.0)


@pytest.mark.parametrize(
    ("tried", "more", "errors"),
    [
        (Try("u", "a", 200, "serve", "", 0.5), {}, 0.0),
        (Try("u", "a", 500, "next", "", 0.5), {"outcome": "error"}, 1.0),
        (Try("u", "a", 429, "next", "", 0.5), {"outcome": "error"}, 1.0),
        (Try("u", "a", 0, "next", "timeout", 0.5), {"outcome": "error"}, 1.0),
        (Try("u", "a", 200, "serve", "", 0.5), {"outcome": "broken", "broken": "closed"}, 1.0),
        (Try("u", "a", 200, "serve", "", 0.5), {"outcome": "broken", "broken": "shutdown"}, None),
        (Try("u", "a", 422, "stop", "", 0.5), {"outcome": "error"}, None),
        (Try("u", "a", 0, "next", "no usable key", 0.0), {"outcome": "error"}, None),
    ],
)
def test_what_is_not_a_deployments_fault_is_not_held_against_it(
    tried: Try, more: dict[str, Any], errors: float | None
) -> None:
    speeds = Speeds()
    speeds.learn(ended(tried, **more))
    figures = speeds.figures("a")
    assert (None if figures is None else figures.errors) == errors


def test_one_that_was_passed_over_bears_its_failure_and_one_that_served_does_not() -> None:
    speeds = Speeds()
    speeds.learn(ended(Try("u", "a", 503, "next", "", 0.5), Try("v", "b", 200, "serve", "", 0.5)))
    assert [speeds.figures(name) for name in "ab"] == [Figures(errors=1.0), Figures(errors=0.0)]
    for _ in range(5):
        speeds.learn(ended(Try("u", "a", 200, "serve", "", 0.5)))
    figures = speeds.figures("a")
    assert figures is not None and figures.errors == pytest.approx(0.8**5)


def test_a_handful_of_tokens_or_all_at_once_is_no_throughput() -> None:
    speeds = Speeds()
    served = Try("u", "a", 200, "serve", "", 0.5)
    speeds.learn(ended(served, stream=True, seconds=1.0, first=0.5, output_tokens=3))
    speeds.learn(ended(served, stream=True, seconds=0.5001, first=0.5, output_tokens=300))
    assert speeds.figures("a") == Figures(errors=0.0)


def test_figures_of_names_that_callers_make_up_are_bounded() -> None:
    speeds = Speeds()
    for number in range(DEPLOYMENTS + 10):
        speeds.note(f"u/{number}", 1.0)
    assert speeds.of("u/9") is None and speeds.of("u/10") == 1.0
