"""What hosted deployments of a route have cost in the present period: the cap of `spill.most`. Of this worker.

A price that nobody knows costs nothing here: the cap bounds what can be counted, and says so in the manual.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from router.bounds import NANO
from router.charges import cost_of, served_by
from router.prices import Prices
from router.record import Record
from router.routing import Plan
from router.settings import Money


class Spending:
    """USD by route, each period anew."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._prices = Prices(clock)
        self._spent: dict[str, tuple[str, float]] = {}  # route → the period, and what was spent in it

    def of(self, route: str, most: Money) -> float:
        period, spent = self._spent.get(route, ("", 0.0))
        return spent if period == self._period(most) else 0.0

    def note(self, record: Record, plan: Plan) -> None:
        """A request has ended."""
        spill = plan.route.spill
        if spill is None or spill.most is None or record.outcome == "error" or not record.tries:
            return
        served = served_by(record, plan)
        if served is not None and not served.local and record.billing != "direct":
            cost = (cost_of(record, self._prices.of(served)) or 0) / NANO
            before = self.of(plan.route.model, spill.most)
            self._spent[plan.route.model] = self._period(spill.most), before + cost

    def _period(self, most: Money) -> str:
        """The calendar's day, week, month or year in UTC; the same one for ever where there is no period."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        forms = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m", "year": "%Y"}
        return now.strftime(forms[most.period]) if most.period else "ever"
