"""A key that is refused in one worker rests in all of them, soon, once, and without anybody waiting."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from router.health import Resting
from router.rests import LEAST, MOST, WORD, Rests, Told, ToReplicas, ToSiblings, messages, read
from router.siblings import LONGEST_NAME, Siblings

GROQ = "groq/…ab12"


class Way:
    def __init__(self) -> None:
        self.told: list[list[Told]] = []

    async def tell(self, rests: Sequence[Told]) -> None:
        self.told.append(list(rests))


def test_a_rest_is_known_here_at_once_and_told_once_with_others_of_the_same_moment() -> None:
    async def run() -> list[list[Told]]:
        resting, way = Resting(), Way()
        rests = Rests(resting, lambda: 100.0)
        rests.open(way)
        rests.publish(GROQ, 160.0, "forbidden")
        rests.publish("groq/…cd34", 700.0, "refused")
        rests.publish(GROQ, 160.5, "forbidden")  # no news
        rests.publish("groq/llama", 100.0 + LEAST / 2, "limited")  # over before it is known
        assert resting.until(GROQ) == 160.5 and resting.until("groq/llama") and not resting.calm
        await asyncio.sleep(0.1)
        await rests.close()
        return way.told

    assert asyncio.run(run()) == [[(GROQ, 60.0, "forbidden"), ("groq/…cd34", 600.0, "refused")]]


def test_what_others_tell_is_believed_for_an_hour_at_most_and_never_told_on() -> None:
    async def run() -> tuple[Resting, Rests, Way]:
        resting, way = Resting(), Way()
        rests = Rests(resting, lambda: 100.0)
        rests.open(way)
        rests.merge([(GROQ, 60.0, "credit"), ("a", 1e9, "x" * 99), ("b", float("nan"), ""), ("c", -1.0, "")])
        rests.merge([("d" * 2000, 5.0, ""), ("e", float("inf"), "")])
        await asyncio.sleep(0.1)
        return resting, rests, way

    resting, rests, way = asyncio.run(run())
    assert resting.resting(100.0) == {GROQ: 160.0, "a": 100.0 + MOST} and way.told == []
    assert rests.why(GROQ) == "credit" and len(rests.why("a")) == 32


def test_a_shorter_rest_never_takes_the_place_of_a_longer_one_nor_of_its_reason() -> None:
    resting = Resting()
    rests = Rests(resting, lambda: 0.0)
    rests.publish(GROQ, 600.0, "refused")
    rests.merge([(GROQ, 5.0, "limited")])
    rests.publish(GROQ, 9.0, "limited")
    assert resting.until(GROQ) == 600.0 and rests.why(GROQ) == "refused"


class Shared:
    """A store that replicas share, as one of them sees it."""

    def __init__(self) -> None:
        self.heard: Callable[[str, float], None] | None = None
        self.others: list[Shared] = []

    def publish(self, name: str, until_unix: float) -> None:
        for each in self.others:
            if each.heard is not None:
                each.heard(name, until_unix - time.time())


def test_replicas_are_told_the_reason_with_the_name() -> None:
    one, two = Rests(Resting()), Rests(Resting())
    here, there = Shared(), Shared()
    here.others = [there]
    way, _ = ToReplicas(here, one), ToReplicas(there, two)
    asyncio.run(way.tell([("groq/a model", 60.0, "limited"), (GROQ, 600.0, "refused")]))
    assert two.why(GROQ) == "refused" and two.why("groq/a model") == "limited"
    assert two.resting.until(GROQ) == pytest.approx(time.monotonic() + 600, abs=1)


def test_many_rests_make_messages_that_are_short_enough_and_lose_none() -> None:
    rests = [(f'upstream-{number}/…{number:04x} \n"', 60.0, "limited") for number in range(200)]
    made = messages(rests)
    assert len(made) > 1 and all(len(f"{WORD} {each}".encode()) <= LONGEST_NAME for each in made)
    assert [each for message in made for each in read(message)] == rests
    assert messages([("x" * 2000, 1.0, ""), (GROQ, 2.0, "")]) == messages([(GROQ, 2.0, "")])


@pytest.mark.parametrize("message", ["", "x", "{}", "[[1,2,3]]", '[["a",1]]', "[" * 9999, '[["a","b","c"]]'])
def test_a_message_that_cannot_be_read_tells_nothing(message: str) -> None:
    assert read(message) == []


def test_the_workers_of_a_host_know_within_a_tenth_of_a_second(tmp_path: Path) -> None:
    async def run() -> float:
        workers = [Siblings(tmp_path, index, 3) for index in range(3)]
        restings = [Resting() for _ in workers]
        rests = [Rests(each) for each in restings]

        def told(own: Rests, name: str) -> bytes:
            what, _, rest = name.partition(" ")
            if what == WORD:
                own.merge(read(rest))
            return b""

        for worker, own in zip(workers, rests, strict=True):
            await worker.open(lambda name, own=own: told(own, name))  # type: ignore[misc]
            own.open(ToSiblings(worker))
        began = time.monotonic()
        rests[0].publish(GROQ, began + 600.0, "refused")
        while any(each.calm for each in restings):
            await asyncio.sleep(0.002)
            assert time.monotonic() - began < 2.0
        took = time.monotonic() - began
        assert [round(each.until(GROQ) - began) for each in restings] == [600] * 3
        assert [each.why(GROQ) for each in rests] == ["refused"] * 3
        for worker, own in zip(workers, rests, strict=True):
            await own.close()
            await worker.close()
        return took

    assert asyncio.run(run()) < 0.1
