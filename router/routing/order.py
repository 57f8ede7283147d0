"""The order in which candidates are tried: what each request pays of routing. Pure: the dice are passed in."""

import random
from collections.abc import Callable, Mapping

from router.routing.records import Candidate, Plan, Score
from router.routing.settings import Policy, SpillSettings


def plan(
    found: Plan,
    *,
    dice: random.Random,
    resting: Mapping[str, float] | None = None,
    speed: Score | None = None,
    busy: Score | None = None,
    cost: Callable[[Candidate], float | None] | None = None,
    spent: float = 0.0,
) -> Plan:
    """Candidates in the order in which they are tried: the route's policy, then those at rest behind the others.

    `cost`: USD per million tokens written, where more is known than the rows say. `spent`: USD that the route has cost
    in the present period of its `spill.most`.
    """
    attempts = found.attempts
    policy = found.route.policy
    if policy != "ordered" and len(attempts) > 1:
        attempts = _cheapest(attempts, cost) if policy == "cheapest" else _ordered(attempts, policy, dice, speed, busy)
    if found.route.spill is not None:
        attempts = _spilled(attempts, found.route.spill, speed, busy, spent)
    if resting:
        attempts = tuple(sorted(attempts, key=lambda each: resting.get(each.deployment.name, 0.0)))
    return Plan(found.route, attempts, found.dropped)


def _cheapest(
    candidates: tuple[Candidate, ...], cost: Callable[[Candidate], float | None] | None
) -> tuple[Candidate, ...]:
    known = cost or (lambda each: each.deployment.row.price.get("output"))
    return tuple(sorted(candidates, key=lambda each: _known_or_last(known(each))))


def _ordered(
    candidates: tuple[Candidate, ...], policy: Policy, dice: random.Random, speed: Score | None, busy: Score | None
) -> tuple[Candidate, ...]:
    if policy == "weighted":  # Efraimidis and Spirakis 2006: sorting by u^(1/w) draws without replacement by weight
        drawn = [(dice.random() ** (1.0 / each.deployment.weight), each) for each in candidates]
        return tuple(each for _, each in sorted(drawn, key=lambda pair: -pair[0]))
    score = speed if policy == "fastest" else busy
    if score is None:
        return candidates
    return tuple(sorted(candidates, key=lambda each: _known_or_last(score(each.deployment.name))))


def _spilled(
    candidates: tuple[Candidate, ...], spill: SpillSettings, speed: Score | None, busy: Score | None, spent: float
) -> tuple[Candidate, ...]:
    """Our own first, those that are crowded or slow behind the hosted ones; without these once they cost too much."""
    own = [each for each in candidates if each.local]
    hosted = [each for each in candidates if not each.local]
    if spill.most is not None and spent >= spill.most.amount and own:
        hosted = []
    free: list[Candidate] = []
    full: list[Candidate] = []
    for each in own:
        queued = busy(each.deployment.name) if busy is not None else None
        waits = speed(each.deployment.name) if speed is not None else None
        crowded = spill.queue is not None and queued is not None and queued >= spill.queue
        slow = spill.first_token is not None and waits is not None and waits > spill.first_token
        (full if crowded or slow else free).append(each)
    return (*free, *hosted, *full)


def _known_or_last(figure: float | None) -> float:
    return float("inf") if figure is None else figure
