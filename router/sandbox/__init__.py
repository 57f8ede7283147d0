"""An upstream that needs nothing: real HTTP/1.1 on loopback, deterministic answers, faults on demand.

It exists so that the first curl, a client's test suite and a failover drill work with nothing else installed. It
refuses to be clever: an answer is a pure function of the request, and a fault is a line in a table (faults.py).
http.py plays bytes, server.py puts the two together; everything else computes.
"""

from router.sandbox.faults import FAULTS, MODELS
from router.sandbox.server import Sandbox

__all__ = ["FAULTS", "MODELS", "Sandbox"]
