"""What a request costs and what is owed for it: exact, whole, rounded up once; and None where nobody knows."""

import random
import timeit
from fractions import Fraction
from typing import Any

import pytest

from router.charges import charge_of, cost_of, markup_of, most_cost
from router.price import Price, Rates
from router.usage import Usage
from tests.router.stories import record

MILLION = 1_000_000
FULL = Price("table", Rates(1_000_000_000, 3_000_000_000, 100_000_000, 1_250_000_000, 4_000_000_000))
PLAIN = Price("table", Rates(1_000_000_000, 3_000_000_000))
BY_IMAGE = Price("table", Rates(), image=40 * 10**12)


def test_cached_tokens_cost_what_cached_ones_do_and_reasoning_is_never_counted_twice() -> None:
    used = record(input_tokens=100, cached_tokens=60, output_tokens=20, reasoning_tokens=15)
    assert cost_of(used, FULL) == 40 * 1000 + 60 * 100 + 5 * 3000 + 15 * 4000
    assert cost_of(used, FULL, written=10) == 30 * 1000 + 10 * 1250 + 60 * 100 + 5 * 3000 + 15 * 4000
    assert cost_of(used, PLAIN) == 100 * 1000 + 20 * 3000, "where no price of their own is known"


def test_what_is_more_than_the_whole_is_not_taken_for_true() -> None:
    used = record(input_tokens=10, cached_tokens=99, output_tokens=5, reasoning_tokens=99)
    assert cost_of(used, FULL, written=99) == 10 * 100 + 5 * 4000


def test_a_price_that_is_needed_and_not_known_makes_the_whole_unknown() -> None:
    some = record(input_tokens=1, output_tokens=1)
    assert cost_of(some, None) is None
    assert cost_of(some, Price("table", Rates(input=5))) is None
    assert cost_of(some, Price("table", Rates(output=5))) is None
    assert cost_of(some, BY_IMAGE) is None, "it is paid by the picture, and there was none"
    assert cost_of(record(images=1), PLAIN) is None
    assert cost_of(record(media_seconds=3.0), BY_IMAGE) is None
    assert cost_of(record(input_tokens=7), Price("table", Rates(input=MILLION))) == 7, "and nothing was written"


def test_pieces_cost_what_pieces_do() -> None:
    assert cost_of(record(images=3), BY_IMAGE) == 120_000_000
    assert cost_of(record(images=1, input_tokens=50), BY_IMAGE) == 40_000_000
    spoken = Price("table", Rates(), character=15 * 10**9)
    assert cost_of(record(characters=100), spoken) == 1_500_000
    heard = Price("table", Rates(), second=10**11, least_seconds=10)
    assert cost_of(record(media_seconds=12.5), heard) == 1_250_000
    assert cost_of(record(media_seconds=0.5), heard) == 1_000_000
    both = Price("table", Rates(10**9, 10**9), image=10**12)
    assert cost_of(record(input_tokens=2, images=1), both) == 2000 + 1_000_000


def test_a_larger_prompt_may_cost_more_all_of_it() -> None:
    stepped = Price(
        "genai-prices",
        Rates(10**9, 10**9),
        steps=((200, Rates(3 * 10**9, 3 * 10**9)), (100, Rates(2 * 10**9, 2 * 10**9))),
    )
    costs = [cost_of(record(input_tokens=each), stepped) for each in (100, 101, 200, 201)]
    assert costs == [100_000, 202_000, 400_000, 603_000]  # fmt: skip


@pytest.mark.parametrize(
    "more", [{"outcome": "error"}, {"cache": "hit"}, {"cache": "joined"}, {"upstream": "", "tries": []}]
)
def test_what_failed_what_was_kept_and_what_nobody_was_asked_for_costs_nothing(more: dict[str, Any]) -> None:
    assert cost_of(record(input_tokens=9, output_tokens=9, **more), None) == 0


@pytest.mark.parametrize("outcome", ["broken", "client_gone"])
def test_a_stream_that_broke_or_was_left_costs_what_was_delivered(outcome: Any) -> None:
    cost = cost_of(record(input_tokens=9, output_tokens=4, outcome=outcome), PLAIN)
    assert cost == 9 * 1000 + 4 * 3000
    assert charge_of(cost, 0, "routed", outcome) == cost


