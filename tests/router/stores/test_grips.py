"""Bounds that are kept at hand count as those that are looked for each time, whatever becomes of their slots."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.bounds import Bound
from router.stores.host import HostStore
from router.stores.memory import Broom, MemoryStore
from tests.router.stores.test_memory import DAY, Clock, Local, bound

BOUNDS = [bound("requests", 4), bound("tokens", 700), bound("concurrency", 3), bound("budget", 9)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "host"])
def store(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Iterator[Local]:
    if request.param == "memory":
        yield MemoryStore(clock.ns, clock.day, many=1)
        return
    store = HostStore(tmp_path / "limits", 0, 2, clock.ns, clock.day, slots=256)
    store._broom = Broom(store._places, 1)
    yield store
    store.close()


def swept(store: Local, names: Iterator[int]) -> None:
    """All that are empty, by so many others that come by."""
    for _ in range(8):
        store.add(bound("requests", 5, f"tenant/other/{next(names)}"), 1)


def test_a_slot_that_was_swept_out_is_found_again(store: Local, clock: Clock) -> None:
    names = iter(range(1000))
    grip = store.grip([(each, 2, place) for place, each in enumerate(BOUNDS)])
    for _ in range(3):
        assert store.take([(each, 2) for each in BOUNDS], "h") is None
        grip.settle((2, 2, 0, 0), "h")
        clock.seconds += 100
        swept(store, names)
    assert store.take([(each, 2) for each in BOUNDS], "h") is None
    assert [left for left, _ in grip.room(0)] == [2, 698, 1, 7]
    grip.settle((1, 5, 0, 1), "h")
    assert [store.level(each).used for each in BOUNDS] == [1, 5, 0, 1]


def test_new_terms_hold_for_what_is_kept_at_hand(store: Local) -> None:
    grip = store.grip([(each, 2, 0) for each in BOUNDS])
    assert store.take([(each, 2) for each in BOUNDS], "h") is None
    wider = [msgspec.structs.replace(each, amount=each.amount * 2) for each in BOUNDS]
    assert [left for left, _ in store.grip([(each, 0, 0) for each in wider]).room(0)] == [6, 1398, 4, 16]
    grip.settle((0,), "h")
    assert [store.level(each).used for each in wider] == [0, 0, 0, 0]


def test_keys_that_have_the_same_bound_each_for_itself_count_against_one(store: Local) -> None:
    mine, other = BOUNDS, [msgspec.structs.replace(each) for each in BOUNDS]
    grips = [store.grip([(each, 1, 0) for each in bounds]) for bounds in (mine, other)]
    for bounds, hold in ((mine, "a"), (other, "b")):
        assert store.take([(each, 1) for each in bounds], hold) is None
    assert grips[0].room(0) == grips[1].room(0)
    assert [left for left, _ in grips[0].room(0)] == [2, 698, 1, 7]
    assert [left for left, _ in grips[1].room(2)] == [4, 700, 3, 9]
    assert [left for left, _ in grips[1].room(10_000)] == [each.amount for each in other], "never more than there is"
    for grip, hold in zip(grips, "ab", strict=True):
        grip.settle((0,), hold)
    assert [store.level(each).used for each in mine] == [0, 0, 0, 0]


acts = st.lists(
    st.tuples(st.just("take"), st.integers(0, 5), st.integers(0, 4))
    | st.tuples(st.just("settle"), st.integers(0, 5), st.tuples(*[st.integers(0, 6)] * 4))
    | st.tuples(st.just("wait"), st.floats(0, 12), st.sampled_from([0, 0, DAY // 3, DAY, -DAY]))
    | st.tuples(st.just("change"), st.just(0), st.integers(1, 3))
    | st.tuples(st.just("sweep"), st.just(0), st.just(0)),
    max_size=40,
)


@given(acts=acts)
@settings(max_examples=60, deadline=None)
def test_what_is_kept_at_hand_counts_as_what_is_looked_for(
    acts: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Three stores are asked the same: one without grips, one of each kind with them, which forgets what it can."""
    clock = Clock()
    path = tmp_path_factory.mktemp("host") / "limits"
    host = HostStore(path, 0, 1, clock.ns, clock.day, slots=1024)
    host._broom = Broom(host._places, 1)
    plain = MemoryStore(clock.ns, clock.day)
    kept: list[Local] = [MemoryStore(clock.ns, clock.day, many=1), host]
    names = iter(range(10_000))
    bounds, held = BOUNDS, dict[int, list[tuple[int, list[Bound], list[Any]]]]()
    grips: dict[tuple[int, int], list[Any]] = {}

    def gripped(n: int) -> list[Any]:
        key = bounds[0].amount, n
        if key not in grips:
            grips[key] = [each.grip([(one, n, place) for place, one in enumerate(bounds)]) for each in kept]
        return grips[key]

    for name, what, more in acts:
        if name == "wait":
            clock.seconds += what
            clock.wall += more
        elif name == "change":
            bounds = [msgspec.structs.replace(each, amount=each.amount * more) for each in BOUNDS]
        elif name == "sweep":
            for each in kept:
                swept(each, names)
        elif name == "take":
            found = [each.take([(one, more) for one in bounds], str(what)) for each in (plain, *kept)]
            assert found[0] == found[1] == found[2]
            if found[0] is None:
                held.setdefault(what, []).append((more, bounds, gripped(more)))
        else:
            for n, mine, both in held.pop(what, []):
                plain.settle([(one, n, used) for one, used in zip(mine, more, strict=True)], str(what))
                for grip in both:
                    grip.settle(more, str(what))
        levels = [[each.level(one) for one in bounds] for each in (plain, *kept)]
        assert levels[0] == levels[1] == levels[2]
        rooms = [grip.room(0) for grip in gripped(1)]
        assert rooms[0] == rooms[1]
        assert [left for left, _ in rooms[0]] == [
            max(0, one.amount - level.used) for one, level in zip(bounds, levels[0], strict=True)
        ]
    host.close()


def test_a_free_request_leaves_nothing_in_its_budget(clock: Clock) -> None:
    store = MemoryStore(clock.ns, clock.day)
    budget = bound("budget", 9)
    for number in range(3):
        assert store.take([(budget, 0)], str(number)) is None
        store.settle([(budget, 0, 0)], str(number))
    assert not store.holds(budget), "it may be swept out"


def test_a_place_that_is_looked_for_again_is_not_swept_out_meanwhile(clock: Clock, tmp_path: Path) -> None:
    store = HostStore(tmp_path / "limits", 0, 1, clock.ns, clock.day, slots=16)
    budget = bound("budget", 9)
    store.settle([(budget, 0, 0)], "h")
    place = store._places[budget.name]
    store._words[place.at] = 0  # the table has given it away
    store._broom = Broom(store._places, 1)
    store._broom._unseen = iter([budget.name])
    assert store.take([(budget, 6)], "a") is None
    store.settle([(budget, 6, 6)], "a")
    assert store.level(budget).used == 6
    clock.wall += 2 * DAY
    assert store.level(budget).used == 0, "its period is its own still"
    store.close()
