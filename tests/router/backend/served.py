"""The backend in a process of its own, with a model that answers what somebody writes into a pipe.

usage: python -m tests.router.backend.served PORT PIPE [--preload]
"""

import sys
from pathlib import Path

from providers.spec import Ask, Result
from router.backend import Loaded, Order, Step, serve


def load(order: Order) -> Loaded:
    pipe = Path(order.model)
    if not pipe.exists():
        raise OSError("no such pipe")
    return Loaded(lambda ask, step: answer(pipe, ask, step), "cpu")


def answer(pipe: Path, ask: Ask, step: Step) -> Result:
    """Reading waits until somebody writes."""
    return Result([{"label": pipe.read_text(), "score": 1.0}])


if __name__ == "__main__":
    order = Order(sys.argv[2], "text-classification")
    sys.exit(serve(load, order, "127.0.0.1", int(sys.argv[1]), 8, "--preload" in sys.argv, "0"))
