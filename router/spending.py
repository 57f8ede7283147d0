"""What hosted deployments of a route have cost in the present period: the cap of `spill.most`.

Counted where limits are, so that all workers and replicas hold one cap. A price that nobody knows costs nothing here:
the cap bounds what can be counted, and says so in the manual.
"""

from router.bounds import NANO, Bound, Store
from router.record import Record
from router.routing import Plan, Route


class Spending:
    """By route, each calendar period anew."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, route: Route) -> float:
        """USD; 0 where there is no cap."""
        bound = _bound(route)
        return self._store.level(bound).used / NANO if bound is not None else 0.0

    def note(self, record: Record, plan: Plan) -> None:
        """A request has ended."""
        bound = _bound(plan.route)
        if bound is None or not record.cost or not record.tries:
            return
        last = record.tries[-1].deployment
        served = next((each for each in plan.attempts if each.deployment.name == last), None)
        if served is not None and not served.local and record.billing != "direct":
            self._store.add(bound, record.cost)


def _bound(route: Route) -> Bound | None:
    most = route.spill.most if route.spill is not None else None
    if most is None:
        return None
    name = f"model/{route.model}/spill/budget"
    return Bound(name, "model", route.model, "budget", round(most.amount * NANO), 0.0, most.period)
