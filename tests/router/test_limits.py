"""What limits grant and refuse, and in which words; that a stream is ended where its money is; that all comes back."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from router import estimates
from router.bounds import NANO, Bound, LimitSettings, Reached, bounds_of
from router.errors import Refused
from router.identity import Identity, Licence
from router.limits import TAGS, Limits, estimated, metered
from router.permit import NEAR, Estimate, Permit
from router.plans import PlanSettings
from router.price import Price as PriceOf
from router.price import Rates
from router.prices import Prices
from router.refusals import refusal
from router.routing import Plan, Route
from router.secrets import Secret
from router.stores.memory import MemoryStore
from tests.router.stories import call_of, candidate, recorded

DAY = 86_400
NOON = 20_000 * DAY + DAY // 2
ASKED = Estimate(input=100, output=50, price=2_000_000, rate=PriceOf("config", Rates(10_000 * 10**6, 20_000 * 10**6)))


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0
        self.wall = float(NOON)

    def ns(self) -> int:
        return round(self.seconds * NANO)

    def day(self) -> float:
        return self.wall

    def goes(self, seconds: float) -> None:
        self.seconds += seconds
        self.wall += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> Limits:
    return Limits(MemoryStore(clock.ns, clock.day))


def alice(**settings: Any) -> Identity:
    plan = PlanSettings.model_validate(settings)
    return Licence({"plan": plan}).of_tenant("alice", "plan")


def permit_of(limits: Limits, identity: Identity, hold: str = "h") -> Permit:
    return Permit(limits, identity, hold)


def admitted(limits: Limits, identity: Identity, hold: str = "h") -> Permit:
    permit = permit_of(limits, identity, hold)
    asyncio.run(limits.admit(permit))
    return permit


def reserved(
    limits: Limits, identity: Identity, estimate: Estimate = ASKED, hold: str = "h", *, stream: bool = False
) -> Permit:
    permit = admitted(limits, identity, hold)
    asyncio.run(limits.reserve(permit, identity.reserved, estimate, stream))
    return permit


def refused(act: Callable[[], object]) -> Refused:
    with pytest.raises(Refused) as caught:
        act()
    return caught.value


def levels(limits: Limits, identity: Identity, more: Sequence[Bound] = ()) -> dict[str, int]:
    bounds = [*(each for each, _ in identity.admission), *identity.reserved, *more]
    return {each.kind: limits.store.level(each).used for each in bounds}


ALL = {
    "requests": "10/minute", "tokens": "1000/minute", "input_tokens": "1000/minute", "output_tokens": "1000/minute",
    "concurrency": 3, "budget": "1 USD/day",
}  # fmt: skip
EMPTY = dict.fromkeys(ALL, 0)


def test_what_is_reserved_is_the_most_and_what_stays_is_what_was_used(limits: Limits) -> None:
    who = alice(**ALL)
    permit = reserved(limits, who)
    assert levels(limits, who) == {
        "requests": 1, "concurrency": 1, "tokens": 150, "input_tokens": 100, "output_tokens": 50, "budget": 2_000_000,
    }  # fmt: skip
    limits.settle(permit, recorded(input_tokens=80, output_tokens=7, charge=900_000))
    assert levels(limits, who) == {
        "requests": 1, "concurrency": 0, "tokens": 87, "input_tokens": 80, "output_tokens": 7, "budget": 900_000,
    }  # fmt: skip


def test_more_than_was_reserved_is_counted_where_it_was_used(limits: Limits) -> None:
    who = alice(budget="1 USD/day", tokens="1000/minute")
    permit = reserved(limits, who)
    limits.settle(permit, recorded(input_tokens=100, output_tokens=5000, charge=3 * NANO))
    assert limits.store.level(who.reserved[-1]).used == 3 * NANO
    assert refused(lambda: reserved(limits, who, hold="next")).fault.code in ("budget_exceeded", "rate_limit_exceeded")


def test_settling_twice_gives_nothing_back_twice(limits: Limits) -> None:
    who = alice(**ALL)
    others = reserved(limits, who, hold="other")
    permit = reserved(limits, who, stream=True)
    assert asyncio.run(limits.extend(permit)) or True
    limits.settle(permit, recorded())
    once = levels(limits, who)
    limits.settle(permit, recorded())
    assert levels(limits, who) == once
    limits.settle(others, recorded())


@pytest.mark.parametrize("kind", ["requests", "concurrency"])
def test_a_refusal_at_the_head_takes_nothing(limits: Limits, kind: str) -> None:
    who = alice(**{"requests": "1/minute", "concurrency": 9} if kind == "requests" else {**ALL, "concurrency": 1})
    admitted(limits, who, "first")
    before = levels(limits, who)
    assert refused(lambda: admitted(limits, who, "second")).fault.status == 429
    assert levels(limits, who) == before


@pytest.mark.parametrize("kind", ["tokens", "input_tokens", "output_tokens", "budget"])
def test_a_request_that_is_refused_for_its_body_holds_nothing(limits: Limits, kind: str) -> None:
    tight = "0.001 USD/day" if kind == "budget" else "49/minute"
    who = alice(**{**ALL, kind: tight})
    refused(lambda: reserved(limits, who))
    assert levels(limits, who) == EMPTY


@pytest.mark.parametrize(
    ("settings", "taken", "status", "code", "words"),
    [
        ({"requests": "1/minute"}, 1, 429, "rate_limit_exceeded", ("1 request", "per minute", "1 ", "60 s")),
        ({"concurrency": 1}, 1, 429, "concurrency_limit", ("1 request", "running")),
        ({"tokens": "200/minute"}, 1, 429, "rate_limit_exceeded", ("200 tokens per minute", "150 ", "30 s")),
        ({"input_tokens": "150/hour"}, 1, 429, "rate_limit_exceeded", ("150 input tokens per hour", "100 ", "20 min")),
        ({"output_tokens": "40/minute"}, 0, 400, "request_too_large_for_limit", ("40 output tokens", "fewer")),
        ({"budget": "0.003 USD/day"}, 1, 402, "budget_exceeded", ("0.003 USD a day", "0.002 USD", "in 12 h")),
        ({"budget": "0.003 USD"}, 1, 402, "budget_exceeded", ("0.003 USD,", "0.002 USD are used")),
    ],
    ids=["requests", "concurrency", "tokens", "input tokens", "never", "a day's budget", "a budget for ever"],
)
def test_a_refusal_names_the_limit_whose_it_is_what_is_used_and_when_it_resets(
    limits: Limits, settings: dict[str, Any], taken: int, status: int, code: str, words: tuple[str, ...]
) -> None:
    who = alice(**settings)
    for number in range(taken):
        reserved(limits, who, hold=str(number))
    fault = refused(lambda: reserved(limits, who, hold="last")).fault
    assert (fault.status, fault.code) == (status, code)
    assert all(each in fault.message for each in ("the tenant 'alice'", *words)), fault.message


def test_when_to_ask_again_is_when_there_is_room(limits: Limits, clock: Clock) -> None:
    who = alice(tokens="200/minute")
    permit = reserved(limits, who)
    limits.settle(permit, recorded(input_tokens=100, output_tokens=50))
    fault = refused(lambda: reserved(limits, who)).fault
    assert fault.retry_after is not None
    clock.goes(fault.retry_after - 0.5)
    refused(lambda: reserved(limits, who))
    clock.goes(0.5)
    reserved(limits, who)


def test_a_span_is_said_in_what_it_is_best_understood_in() -> None:
    bound = bounds_of("key", "ci", LimitSettings.model_validate({"requests": "5/90s"}))[0]
    said = refusal(Reached(bound, 5, 119.0)).fault.message
    assert said.startswith("The limit of the key 'ci', 5 requests in 90 s") and said.endswith("in 119 s.")
    assert refusal(Reached(bound, 5, 0.2)).fault.message.endswith("in 1 s.")
    assert refusal(Reached(bound, 5, 7200.0)).fault.message.endswith("in 2 h.")


def test_refusals_are_counted_by_tenant_and_limit_and_not_without_end(limits: Limits) -> None:
    who = alice(requests="1/minute")
    admitted(limits, who)
    for _ in range(3):
        refused(lambda: admitted(limits, who, "again"))
    assert limits.refused == {("alice", "requests"): 3}
    bound = who.admission[0][0]
    for number in range(TAGS + 5):
        limits._refusal(replace(who, tenant=f"t{number}"), Reached(bound, 1, 1.0))
    assert len(limits.refused) == TAGS


# What the head says


def told(limits: Limits, permit: Permit) -> dict[str, str]:
    lines = limits.told(permit).decode().splitlines()
    return {name: value for name, _, value in (each.partition(": ") for each in lines)}


def test_the_head_tells_of_the_bound_with_the_least_room(limits: Limits) -> None:
    who = alice(requests="10/minute", tokens="1000/minute", output_tokens="1/minute", budget="1 USD/day")
    tight = bounds_of("model", "m", LimitSettings.model_validate({"tokens": "500/hour"}))
    permit = admitted(limits, who)
    assert told(limits, permit)["x-ratelimit-remaining-tokens"] == "1000"
    asyncio.run(limits.reserve(permit, (who.reserved[0], *tight), ASKED, False))
    assert told(limits, permit) == {
        "x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "6.00s",
        "x-ratelimit-limit-tokens": "500", "x-ratelimit-remaining-tokens": "350", "x-ratelimit-reset-tokens": "18m0s",
    }  # fmt: skip


def test_what_is_left_is_never_less_than_nothing_and_spans_are_written_as_openai_writes_them(
    limits: Limits, clock: Clock
) -> None:
    who = alice(tokens="1000/minute")
    limits.store.add(who.reserved[0], 5000)
    permit = permit_of(limits, who)
    assert told(limits, permit) == {
        "x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "5m0s",
    }  # fmt: skip
    clock.goes(299.988)
    assert told(limits, permit)["x-ratelimit-reset-tokens"] == "12ms"
    clock.goes(1)
    assert told(limits, permit)["x-ratelimit-reset-tokens"] == "0ms"


def test_a_caller_without_limits_is_told_nothing(limits: Limits) -> None:
    assert limits.told(permit_of(limits, alice())) == b""
    assert limits.told(permit_of(limits, alice(concurrency=3, budget="1 USD/day"))) == b""


# The fuse


def test_only_a_stream_that_counts_tokens_or_money_can_be_ended(limits: Limits) -> None:
    assert not reserved(limits, alice(**ALL), hold="a").fused
    assert reserved(limits, alice(**ALL), hold="b", stream=True).fused
    assert not reserved(limits, alice(requests="9/minute"), hold="c", stream=True).fused
    assert not metered(bounds_of("tenant", "a", LimitSettings(concurrency=1)))


def test_a_stream_gets_more_for_as_long_as_there_is_more(limits: Limits) -> None:
    who = alice(output_tokens=f"{50 + 1024 + NEAR}/hour", concurrency=5, input_tokens="100/hour")
    permit = reserved(limits, who, stream=True)
    assert permit.most == 50
    assert asyncio.run(limits.extend(permit)) and permit.most == 50 + 1024
    assert asyncio.run(limits.extend(permit)) and permit.most == 50 + 1024 + NEAR
    assert not asyncio.run(limits.extend(permit)) and permit.most == 50 + 1024 + NEAR
    limits.settle(permit, recorded(output_tokens=1100))
    assert levels(limits, who) == {"output_tokens": 1100, "concurrency": 0, "input_tokens": 0}


def test_a_stream_pays_for_what_more_of_it_costs(limits: Limits) -> None:
    who = alice(budget="1 USD/day")
    permit = reserved(limits, who, stream=True)
    asyncio.run(limits.extend(permit))
    assert levels(limits, who)["budget"] == 2_000_000 + 1024 * 20_000
    limits.settle(permit, recorded(charge=5))
    assert levels(limits, who)["budget"] == 5


def test_an_unnamed_length_is_cut_to_what_there_is_room_for(limits: Limits) -> None:
    who = alice(tokens="1000/minute", budget="1 USD/day")
    vague = replace(ASKED, output=4096, price=100 * 10_000 + 4096 * 20_000, named=False)
    permit = reserved(limits, who, vague, stream=True)
    assert permit.most == 900
    assert levels(limits, who) == {"tokens": 1000, "budget": 100 * 10_000 + 900 * 20_000}
    bob = Licence({"p": PlanSettings.model_validate({"budget": "0.01 USD/day"})}).of_tenant("bob", "p")
    permit = reserved(limits, bob, vague, stream=True)
    assert permit.most == (10_000_000 - 1_000_000) // 20_000


@pytest.mark.parametrize("change", [{"stream": False}, {"named": True}], ids=["whole", "named"])
def test_a_length_that_cannot_be_ended_or_was_asked_for_is_not_cut(limits: Limits, change: dict[str, bool]) -> None:
    who = alice(tokens="1000/minute")
    vague = replace(ASKED, output=4096, named=change.get("named", False))
    assert refused(lambda: reserved(limits, who, vague, stream=change.get("stream", True))).fault.status == 400


def test_what_ended_a_stream_is_the_limit_with_the_least_room(limits: Limits) -> None:
    who = alice(tokens="200/minute", budget="1 USD/day")
    fault = reserved(limits, who, stream=True).fault()
    assert (fault.status, fault.code) == (402, "budget_exceeded")
    assert fault.message == (
        "The answer was ended: the limit of the tenant 'alice', 200 tokens per minute, leaves no room for more."
    )


# What a request may come to


def plan_of(*candidates: Any) -> Plan:
    return Plan(Route("org/m", tuple(each.deployment for each in candidates)), candidates, ())


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "org/m", "messages": [{"role": "user", "content": "x" * 380}], **more}


def test_a_reservation_is_for_the_dearest_place_with_the_plan_s_markup() -> None:
    cheap = candidate(named="a", told={"input": 1.0, "output": 1.0})
    dear = candidate(named="b", told={"input": 1.0, "output": 30.0})
    unknown = candidate("openai", named="c")
    found = estimated(
        call_of(chat(max_tokens=1000)), plan_of(cheap, dear, unknown), Identity("a", markup=0.1), Prices()
    )
    read = found.input
    assert 95 <= read <= 120 and found.output == 1000 and found.named
    assert found.price == -(-(read * 1000 + 1000 * 30_000) * 11 // 10)


def test_without_a_price_a_reservation_is_of_tokens_alone(limits: Limits) -> None:
    found = estimated(call_of(chat()), plan_of(candidate("openai", named="c")), Identity("a"), Prices())
    assert found.price is None and found.output == estimates.DEFAULT and not found.named
    who = alice(budget="1 USD/day", tokens="9000/minute")
    permit = reserved(limits, who, found, stream=True)
    assert levels(limits, who) == {"tokens": found.input + found.output, "budget": 0}
    assert asyncio.run(limits.extend(permit))
    limits.settle(permit, recorded(input_tokens=1, output_tokens=1, charge=None))
    assert levels(limits, who) == {"tokens": 2, "budget": 0}


@pytest.mark.parametrize("share", [0.0, 10.0], ids=["0%", "1000%"])
def test_the_markup_s_ends_are_exact(share: float) -> None:
    at = candidate(told={"output": 1.0})
    found = estimated(call_of(chat(max_tokens=7)), plan_of(at), Identity("a", markup=share), Prices())
    assert found.price is None or found.price == 7000 * (1 + share)


def test_what_costs_nothing_reserves_no_money_and_is_known_to_cost_nothing() -> None:
    free = candidate(told={"input": 0.0, "output": 0.0})
    assert estimated(call_of(chat()), plan_of(free), Identity("a", markup=10.0), Prices()).price == 0


def test_who_pays_the_provider_reserves_no_money() -> None:
    at = candidate("groq", told={"input": 1.0, "output": 1.0})
    call, key = call_of(chat()), Secret("sk-own-0000000000000000")
    for who in (Identity("a", user_key=key), Identity("a", stored_keys={"groq": key})):
        assert not estimated(call, plan_of(at), who, Prices()).price
    for who in (
        Identity("a", stored_keys={"together": key}),
        Identity("a", stored_keys={"groq": key}, own_first=False),
    ):
        assert estimated(call, plan_of(at), who, Prices()).price


# Clocks


def test_a_reservation_of_a_period_that_ended_frees_nothing_in_the_next(limits: Limits, clock: Clock) -> None:
    who = alice(budget="0.005 USD/day")
    old = reserved(limits, who, hold="old")
    clock.goes(DAY)
    new = reserved(limits, who, hold="new")
    limits.settle(old, recorded(charge=1_000_000))
    assert levels(limits, who)["budget"] == 3_000_000  # what came to its end today counts today
    limits.settle(new, recorded(charge=2_000_000))
    assert levels(limits, who)["budget"] == 3_000_000


def test_a_clock_that_is_set_back_gives_no_budget_anew(limits: Limits, clock: Clock) -> None:
    who = alice(budget="0.003 USD/day")
    limits.settle(reserved(limits, who), recorded(charge=2_000_000))
    clock.wall -= 2 * DAY
    refused(lambda: reserved(limits, who))
    clock.wall += 2 * DAY
    refused(lambda: reserved(limits, who))


# A reload while requests run


def test_what_a_plan_allowed_when_a_request_began_is_given_back_under_the_new_one(limits: Limits) -> None:
    before, after = alice(**ALL), alice(**{**ALL, "concurrency": 1, "tokens": "300/hour", "budget": "2 USD/day"})
    permit = reserved(limits, before)
    assert refused(lambda: admitted(limits, after, "new")).fault.code == "concurrency_limit"
    limits.settle(permit, recorded(input_tokens=10, output_tokens=10, charge=7))
    assert levels(limits, after)["concurrency"] == 0
    assert levels(limits, after)["tokens"] == 20
    assert levels(limits, after)["budget"] == 7
    admitted(limits, after, "new")


def test_keys_of_one_tenant_with_two_plans_count_in_one_place(limits: Limits) -> None:
    large, small = alice(concurrency=5, budget="1 USD/day"), alice(concurrency=2, budget="0.003 USD/day")
    held = [reserved(limits, large, hold=str(number)) for number in range(2)]
    assert refused(lambda: admitted(limits, small, "x")).fault.code == "concurrency_limit"
    for permit in held:
        limits.settle(permit, recorded(charge=2_000_000))
    assert refused(lambda: reserved(limits, small, hold="y")).fault.code == "budget_exceeded"
    limits.settle(reserved(limits, large, hold="z"), recorded())
    assert levels(limits, large) == {"concurrency": 0, "budget": 4_000_000}
