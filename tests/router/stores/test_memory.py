"""What both local stores promise, each asked the same."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.bounds import NANO, Bound, Level, Reached
from router.stores.host import HostStore
from router.stores.memory import MemoryStore

DAY = 86_400
NOON = 20_000 * DAY + DAY // 2


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0
        self.wall = float(NOON)

    def ns(self) -> int:
        return round(self.seconds * NANO)

    def day(self) -> float:
        return self.wall


@pytest.fixture
def clock() -> Clock:
    return Clock()


Local = MemoryStore | HostStore


@pytest.fixture(params=["memory", "host"])
def store(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Iterator[Local]:
    if request.param == "memory":
        yield MemoryStore(clock.ns, clock.day)
        return
    store = HostStore(tmp_path / "limits", 0, 2, clock.ns, clock.day, slots=256)
    yield store
    assert store.alone == store.unlocked == 0
    store.close()


def bound(kind: Any, amount: int, name: str = "", seconds: float = 10.0, period: str = "day") -> Bound:
    rate = kind not in ("concurrency", "budget")
    period = period if kind == "budget" else ""
    return Bound(name or f"tenant/a/{kind}", "tenant", "a", kind, amount, seconds if rate else 0.0, period)


def count(store: Local, limit: Bound, most: int = 1000) -> int:
    return next((number for number in range(most) if store.take([(limit, 1)], f"c{number}") is not None), most)


@pytest.mark.parametrize("kind", ["requests", "tokens", "concurrency", "budget"])
def test_exactly_the_amount_is_let_through(store: Local, kind: str) -> None:
    assert count(store, bound(kind, 10)) == 10


@pytest.mark.parametrize("kind", ["requests", "concurrency", "budget"])
def test_what_is_settled_as_unused_is_all_given_back(store: Local, kind: str) -> None:
    limit = bound(kind, 10)
    for number in range(10):
        assert store.take([(limit, 1)], f"h{number}") is None
    for number in range(10):
        store.settle([(limit, 1, 0)], f"h{number}")
    assert store.level(limit).used == 0
    assert count(store, limit) == 10


def test_a_take_is_all_or_nothing(store: Local) -> None:
    limits = [bound("requests", 5), bound("tokens", 100), bound("concurrency", 5), bound("budget", 50)]
    full = bound("concurrency", 1, "model/m/concurrency")
    assert store.take([(full, 1)], "first") is None
    before = [store.level(each) for each in limits]
    reached = store.take([*((each, 3) for each in limits), (full, 1)], "second")
    assert reached == Reached(full, 1, 1.0)
    assert [store.level(each) for each in limits] == before
    assert [store.level(each).used for each in limits] == [0, 0, 0, 0]


def test_the_same_bound_asked_twice_at_once_is_undone_as_often(store: Local) -> None:
    limit = bound("budget", 5)
    assert store.take([(limit, 3), (limit, 3)], "h") is not None
    assert store.level(limit).used == 0


def test_one_hold_takes_twice_and_settles_once(store: Local) -> None:
    head = [bound("requests", 5), bound("concurrency", 5)]
    body = [bound("tokens", 100), bound("budget", 50)]
    assert store.take([(each, 1) for each in head], "h") is None
    assert store.take([(each, 40) for each in body], "h") is None
    assert [store.level(each).used for each in head + body] == [1, 1, 40, 40]
    store.settle([(head[0], 1, 1), (head[1], 1, 1), (body[0], 40, 30), (body[1], 40, 45)], "h")
    assert [store.level(each).used for each in head + body] == [1, 0, 30, 45]


def test_one_hold_that_takes_a_budget_twice_frees_what_each_settling_says(store: Local) -> None:
    limit = bound("budget", 50)
    assert store.take([(limit, 10)], "h") is store.take([(limit, 15)], "h") is None
    store.settle([(limit, 10, 1)], "h")
    assert store.level(limit).used == 16
    store.settle([(limit, 15, 2)], "h")
    assert store.level(limit).used == 3


def test_a_settling_that_nobody_took_for_only_adds_what_was_used(store: Local) -> None:
    limits = [bound("concurrency", 5), bound("budget", 50)]
    assert store.take([(limits[1], 7)], "other") is None
    store.settle([(limits[0], 1, 1), (limits[1], 20, 20)], "unknown")
    assert [store.level(each).used for each in limits] == [0, 27]


def test_a_rate_fills_again_evenly_and_says_when_there_is_room(store: Local, clock: Clock) -> None:
    limit = bound("requests", 10)
    assert count(store, limit) == 10
    assert store.take([(limit, 3)], "h") == Reached(limit, 10, 3.0)
    clock.seconds += 2.5
    assert store.level(limit) == Level(8, 7.5)
    assert store.take([(limit, 3)], "h") == Reached(limit, 8, 0.5)
    clock.seconds += 0.5
    assert store.take([(limit, 3)], "h") is None
    assert store.take([(limit, 11)], "h") == Reached(limit, 10, None)


def test_what_was_used_beyond_what_was_taken_counts_over_the_edge(store: Local, clock: Clock) -> None:
    limit = bound("tokens", 10)
    assert store.take([(limit, 10)], "h") is None
    store.settle([(limit, 10, 25)], "h")
    assert store.level(limit) == Level(25, 25.0)
    assert store.take([(limit, 1)], "i") == Reached(limit, 25, 16.0)


def test_what_is_added_counts_whatever_the_bound_says(store: Local) -> None:
    limits = [bound("tokens", 10), bound("budget", 10), bound("concurrency", 10)]
    for each in limits:
        store.add(each, 30)
    assert [store.level(each).used for each in limits] == [30, 30, 0]
    assert [store.take([(each, 0)], "h") is None for each in limits] == [False, False, True]


def test_a_budget_that_is_used_up_names_the_end_of_its_period(store: Local) -> None:
    day, ever = bound("budget", 10), bound("budget", 10, "key/k/budget", period="")
    for limit, left in ((day, DAY / 2), (ever, None)):
        assert store.take([(limit, 10)], "h") is None
        assert store.take([(limit, 1)], "i") == Reached(limit, 10, left)
        assert store.level(limit) == Level(10, left)
    assert store.take([(day, 11)], "i") == Reached(day, 10, None)


def test_a_period_that_turns_begins_empty_and_old_reservations_do_not_burden_it(store: Local, clock: Clock) -> None:
    limit = bound("budget", 10)
    assert store.take([(limit, 6)], "old") is None
    store.add(limit, 4)
    clock.wall += DAY
    assert store.level(limit) == Level(0, DAY / 2)
    assert store.take([(limit, 5)], "new") is None
    store.settle([(limit, 6, 2)], "old")
    assert store.level(limit).used == 7, "what the old one used counts now, and the new one's reservation stands"
    store.settle([(limit, 5, 5)], "new")
    assert store.level(limit).used == 7


def test_a_wall_clock_that_jumps_back_keeps_the_period(store: Local, clock: Clock) -> None:
    limit = bound("budget", 10)
    assert store.take([(limit, 10)], "h") is None
    clock.wall += DAY
    assert store.take([(limit, 10)], "h") is None
    clock.wall -= DAY
    assert store.take([(limit, 1)], "h") == Reached(limit, 10, 1.5 * DAY)


def test_a_budget_begins_with_what_the_ledger_has_seen(store: Local) -> None:
    limit = bound("budget", 10)
    store.seed(limit, 7)
    store.seed(limit, 4)
    store.seed(bound("requests", 5), 5)
    assert count(store, limit) == 3
    assert store.level(bound("requests", 5)).used == 0


def test_another_amount_keeps_what_was_used(store: Local, clock: Clock) -> None:
    assert count(store, bound("requests", 10)) == 10
    assert store.level(bound("requests", 100, seconds=50.0)) == Level(10, 5.0)
    assert store.take([(bound("requests", 5, seconds=50.0), 1)], "h") is not None
    for limit in (bound("budget", 10), bound("concurrency", 10)):
        assert count(store, limit) == 10
        assert count(store, bound(limit.kind, 15)) == 5


def test_another_period_is_another_budget_and_what_runs_settles_in_its_own(store: Local) -> None:
    day, month = bound("budget", 10), bound("budget", 100, period="month")
    assert store.take([(day, 10)], "old") is None
    assert store.take([(month, 60)], "new") is None
    store.settle([(day, 10, 3)], "old")
    assert (store.level(day).used, store.level(month).used) == (3, 60)
    store.settle([(month, 60, 20)], "new")
    assert (store.level(day).used, store.level(month).used) == (3, 20)


def test_a_limit_of_nothing_refuses_for_ever(store: Local) -> None:
    for kind in ("requests", "concurrency", "budget"):
        assert store.take([(bound(kind, 0), 1)], "h") == Reached(bound(kind, 0), 0, None)


def test_amounts_beyond_eight_bytes_are_counted(store: Local) -> None:
    for kind in ("requests", "concurrency", "budget"):
        limit = bound(kind, 10**30)
        assert store.take([(limit, 10**18)], "h") is None
        store.settle([(limit, 10**18, 10**25)], "h")
        assert store.level(limit).used >= (0 if kind == "concurrency" else 10**18)


holds = st.permutations(range(6))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=6, max_size=6), holds)
@settings(max_examples=40, deadline=None)
def test_the_order_of_settlings_does_not_matter_to_a_budget(calls: list[tuple[int, int]], order: list[int]) -> None:
    limit = bound("budget", 30)
    store = MemoryStore()
    for hold, (n, _) in enumerate(calls):
        assert store.take([(limit, n)], str(hold)) is None
    for hold in order:
        store.settle([(limit, *calls[hold])], str(hold))
    assert store.level(limit).used == sum(used for _, used in calls)


LIMITS = [
    bound("requests", 4), bound("tokens", 700), bound("concurrency", 3), bound("budget", 9),
    bound("budget", 20, "key/k/budget", period="week"), bound("budget", 25, "key/l/budget", period=""),
]  # fmt: skip
limits = st.lists(
    st.tuples(st.sampled_from(LIMITS), st.integers(0, 5)), max_size=4, unique_by=lambda each: each[0].name
)
acts = st.lists(
    st.tuples(st.just("take"), limits, st.integers(0, 5))
    | st.tuples(st.just("settle"), st.integers(0, 5), st.integers(0, 6))
    | st.tuples(st.just("wait"), st.floats(0, 12), st.sampled_from([0, 0, DAY // 3, DAY, -DAY])),
    max_size=40,
)


@given(acts=acts)
@settings(max_examples=60, deadline=None)
def test_both_stores_count_alike_and_never_over_the_edge(
    acts: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    clock = Clock()
    path = tmp_path_factory.mktemp("host") / "limits"
    both: list[Local] = [MemoryStore(clock.ns, clock.day), HostStore(path, 0, 1, clock.ns, clock.day, slots=64)]
    held: dict[int, list[tuple[Bound, int]]] = {}
    for name, what, more in acts:
        if name == "wait":
            clock.seconds += what
            clock.wall += more
        elif name == "take":
            found = [store.take(what, str(more)) for store in both]
            assert found[0] == found[1]
            if found[0] is None:
                held.setdefault(more, []).extend(what)
        else:
            mine = [(limit, n, min(n, more)) for limit, n in held.pop(what, [])]
            for store in both:
                store.settle(mine, str(what))
        levels = [[store.level(limit) for limit in LIMITS] for store in both]
        assert levels[0] == levels[1]
        assert all(level.used <= limit.amount or limit.period for level, limit in zip(levels[0], LIMITS, strict=True))
    if isinstance(both[1], HostStore):
        both[1].close()


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 10), st.floats(0, 20), st.integers(0, 10)), max_size=30))
@settings(max_examples=60, deadline=None)
def test_a_rate_never_gives_more_in_all_than_its_amount_and_what_drained(
    calls: list[tuple[float, int, float, int]],
) -> None:
    """However late a reservation is settled, what it did not use is lent once and not twice."""
    clock = Clock()
    begun = clock.ns()
    store, limit = MemoryStore(clock.ns), bound("tokens", 10)
    pending: list[tuple[float, int, int, str]] = []
    used = 0
    for number, (passed, n, lasts, unused) in enumerate(calls):
        clock.seconds += passed
        for due in [each for each in pending if each[0] <= clock.seconds]:
            pending.remove(due)
            store.settle([(limit, due[1], due[2])], due[3])
            used += due[2]
        if store.take([(limit, n)], str(number)) is None:
            pending.append((clock.seconds + lasts, n, max(0, n - unused), str(number)))
        assert used + sum(each[1] for each in pending) <= 10 + (clock.ns() - begun) / NANO


def filled(store: MemoryStore, names: range, take: Callable[[int], bool]) -> None:
    for number in names:
        limit = bound("concurrency", 5, f"tenant/{number}/concurrency")
        assert store.take([(limit, 1)], str(number)) is None
        if not take(number):
            store.settle([(limit, 1, 1)], str(number))


def test_slots_that_are_empty_again_are_swept_out_and_no_other() -> None:
    store = MemoryStore(many=100)
    filled(store, range(2000), lambda number: number % 20 == 0)
    assert len(store._slots) < 220
    kept = {f"tenant/{number}/concurrency" for number in range(0, 2000, 20)}
    assert kept <= set(store._slots)


def test_many_that_all_hold_something_are_all_kept() -> None:
    store = MemoryStore(many=100)
    filled(store, range(300), lambda _: True)
    assert len(store._slots) == 300
