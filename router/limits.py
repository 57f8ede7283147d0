"""How many requests of a tenant run at once, bounded by its plan. In memory, of this worker.

Who is over the bound is told so at once (429) and costs nothing: no body is read, no upstream asked.
"""

from providers.spec import Fault
from router.errors import Refused
from router.keys import Identity


class Running:
    """Requests under way, by tenant; only tenants whose plan has a bound are counted."""

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self._running: dict[str, int] = {}
        self.refused: dict[tuple[str, str], int] = {}  # (tenant, limit) → how often

    def admit(self, identity: Identity) -> None:
        """Raises Refused where the tenant has as many as it may have."""
        bound = identity.concurrency
        if bound is None:
            return
        running = self._running.get(identity.tenant, 0)
        if running >= max(1, bound // self._workers):
            told = identity.tenant, "concurrency"
            self.refused[told] = self.refused.get(told, 0) + 1
            message = f"{running} requests of '{identity.tenant}' are running, which is as many as its plan allows."
            raise Refused(Fault(429, "concurrency_limit", message, retry_after=1.0))
        self._running[identity.tenant] = running + 1

    def release(self, identity: Identity) -> None:
        if identity.concurrency is not None:
            left = self._running.get(identity.tenant, 0) - 1
            if left > 0:
                self._running[identity.tenant] = left
            else:
                self._running.pop(identity.tenant, None)
