"""What only a store of several workers promises: real processes, killed and stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router.bounds import Bound
from router.stores.host import HostStore
from router.stores.lock import ROBUST

ROOT = Path(__file__).parents[3]
COUNT = 4
LOCKS = [True, False] if ROBUST else [False]


class Workers:
    def __init__(self, path: Path, robust: bool) -> None:
        self.path = path
        self.robust = robust
        self.all = [self.started(index) for index in range(COUNT)]

    def started(self, index: int) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [
                sys.executable,
                Path(__file__).with_name("worker.py"),
                self.path,
                str(index),
                str(COUNT),
                str(self.robust),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def tell(self, index: int, act: str, bounds: list[tuple[str, int]] | None = None, times: int = 1) -> None:
        pipe = self.all[index].stdin
        assert pipe is not None
        pipe.write(json.dumps({"act": act, "bounds": bounds or [], "times": times}) + "\n")
        pipe.flush()

    def hear(self, index: int) -> Any:
        pipe = self.all[index].stdout
        assert pipe is not None
        return json.loads(pipe.readline())

    def ask(self, index: int, act: str, bounds: list[tuple[str, int]], times: int = 1) -> Any:
        self.tell(index, act, bounds, times)
        return self.hear(index)

    def replace(self, index: int) -> None:
        self.end(self.all[index])
        self.all[index] = self.started(index)

    @staticmethod
    def end(worker: "subprocess.Popen[str]") -> None:
        worker.kill()
        worker.wait()
        for pipe in (worker.stdin, worker.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture(scope="module", params=LOCKS, ids=["mutex", "fcntl"][-len(LOCKS) :])
def workers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """The same four for all tests, of which each has bounds of its own."""
    found = Workers(tmp_path_factory.mktemp("host") / "limits", request.param)
    yield found
    for each in found.all:
        found.end(each)


def test_four_workers_let_exactly_the_amount_through_in_each_of_twenty_rounds(workers: Workers) -> None:
    for kind in ("budget", "requests", "concurrency"):
        for number in range(20):
            bounds = [(f"round {number}/{kind}", 10)]
            for index in range(COUNT):
                workers.tell(index, "hold", bounds, 50)
            told = [workers.hear(index) for index in range(COUNT)]
            assert sum(fitted for fitted, *_ in told) == 10, (kind, number, told)
            assert all(alone == 0 for *_, alone, _ in told)


def test_bounds_taken_in_opposite_order_by_all_do_not_wait_for_each_other(workers: Workers) -> None:
    bounds = [("order a/concurrency", 100), ("order b/budget", 10**9), ("order c/budget", 10**9)]
    begun = time.monotonic()
    for index in range(COUNT):
        workers.tell(index, "use", bounds[:: 1 if index % 2 else -1], 3000)
    told = [workers.hear(index) for index in range(COUNT)]
    assert [fitted for fitted, *_ in told] == [3000] * COUNT
    assert workers.ask(0, "hold", bounds, 0)[1] == [0, 3000 * COUNT, 3000 * COUNT]
    assert time.monotonic() - begun < 20


def test_what_a_killed_worker_held_is_free_again_when_another_takes_its_place(workers: Workers) -> None:
    bounds = [("held/concurrency", 10), ("held/budget", 10)]
    assert workers.ask(0, "hold", bounds, 8)[:2] == [8, [8, 8]]
    assert workers.ask(1, "hold", bounds, 8)[:2] == [2, [10, 10]]
    workers.replace(0)
    assert workers.ask(0, "hold", bounds, 0)[1] == [2, 2]
    assert workers.ask(2, "hold", bounds, 50)[:2] == [8, [10, 10]]


def test_what_a_killed_worker_had_used_stays_used(workers: Workers) -> None:
    bounds = [("used/requests", 10), ("used/budget", 10)]
    assert workers.ask(0, "use", bounds, 8)[1] == [8, 8]
    workers.replace(0)
    assert workers.ask(0, "use", bounds, 50)[:2] == [2, [10, 10]]


def test_a_worker_killed_while_it_has_the_lock_keeps_nobody_out(workers: Workers) -> None:
    bounds = [("locked/budget", 10)]
    assert workers.ask(0, "hold", bounds, 3)[0] == 3
    workers.tell(0, "die locked")
    workers.all[0].wait()
    assert workers.ask(1, "hold", bounds, 3) == [3, [6], 0, 0]
    workers.replace(0)
    assert workers.ask(0, "hold", bounds, 50) == [7, [10], 0, 0]


def test_a_worker_stopped_while_it_has_the_lock_is_waited_for_once(workers: Workers) -> None:
    if not workers.robust:
        pytest.skip("fcntl waits as long as it takes")
    bounds = [("stopped/budget", 10**6)]
    assert workers.ask(1, "use", bounds, 1)[0] == 1
    workers.tell(0, "stop locked")
    workers.hear(0)
    os.waitpid(workers.all[0].pid, os.WUNTRACED)
    begun = time.monotonic()
    fitted, used, _, unlocked = workers.ask(1, "use", bounds, 500)
    assert (fitted, used) == (500, [501])
    assert unlocked == 1001
    assert time.monotonic() - begun < 2
    os.kill(workers.all[0].pid, signal.SIGCONT)
    assert workers.ask(0, "use", bounds, 1)[:2] == [1, [502]]
    assert workers.ask(1, "use", bounds, 1) == [1, [503], 0, 1001]


def limit(name: str, amount: int = 5) -> Bound:
    return Bound(name, "key", "k", "concurrency", amount)


def test_a_full_table_gives_an_empty_ones_place_away_and_else_counts_in_this_worker_alone(tmp_path: Path) -> None:
    store = HostStore(tmp_path / "limits", 0, 1, slots=16)
    names = [limit(f"n{number}") for number in range(20)]
    for each in names:
        assert store.take([(each, 1)], "h") is None
        store.settle([(each, 1, 1)], "h")
    assert store.alone == 0, "sixteen places are enough for twenty names that hold nothing"
    for each in names:
        assert [store.take([(each, 1)], "h") for _ in range(6)][4:] != [None, None]
    assert [store.level(each).used for each in names] == [5] * 20
    assert store.alone > 0
    for each in names:
        store.settle([(each, 5, 5)], "h")
    assert [store.level(each).used for each in names] == [0] * 20
    alone = store.alone
    for each in names:
        assert store.take([(each, 1)], "h") is None
        store.settle([(each, 1, 1)], "h")
    assert store.alone == alone, "what was counted alone goes back to the table"
    store.close()


def test_a_file_made_for_another_number_of_workers_is_refused(tmp_path: Path) -> None:
    HostStore(tmp_path / "limits", 0, 2).close()
    with pytest.raises(ValueError, match="another number of workers"):
        HostStore(tmp_path / "limits", 0, 3)


def test_no_name_stands_in_the_file(tmp_path: Path) -> None:
    store = HostStore(tmp_path / "limits", 0, 2)
    store.add(Bound("tenant/acme/tokens", "tenant", "acme", "tokens", 10, 60.0), 5)
    store.close()
    assert b"acme" not in (tmp_path / "limits").read_bytes()
    assert (tmp_path / "limits").stat().st_mode & 0o777 == 0o600


def test_a_period_that_another_worker_turned_frees_what_this_one_held_in_the_last(tmp_path: Path) -> None:
    days = [20_000.5]
    mine, other = (
        HostStore(tmp_path / "limits", index, 2, wall=lambda: days[0] * 86_400, slots=64) for index in range(2)
    )
    budget = Bound("key/k/budget", "key", "k", "budget", 10, 0.0, "day")
    assert mine.take([(budget, 6)], "old") is other.take([(budget, 4)], "old") is None
    days[0] += 1
    assert other.take([(budget, 7)], "new") is None
    mine.settle([(budget, 6, 1)], "old")
    assert mine.level(budget).used == other.level(budget).used == 8
    assert mine.take([(budget, 2)], "new") is None
    other.settle([(budget, 7, 0)], "new")
    other.settle([(budget, 4, 4)], "old")
    assert mine.level(budget).used == other.level(budget).used == 7
    mine.close()
    other.close()


def test_a_total_that_a_killed_worker_left_half_written_is_reckoned_anew(tmp_path: Path) -> None:
    mine, other = (HostStore(tmp_path / "limits", index, 2, slots=64) for index in range(2))
    bounds = [limit("a"), Bound("b", "key", "k", "budget", 9)]
    for store in (mine, other):
        assert store.take([(each, 2) for each in bounds], "h") is None
    for each in bounds:
        place: Any = mine._places[each.name]
        mine._words[place.own] = 0  # the column is written first, the total after it
    HostStore(tmp_path / "limits", 0, 2, slots=64).close()
    assert [other.level(each).used for each in bounds] == [2, 2]
    mine.close()
    other.close()
