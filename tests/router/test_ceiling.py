"""An upstream that has given as much as it may is passed over, and what an attempt did not use goes back."""

import asyncio
from typing import Any

import pytest

from router.bounds import NANO, LimitSettings, Reached
from router.ceiling import Ceiling, Uses
from router.stores.memory import MemoryStore


def ceiling(store: MemoryStore | None = None, **limits: Any) -> Ceiling:
    return Ceiling("groq", LimitSettings.model_validate(limits), store or MemoryStore(lambda: 0, lambda: 0.0))


def take(ceiling: Ceiling, hold: str, uses: Uses | None = None) -> Reached | None:
    return asyncio.run(ceiling.take(hold, uses or Uses()))


def test_as_many_attempts_as_it_may_and_no_more() -> None:
    upstream = ceiling(requests="2/minute")
    assert [take(upstream, hold) is None for hold in "abc"] == [True, True, False]
    reached = take(upstream, "d")
    assert reached is not None and reached.bound.name == "upstream/groq/requests" and reached.resets == 30.0


def test_what_runs_is_bounded_and_ends_with_its_attempt() -> None:
    upstream = ceiling(concurrency=1)
    assert take(upstream, "a") is None and take(upstream, "b") is not None
    upstream.settle("a")
    assert take(upstream, "b") is None


def test_money_is_taken_as_foreseen_and_stands_at_what_was_used() -> None:
    upstream = ceiling(budget="1 USD")
    most = Uses(nano=NANO * 3 // 4)
    assert take(upstream, "a", most) is None and take(upstream, "b", most) is not None
    upstream.settle("a", most, Uses(nano=NANO // 4))
    assert take(upstream, "b", most) is None
    upstream.settle("b", most, most)
    assert take(upstream, "c") is not None  # used up to the last nano-USD: nothing goes through, even unforeseen


def test_an_attempt_that_failed_used_no_tokens() -> None:
    upstream = ceiling(tokens="100/minute")
    assert take(upstream, "a", Uses(60, 40)) is None and take(upstream, "b", Uses(1)) is not None
    upstream.settle("a", Uses(60, 40))
    assert take(upstream, "b", Uses(60, 40)) is None


class Remote(MemoryStore):
    """One whose answer is waited for."""

    remote = True

    def take(self, asked: Any, hold: str) -> Any:
        async def answer() -> Reached | None:
            return MemoryStore.take(self, asked, hold)

        return answer()


@pytest.mark.plain
def test_a_remote_store_is_waited_for() -> None:
    upstream = ceiling(Remote(lambda: 0, lambda: 0.0), requests="1/minute")
    assert take(upstream, "a") is None and take(upstream, "b") is not None
