"""What is known of keys and deployments from use: who is left alone until when, who answers how fast. In memory.

A later moment of rest never gives way to an earlier one. Beside the rests that somebody asked for (a `Retry-After`, a
key that was refused) stands a breaker: so many failures in so many seconds open it for `first`, each failed probe for
twice as long, up to `most`. When the time is up one request tries the deployment, the others stay away until it is
answered. A deployment that served its probe gets its share back over `RAMP`. Resting only orders: who rests is tried
last, so the last one left is never turned away from (Envoy's outlier detection and HAProxy's slowstart, in short).
"""

import random
from collections import deque
from typing import Final

import msgspec

from router.record import Record, Try
from router.retry import RestSettings

PROBE: Final = 15.0  # seconds that one request may take to show whether a deployment is back
RAMP: Final = 10.0  # seconds from a served probe until it has its whole share again
WINDOW: Final = 10.0  # seconds over which retries are held against requests
LEAST: Final = 10  # retries in a window that are allowed whatever the number of requests
WEIGHT: Final = 0.2  # of the newest in an average
ENOUGH: Final = 8  # tokens that say something of a throughput
SHORTEST: Final = 0.001  # seconds in which those cannot have been made: they had been kept back
DEPLOYMENTS: Final = 4096  # whose figures are kept


class Trouble(msgspec.Struct):
    """A deployment that failed of late. `rest`: seconds of its last rest; 0 while the breaker is closed."""

    failures: deque[float]
    rest: float = 0.0
    probing: float = 0.0  # until when a probe may take; 0 while there is none
    since: float = 0.0  # when it served again


class Resting:
    """Names (a deployment's, a key's) at rest, each until a moment of the clock given."""

    __slots__ = ("_dice", "_troubles", "_until", "calm", "settings")

    def __init__(self, settings: RestSettings | None = None, dice: random.Random | None = None) -> None:
        self.settings = settings or RestSettings()
        self._dice = dice or random.Random()  # noqa: S311 - a share of requests, not secrets
        self._until: dict[str, float] = {}
        self._troubles: dict[str, Trouble] = {}
        self.calm = True  # nobody rests and nobody failed: what a request looks at

    def rest(self, name: str, until: float) -> None:
        if until > self._until.get(name, 0.0):
            self._until[name] = until
            self.calm = False

    def fail(self, name: str, now: float) -> None:
        """A failure that was the deployment's own."""
        trouble = self._troubles.get(name)
        if trouble is None:
            trouble = self._troubles[name] = Trouble(deque(maxlen=self.settings.after.count))
            self.calm = False
        if trouble.rest and not trouble.since:
            if not trouble.probing:
                return  # begun before it was left alone, or in spite of it
            trouble.rest = min(trouble.rest * 2, self.settings.most)
        else:
            failures = trouble.failures
            failures.append(now)
            if len(failures) < self.settings.after.count or now - failures[0] > self.settings.after.seconds:
                return
            failures.clear()
            trouble.rest, trouble.since = self.settings.first, 0.0
        self._answered(name, trouble)
        self.rest(name, now + trouble.rest)

    def begin(self, name: str, now: float) -> None:
        """An attempt begins: where the rest is over it is the probe, and the others stay away meanwhile."""
        trouble = self._troubles.get(name)
        if trouble is not None and trouble.rest and not trouble.since and self.until(name) <= now:
            trouble.probing = self._until[name] = now + PROBE
            self.calm = False

    def serve(self, name: str, now: float) -> None:
        """It served: a breaker that was open closes."""
        trouble = self._troubles.get(name)
        if trouble is not None and trouble.rest and not trouble.since:
            trouble.since = now
            self._answered(name, trouble)

    def _answered(self, name: str, trouble: Trouble) -> None:
        """The probe is over, and with it its claim; what somebody asked for meanwhile stands."""
        if trouble.probing and self._until.get(name) == trouble.probing:
            del self._until[name]
        trouble.probing = 0.0

    def until(self, name: str) -> float:
        """The moment at which `name` may be used again; 0 where it does not rest."""
        return self._until.get(name, 0.0)

    def resting(self, now: float) -> dict[str, float]:
        """Who is to be tried last, by when they may be used; those on their way back as often as the dice say."""
        for name in [name for name, until in self._until.items() if until <= now]:
            del self._until[name]
        found = dict(self._until)
        for name, trouble in list(self._troubles.items()):
            if trouble.since:
                share = (now - trouble.since) / RAMP
                if share >= 1.0:
                    del self._troubles[name]
                elif self._dice.random() >= share:
                    found.setdefault(name, now)
            elif not trouble.rest and now - trouble.failures[-1] > self.settings.after.seconds:
                del self._troubles[name]
        self.calm = not (self._until or self._troubles)
        return found


