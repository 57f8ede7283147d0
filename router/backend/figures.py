"""What the backend counted, in Prometheus' text format. `backend_queue_size` is what a router balances by."""

from collections import Counter
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Figures:
    def __init__(self) -> None:
        self._statuses: Counter[int] = Counter()
        self._seconds = 0.0
        self._answers = 0

    def answered(self, status: int, seconds: float) -> None:
        """`seconds` in all; only those of answers that came to something are summed."""
        self._statuses[status] += 1
        if status == 200:
            self._answers += 1
            self._seconds += seconds

    def text(self, waiting: int, running: bool, ready: bool) -> str:
        lines = [
            "# HELP backend_queue_size Requests that wait for their turn.",
            "# TYPE backend_queue_size gauge",
            f"backend_queue_size {waiting}",
            "# HELP backend_batch_current_size Requests that the model works on.",
            "# TYPE backend_batch_current_size gauge",
            f"backend_batch_current_size {int(running)}",
            "# HELP backend_model_ready Whether the model is loaded.",
            "# TYPE backend_model_ready gauge",
            f"backend_model_ready {int(ready)}",
            "# HELP backend_requests_total Requests by the status that they were answered with; 499: the caller left.",
            "# TYPE backend_requests_total counter",
            *(f'backend_requests_total{{status="{each}"}} {n}' for each, n in sorted(self._statuses.items())),
            "# HELP backend_request_seconds How long requests took that were answered, with the time in line.",
            "# TYPE backend_request_seconds summary",
            f"backend_request_seconds_sum {self._seconds:.6f}",
            f"backend_request_seconds_count {self._answers}",
        ]
        return "\n".join(lines) + "\n"
