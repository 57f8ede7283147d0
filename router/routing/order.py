"""The order in which candidates are tried: what each request pays of routing. Pure: the dice are passed in."""

import random
from collections.abc import Mapping

from router.routing.records import Candidate, Plan, Policy, Score


def plan(
    found: Plan,
    *,
    dice: random.Random,
    resting: Mapping[str, float] | None = None,
    speed: Score | None = None,
    busy: Score | None = None,
) -> Plan:
    """Candidates in the order in which they are tried: the route's policy, then those at rest behind the others."""
    attempts = found.attempts
    policy = found.route.policy
    if policy != "ordered" and len(attempts) > 1:
        attempts = _ordered(attempts, policy, dice, speed, busy)
    if resting:
        attempts = tuple(sorted(attempts, key=lambda each: resting.get(each.deployment.name, 0.0)))
    return Plan(found.route, attempts, found.dropped)


def _ordered(
    candidates: tuple[Candidate, ...], policy: Policy, dice: random.Random, speed: Score | None, busy: Score | None
) -> tuple[Candidate, ...]:
    if policy == "weighted":  # Efraimidis and Spirakis 2006: sorting by u^(1/w) draws without replacement by weight
        drawn = [(dice.random() ** (1.0 / each.deployment.weight), each) for each in candidates]
        return tuple(each for _, each in sorted(drawn, key=lambda pair: -pair[0]))
    if policy == "cheapest":
        return tuple(sorted(candidates, key=lambda each: _known_or_last(each.deployment.row.price.get("output"))))
    score = speed if policy == "fastest" else busy
    if score is None:
        return candidates
    return tuple(sorted(candidates, key=lambda each: _known_or_last(score(each.deployment.name))))


def _known_or_last(figure: float | None) -> float:
    return float("inf") if figure is None else figure