class Budget:
    """Retries at one upstream as a share of its requests, over the present window and what is left of the last.

    A request only adds to `requests`; windows are turned when somebody asks.
    """

    __slots__ = ("_before", "_retries", "_share", "_since", "requests")

    def __init__(self, share: float, now: float = 0.0) -> None:
        self._share = share
        self._since = now
        self.requests = 0
        self._retries = 0
        self._before = (0.0, 0.0)

    def allows(self, now: float) -> bool:
        windows = (now - self._since) / WINDOW
        if windows >= 1.0:
            recent = self._retries if windows < 2.0 else 0
            self._before = (self.requests / windows, recent)
            self.requests = self._retries = 0
            self._since, windows = now, 0.0
        left = 1.0 - windows
        requests = self.requests + self._before[0] * left
        return self._retries + 1 + self._before[1] * left <= max(LEAST, self._share * requests)

    def retry(self) -> None:
        self._retries += 1


class Figures(msgspec.Struct):
    """What a deployment was measured at; None: not as yet. `errors`: the share of attempts that it failed."""

    first: float | None = None  # seconds until the first event or the answer
    throughput: float | None = None  # output tokens a second
    errors: float | None = None


class Speeds:
    """Figures by deployment, averages in which the last ones count most; of too many deployments the oldest go."""

    __slots__ = ("_figures",)

    def __init__(self) -> None:
        self._figures: dict[str, Figures] = {}

    def note(self, name: str, seconds: float) -> None:
        """It served, after so long: known from the first event on, so that the next request can be sent by it."""
        figures = self._figures.get(name)
        if figures is None:
            figures = self._new(name)
        before = figures.first
        figures.first = seconds if before is None else before + WEIGHT * (seconds - before)

    def learn(self, record: Record) -> None:
        """A request has ended: what its attempts say of who was asked, and its tokens of who answered."""
        tries = record.tries
        if not tries:
            return
        last = tries[-1]
        if len(tries) > 1:
            for each in tries[:-1]:
                self._failed(each)
        if last.verdict != "serve" or record.outcome == "broken":
            if record.broken != "shutdown":
                self._failed(last)
            return
        figures = self._figures.get(last.deployment)
        if figures is None:
            figures = self._new(last.deployment)
        errors = figures.errors
        figures.errors = errors - WEIGHT * errors if errors else 0.0
        tokens = record.output_tokens
        if tokens >= ENOUGH and record.outcome == "ok":
            seconds = record.seconds - record.first if record.stream else last.seconds
            if seconds > SHORTEST:
                before = figures.throughput
                rate = tokens / seconds
                figures.throughput = rate if before is None else before + WEIGHT * (rate - before)

    def _failed(self, tried: Try) -> None:
        """An attempt that did not serve, or served and broke: a failure, but where it was the request's own fault."""
        if tried.seconds > 0.0 and (tried.status < 400 or tried.status == 429 or tried.status >= 500):
            figures = self._figures.get(tried.deployment) or self._new(tried.deployment)
            before = figures.errors
            figures.errors = 1.0 if before is None else before + WEIGHT * (1.0 - before)

    def _new(self, name: str) -> Figures:
        if len(self._figures) >= DEPLOYMENTS:  # a pattern's deployments are as many as callers can think of
            del self._figures[next(iter(self._figures))]
        figures = self._figures[name] = Figures()
        return figures

    def of(self, name: str) -> float | None:
        """Seconds until its first event or answer."""
        figures = self._figures.get(name)
        return None if figures is None else figures.first

    def figures(self, name: str) -> Figures | None:
        return self._figures.get(name)
