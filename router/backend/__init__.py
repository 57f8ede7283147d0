"""A small server around one diffusers or transformers pipeline, in the Hub's own shape: `inference-router backend`.

It exists because no server for such a pipeline is there that people can just start, and so the router has something
local for every task. One model, one task, one thread: requests wait in a bounded line. Batching, several models and
chat are other servers' business. The libraries stand in the extra `backend`; only the modules that TASKS names import
them, and those are imported when the command runs.
"""

from router.backend.engine import Loaded, Order, Run, Step
from router.backend.serving import serve
from router.backend.tasks import TASKS

__all__ = ["TASKS", "Loaded", "Order", "Run", "Step", "serve"]
