"""The cap of what hosted deployments of a route may cost, and the order that it makes."""

import random
from dataclasses import replace

import pytest

import providers
from providers.spec import Adapter
from router import routing
from router.record import Record, Try
from router.routing import Candidate, Deployment, Plan, Route, Row, SpillSettings
from router.spending import Spending
from router.stores.memory import MemoryStore
from tests.router.stories import recorded


def place(name: str, local: bool, price: dict[str, float | None] | None = None) -> Candidate:
    provider = providers.find("openai" if local else "together")
    assert provider is not None
    deployment = Deployment(name, "m", Row("m", price=price or {}))
    return Candidate(deployment, provider, Adapter("/x"), "openai", "conversational", local=local)


HOSTED = place("hosted", False, {"input": 1.0, "output": 3.0, "cached_input": 0.5})
OWN, OTHER = place("own", True), place("other", True)


def found(**spill: object) -> Plan:
    return Plan(Route("m", (), spill=SpillSettings.model_validate(spill)), (HOSTED, OWN, OTHER), ())


def order(plan: Plan, busy: dict[str, float], speed: dict[str, float] | None = None, spent: float = 0.0) -> list[str]:
    made = routing.plan(
        plan, dice=random.Random(1), busy=lambda name: busy.get(name.split("/")[0]),
        speed=lambda name: (speed or {}).get(name.split("/")[0]), spent=spent,
    )  # fmt: skip
    return [each.deployment.upstream for each in made.attempts]


def test_our_own_come_first_until_they_are_crowded() -> None:
    plan = found(queue=8)
    assert order(plan, {"own": 7, "other": 0}) == ["own", "other", "hosted"]
    assert order(plan, {"own": 8, "other": 0}) == ["other", "hosted", "own"]
    assert order(plan, {"own": 8, "other": 90}) == ["hosted", "own", "other"]


def test_or_until_they_are_slow() -> None:
    assert order(found(first_token="2s"), {}, {"own": 2.5, "other": 0.4}) == ["other", "hosted", "own"]


def test_hosted_ones_are_out_once_they_cost_too_much() -> None:
    plan = found(queue=8, most="5 USD/day")
    assert order(plan, {"own": 9, "other": 9}, spent=4.99) == ["hosted", "own", "other"]
    assert order(plan, {"own": 9, "other": 9}, spent=5.0) == ["own", "other"]


def test_where_nobody_else_is_left_hosted_ones_stay() -> None:
    plan = Plan(found(most="1 USD").route, (HOSTED,), ())
    assert order(plan, {}, spent=100.0) == ["hosted"]


def served(at: Candidate, **more: object) -> Record:
    tries = [Try(at.deployment.upstream, at.deployment.name, 200, "serve", "", 0.1)]
    return recorded(**{"cost": 2_300_000_000, "tries": tries, **more})


def test_what_was_spent_is_counted_by_period_and_by_route() -> None:
    now = [1_700_000_000.0]
    spending = Spending(MemoryStore(wall=lambda: now[0]))
    plan = found(most="5 USD/day")
    spending.note(served(HOSTED), plan)
    spending.note(served(HOSTED), plan)
    assert spending.of(plan.route) == pytest.approx(4.6)
    assert spending.of(replace(plan.route, model="another")) == 0.0
    assert spending.of(found(queue=3).route) == 0.0, "nothing to count for"
    now[0] += 86_400
    assert spending.of(plan.route) == 0.0, "a new day"


@pytest.mark.parametrize("more", [{"cost": 0}, {"cost": None}, {"billing": "direct"}])
def test_what_cost_nothing_is_not_known_or_was_paid_by_the_caller_is_not_counted(more: dict[str, object]) -> None:
    spending = Spending(MemoryStore())
    plan = found(most="5 USD")
    spending.note(served(HOSTED, **more), plan)
    assert spending.of(plan.route) == 0.0


def test_our_own_servers_cost_nothing() -> None:
    spending = Spending(MemoryStore())
    plan = found(most="5 USD")
    spending.note(served(OWN), plan)
    assert spending.of(plan.route) == 0.0
