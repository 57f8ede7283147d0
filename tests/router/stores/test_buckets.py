from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.bounds import NANO, Bound
from router.stores.buckets import FAR, Calendar, measures, poured, rescaled, stretch, units, until_room

amounts = st.integers(1, 50) | st.integers(1, 10**7) | st.just(700_000)
spans = st.sampled_from([1, 7, NANO, 60 * NANO, 86_400 * NANO])
START = 10**15

Steps = list[tuple[float, float]]  # part of the span that passes, part of the amount that is asked
steps = st.lists(st.tuples(st.floats(0, 0.7), st.floats(0, 1.0)), max_size=30)


def fits(at: int, rest: int, now: int, span: int) -> bool:
    return at + (rest > 0) - now <= span


def taken(events: Steps, amount: int, span: int) -> list[tuple[int, int, bool]]:
    """When, how many, and whether they fitted."""
    at, rest, now, found = 0, 0, START, []
    for passed, part in events:
        now += int(passed * span)
        n = ceil(part * amount)
        moment = poured(at, rest, now, n, amount, span)
        if fit := fits(*moment, now, span):
            at, rest = moment
        found.append((now, n, fit))
    return found


@given(amounts, spans, st.lists(st.floats(0, 0.3), max_size=30))
@settings(max_examples=60, deadline=None)
def test_exactly_the_amount_fits_at_once(amount: int, span: int, parts: list[float]) -> None:
    at, rest, inside = 0, 0, 0
    for n in (*(ceil(part * amount) for part in parts), amount, 1):
        moment = poured(at, rest, START, n, amount, span)
        assert fits(*moment, START, span) == (inside + n <= amount)
        if inside + n <= amount:
            (at, rest), inside = moment, inside + n
    left = amount - inside
    assert fits(*poured(at, rest, START, left, amount, span), START, span)
    assert not fits(*poured(at, rest, START, left + 1, amount, span), START, span)


@given(amounts, spans, steps)
@settings(max_examples=60, deadline=None)
def test_any_window_has_at_most_the_amount_and_what_drained_in_it(amount: int, span: int, events: Steps) -> None:
    found = [(when, n) for when, n, fit in taken(events, amount, span) if fit]
    for first in range(len(found)):
        inside = 0
        for when, n in found[first:]:
            inside += n
            assert inside <= amount + (when - found[first][0]) * amount // span


@given(amounts, spans, steps)
@settings(max_examples=60, deadline=None)
def test_it_is_an_exact_leaking_bucket(amount: int, span: int, events: Steps) -> None:
    inside, last = Fraction(0), START
    for when, n, fit in taken(events, amount, span):
        inside = max(Fraction(0), inside - Fraction((when - last) * amount, span))
        last = when
        assert fit == (inside + n <= amount)
        inside += n if fit else 0


@given(amounts, spans, steps, st.floats(0, 1), st.floats(0, 2))
@settings(max_examples=60, deadline=None)
def test_settled_is_as_if_what_was_used_had_been_taken(
    amount: int, span: int, events: Steps, part: float, used: float
) -> None:
    at, rest, now = 0, 0, START
    for passed, each in events:
        now += int(passed * span)
        at, rest = poured(at, rest, now, ceil(each * amount), amount, span)
    n, u = ceil(part * amount), ceil(used * amount)
    settled = poured(*poured(at, rest, now, n, amount, span), now, u - n, amount, span)
    assert settled == poured(at, rest, now, u, amount, span)


@given(amounts, spans, st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 2))
@settings(max_examples=60, deadline=None)
def test_a_settling_never_goes_below_empty(amount: int, span: int, n: int, u: int, passed: float) -> None:
    now = START + int(passed * span)
    at, rest = poured(*poured(0, 0, START, n, amount, span), now, u - n, amount, span)
    assert (at, rest) >= (now, 0)
    assert units(at, rest, now, amount, span) <= max(n, u)


@given(amounts, spans, st.floats(0, 3), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_there_is_room_at_the_moment_named_and_not_before(amount: int, span: int, full: float, part: float) -> None:
    at, rest = poured(0, 0, START, int(full * amount), amount, span)
    n = ceil(part * amount)
    wait = until_room(at, rest, START, n, amount, span)
    assert wait is not None
    then = START + round(wait * NANO)
    assert fits(*poured(at, rest, then, n, amount, span), then, span)
    assert then == START or not fits(*poured(at, rest, then - 1, n, amount, span), then - 1, span)
    assert until_room(at, rest, START, amount + 1, amount, span) is None


@given(amounts, spans, amounts, spans, st.floats(0, 2))
@settings(max_examples=60, deadline=None)
def test_another_amount_leaves_the_units_as_they_are(
    amount: int, span: int, other: int, longer: int, full: float
) -> None:
    n = int(full * amount)
    moment = rescaled(*poured(0, 0, START, n, amount, span), START, (amount, span), (other, longer))
    assert n - 1 <= units(*moment, START, other, longer) <= n
    back = rescaled(*moment, START, (other, longer), (amount, span))
    assert units(*back, START, amount, span) <= n


def test_units_are_counted_whole_until_they_have_drained() -> None:
    at, rest = poured(0, 0, START, 3, 10, 100)
    assert [units(at, rest, START + passed, 10, 100) for passed in (0, 1, 9, 10, 11, 29, 30, 99)] == [
        3, 3, 3, 2, 2, 1, 0, 0,
    ]  # fmt: skip


def test_a_rate_of_nothing_lets_nothing_through() -> None:
    amount, span, most = measures(Bound("n", "key", "k", "tokens", 0, 60.0))
    at, rest = poured(0, 0, START, 1, amount, span)
    assert at + (rest > 0) - START > most


def test_amounts_and_times_of_any_size_can_be_counted() -> None:
    amount, span, most = measures(Bound("n", "key", "k", "tokens", 10**30, 1e15))
    assert amount == FAR and most == span == 2**60


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("day", "2024-12-31", "2025-01-01"),
        ("week", "2024-12-30", "2025-01-06"),
        ("month", "2024-12-01", "2025-01-01"),
        ("year", "2024-01-01", "2025-01-01"),
    ],
)
def test_a_period_is_the_calendars_in_utc(period: str, start: str, end: str) -> None:
    found = stretch(period, datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
    assert [str(datetime.fromtimestamp(each, UTC).date()) for each in found] == [start, end]


@given(st.sampled_from(["day", "week", "month", "year"]), st.integers(0, 4 * 10**9))
@settings(max_examples=100, deadline=None)
def test_periods_follow_each_other_without_a_gap(period: str, wall: int) -> None:
    start, end = stretch(period, wall)
    assert start <= wall < end
    assert stretch(period, start) == stretch(period, end - 1) == (start, end)
    assert stretch(period, end)[0] == end


def test_a_wall_clock_that_jumps_back_opens_no_old_period() -> None:
    days: list[float] = [86_400.0 * 10, 86_400.0 * 12, 86_400.0 * 11]
    wall: Callable[[], float] = iter(days).__next__
    calendar = Calendar(wall)
    assert [calendar.present("day")[0] // 86_400 for _ in days] == [10, 12, 12]
