"""Prices: the file's, the row's, else those that genai-prices carries, else None; never 0 for what nobody knows, and no
network.
"""

import random
import socket
import timeit
from datetime import UTC, datetime

import pytest
from genai_prices import Usage as Theirs
from genai_prices.data_snapshot import get_snapshot

from router.charges import cost_of
from router.price import Rates
from router.prices import Prices, listed, price_of
from router.routing import Plan, Route, RouteSettings, Row, build, plan
from tests.router.stories import candidate, record

LLAMA = "meta-llama/Llama-3.3-70B-Instruct"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("prices were about to be fetched")

    listed.cache_clear()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_a_row_says_what_its_tokens_cost() -> None:
    row = Row("x", price={"input": 0.5, "output": 2.0, "cached_input": None, "image": 0.1})
    assert price_of(row, "groq", "org/x") == {"input": 0.5, "output": 2.0}


def test_what_no_row_says_is_looked_up_under_the_providers_name_and_then_under_the_hubs() -> None:
    own = price_of(Row("llama-3.3-70b-versatile"), "groq", LLAMA)
    assert own is not None and set(own) == {"input", "output"} and all(each > 0 for each in own.values())
    by_hub = price_of(Row("an-id-that-nobody-lists"), "nscale", LLAMA)
    assert by_hub is not None and by_hub["input"] > 0
    renamed = price_of(Row("accounts/fireworks/models/gpt-oss-120b"), "fireworks-ai", "openai/gpt-oss-120b")
    assert renamed is not None and renamed["cached_input"] < renamed["input"]


@pytest.mark.parametrize("provider", ["tgi", "sandbox", "openai", "huggingface", "replicate", "a-house-of-mine"])
def test_a_server_of_ones_own_and_a_place_that_nobody_lists_have_no_price(provider: str) -> None:
    assert price_of(Row("gpt-4o"), provider, "gpt-4o") is None


def test_an_unknown_price_is_none_and_never_zero() -> None:
    assert price_of(Row("no-such-model"), "groq", "org/no-such-model") is None
    assert price_of(Row("x", price={"image": 0.03}), "groq", LLAMA) is None, "it is paid by the picture"
    assert price_of(Row("llama-3.3-70b-versatile", price={"input": None}), "groq", LLAMA) is not None
    heard = price_of(Row("whisper-large-v3"), "groq", "openai/whisper-large-v3")
    assert heard is None, "it is paid by the hour"
    assert Prices().of(candidate(named="no-such-model", model="org/no-such-model")) is None


def test_the_file_wins_over_the_row_and_the_row_over_what_is_listed() -> None:
    prices = Prices()
    one = prices.of(
        candidate(named="llama-3.3-70b-versatile", price={"input": 1.0}, told={"input": 0.0, "output": 3.0})
    )
    assert one is not None and one.source == "config" and one.rates == Rates(0, 3_000_000_000)
    two = prices.of(candidate(named="llama-3.3-70b-versatile", price={"input": 0.1, "cached_input": 0.045}))
    assert two is not None and two.source == "table" and two.rates == Rates(100_000_000, None, 45_000_000)
    three = prices.of(candidate(named="llama-3.3-70b-versatile", told={"input": None}))
    assert three is not None and three.source == "genai-prices" and (three.rates.output or 0) > 0


def test_a_price_can_be_written_beside_a_deployment() -> None:
    asked = {"image": 0.04, "second": 0.0001, "character": 0.000015, "reasoning": 1, "cache_write": 2.5}
    settings = RouteSettings.model_validate({"deployments": [{"upstream": "u", "price": asked}]})
    deployment = build([], {"m": settings}, {}).routes["m"].deployments[0]
    price = Prices().of(candidate(told=dict(deployment.price)))
    assert price is not None and price.rates == Rates(None, None, None, 2_500_000_000, 1_000_000_000)
    assert (price.image, price.second, price.character) == (40 * 10**12, 10**11, 15 * 10**9), "of a million of them"
    with pytest.raises(ValueError, match="greater than or equal"):
        RouteSettings.model_validate({"deployments": [{"upstream": "u", "price": {"input": -1}}]})


def test_what_is_listed_costs_what_its_lister_reckons() -> None:
    """genai-prices' own sum against ours, of every model of the providers that we have in common, tiers included."""
    now, compared, tiers = datetime.now(UTC), 0, 0
    prices = Prices()
    for ours, theirs in (("groq", "groq"), ("together", "together"), ("cohere", "cohere"), ("novita", "novita"),
                         ("zai-org", "zai"), ("fireworks-ai", "fireworks"), ("cerebras", "cerebras")):  # fmt: skip
        place = next(each for each in get_snapshot().providers if each.id == theirs)
        for model in place.models:
            price = prices.of(candidate(ours, named=model.id, model=""))
            if place.find_model(model.id) is not model or price is None or price.second is not None:
                continue
            if price.rates.input is None or price.rates.output is None:
                continue
            for read in (100, 250_000):
                used = Theirs(input_tokens=read, output_tokens=50, cache_read_tokens=40)
                theirs_sum = model.calc_price(used, place, genai_request_timestamp=now).total_price
                mine = cost_of(record(input_tokens=read, output_tokens=50, cached_tokens=40), price)
                assert mine is not None and 0 <= mine - theirs_sum * 10**9 < 1, (ours, model.id, read)
                compared += 1
            tiers += bool(price.steps)
    assert compared > 100 and tiers > 0, (compared, tiers)


def test_sound_is_paid_by_the_second_and_for_ten_at_least_where_that_is_so() -> None:
    price = Prices().of(candidate(named="whisper-large-v3-turbo", model="openai/whisper-large-v3-turbo"))
    assert price is not None and not price.by_token
    by_the_hour = cost_of(record(media_seconds=3600.0), price)
    assert by_the_hour == 40_000_000, "0.04 USD"
    assert cost_of(record(media_seconds=2.0), price) == cost_of(record(media_seconds=10.0), price)
    assert cost_of(record(), price) is None, "nobody measured it"


def test_the_cheapest_is_found_by_what_is_listed_too() -> None:
    prices = Prices()
    shown = prices.output(candidate(named="llama-3.3-70b-versatile"))
    assert shown is not None and shown > 0
    assert prices.output(candidate(price={"output": 0.4})) == pytest.approx(0.4)
    assert prices.output(candidate(named="no-such-model", model="")) is None


def test_a_price_is_compiled_once_an_hour_and_looked_up_fast() -> None:
    now = [0.0]
    prices, at = Prices(lambda: now[0]), candidate(named="llama-3.3-70b-versatile")
    first = prices.of(at)
    assert prices.of(at) is first
    now[0] = 3601.0
    again = prices.of(at)
    assert again == first and again is not first
    spent = min(timeit.repeat(lambda: prices.of(at), number=20_000, repeat=5)) / 20_000
    print(f"looked up in {spent * 1e6:.2f} µs")
    assert spent < 3e-6


def test_the_cheapest_is_found_by_what_genai_prices_lists_too() -> None:
    listed, told = candidate(named="llama-3.3-70b-versatile"), candidate(price={"output": 0.4})
    unknown = candidate(named="no-such-model", model="")
    found = Plan(Route("m", (), "cheapest"), (unknown, listed, told), ())
    made = plan(found, dice=random.Random(1), cost=Prices().output)
    assert made.attempts == (told, listed, unknown)
    assert plan(found, dice=random.Random(1)).attempts[0] is not listed, "rows alone do not know it"