def test_a_charge_is_the_cost_and_the_plans_share_of_it() -> None:
    assert charge_of(1000, 0, "routed") == 1000
    assert charge_of(1000, markup_of(0.2), "routed") == 1200
    assert charge_of(1, markup_of(0.2), "routed") == 2, "rounded up"
    assert charge_of(1000, markup_of(0.2), "direct") == 0, "it went with a key of the tenant's own"
    assert charge_of(1000, markup_of(0.2), "routed", "error") == 0
    assert charge_of(None, markup_of(0.2), "routed") is None
    assert charge_of(None, markup_of(0.2), "direct") == 0


def test_costs_and_charges_are_exact() -> None:
    """Against fractions, for any figures: the next whole number, and never a penny more."""
    dice = random.Random(7)
    for _ in range(3000):
        rates = [dice.choice((None, 0, dice.randrange(10**4), dice.randrange(10**12))) for _ in range(5)]
        image, second, character = (dice.choice((None, dice.randrange(10**15))) for _ in range(3))
        price = Price("table", Rates(*rates), image, second, character)
        read, wrote = dice.randrange(10**6), dice.randrange(10**5)
        cached, thought = dice.randrange(read + 1), dice.randrange(wrote + 1)
        written = dice.randrange(read - cached + 1)
        images, seconds, characters = dice.randrange(9), dice.randrange(10**8) / 1000, dice.randrange(10**6)
        used = record(input_tokens=read, output_tokens=wrote, cached_tokens=cached, reasoning_tokens=thought,
                      images=images, media_seconds=seconds, characters=characters)  # fmt: skip
        found = cost_of(used, price, written)
        r, w, c, k, t = rates
        if (r is not None or w is not None) and ((r is None and read) or (w is None and wrote)):
            assert found is None
            continue
        parts: list[tuple[int | Fraction, int | None]] = []
        if price.by_token:
            parts += [(read - cached - written, r), (cached, r if c is None else c), (written, r if k is None else k)]
            parts += [(wrote - thought, w), (thought, w if t is None else t)]
        heard = Fraction(round(seconds * 10**6), 10**6)
        paid: list[tuple[int | Fraction, int | None]] = [(images, image), (heard, second), (characters, character)]
        if not parts and not any(count and rate is not None for count, rate in paid):
            assert found is None
            continue
        exact = Fraction(0)
        for count, rate in (*parts, *paid):
            exact += Fraction(rate or 0, 10**6) * count
        assert found is not None and 0 <= found - exact < 1
        markup = dice.randrange(10**6 + 1)
        charge = charge_of(found, markup, "routed")
        assert charge is not None and 0 <= charge - Fraction(found * (10**6 + markup), 10**6) < 1


def test_no_call_costs_more_than_the_most_that_was_reserved_for_it() -> None:
    dice = random.Random(8)
    for _ in range(1000):
        price = Price("table", Rates(*(dice.randrange(10**11) for _ in range(5))))
        read, wrote = dice.randrange(10**5), dice.randrange(10**4)
        cached, thought = dice.randrange(read + 1), dice.randrange(wrote + 1)
        used = record(input_tokens=read, output_tokens=wrote, cached_tokens=cached, reasoning_tokens=thought)
        cost, most = cost_of(used, price, dice.randrange(read - cached + 1)), most_cost(read, wrote, None, price)
        assert cost is not None and most is not None and cost <= most
    assert most_cost(10, 10, None, None) is None
    assert most_cost(10, 10, None, Price("table", Rates(input=1))) is None
    assert most_cost(0, 0, Usage(images=2), BY_IMAGE) == 80_000_000
    assert most_cost(0, 0, Usage(), BY_IMAGE) is None


def test_a_cost_is_reckoned_in_about_a_microsecond() -> None:
    used = record(input_tokens=100, cached_tokens=60, output_tokens=20, reasoning_tokens=15)
    spent = min(timeit.repeat(lambda: cost_of(used, FULL), number=20_000, repeat=5)) / 20_000
    most = min(timeit.repeat(lambda: most_cost(100, 4096, None, FULL), number=20_000, repeat=5)) / 20_000
    owed = min(timeit.repeat(lambda: charge_of(212_345, 200_000, "routed"), number=20_000, repeat=5)) / 20_000
    print(f"cost_of {spent * 1e6:.2f} µs, most_cost {most * 1e6:.2f} µs, charge_of {owed * 1e6:.2f} µs")
    assert spent < 1e-5
