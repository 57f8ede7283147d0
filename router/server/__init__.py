"""Where the program meets the network: one listening socket, one worker in this process or several under a supervisor.

The socket is bound once, before any worker exists, so that all share it and a port that is taken is one clear line.
SIGTERM drains (readiness says 503, answers under way are finished for `server.drain`, exit 0), SIGINT stops at once.
"""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from router.server.supervisor import supervise
from router.server.worker import Drainable, work
from router.siblings import Siblings


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen; a failure is a line for people."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise SystemExit(f"inference-router: cannot listen on {host}:{port}: {reason}") from None
    listener.setblocking(False)
    return listener


def serve(build: Callable[[Siblings], Drainable], host: str, port: int, workers: int, drain: float) -> NoReturn:
    """Serve what `build` makes until told to stop; each worker builds its own: no loop or connection is ever forked."""
    listener = listen(host, port)

    def one(index: int, directory: Path | None, lifeline: int | None) -> int:
        return work(build(Siblings(directory, index, workers)), listener, drain, lifeline)

    raise SystemExit(one(0, None, None) if workers == 1 else supervise(workers, one, drain))
