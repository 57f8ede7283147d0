"""Where the program meets the network: one listening socket, one worker in this process or several under a supervisor.

The socket is bound once, before any worker exists, so that all share it and a port that is taken is one clear line.
A second socket may be for operators alone: what the app has as `operators` is served there, by every worker.
SIGTERM drains (readiness says 503 while for `delay` everybody is still served, then answers under way are finished
within `drain`, exit 0), SIGINT stops at once, SIGHUP reads the configuration again.
"""

import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from router.server.supervisor import supervise
from router.server.worker import Drainable, Tls, work
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


def _check(tls: Tls) -> None:
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise SystemExit(f"inference-router: server.tls: {error.strerror or error}") from None


def serve(
    build: Callable[[Siblings], Drainable],
    host: str,
    port: int,
    workers: int,
    drain: float,
    *,
    delay: float = 0.0,
    tls: Tls | None = None,
    operators: str = "",
) -> NoReturn:
    """Serve what `build` makes until told to stop; each worker builds its own: no loop or connection is ever forked.

    `operators`: `host:port`, or `:port` for every address.
    """
    if tls is not None:
        _check(tls)
    listener = listen(host, port)
    second = None
    if operators:
        name, _, number = operators.rpartition(":")
        second = listen(name.strip("[]") or "0.0.0.0", int(number))  # noqa: S104 - as it is written

    def one(index: int, directory: Path | None, lifeline: int | None) -> int:
        return work(build(Siblings(directory, index, workers)), listener, (drain, delay), lifeline, tls, second)

    raise SystemExit(one(0, None, None) if workers == 1 else supervise(workers, one, drain))
