"""What can go wrong between us and an upstream, as data before the answer's head and as an exception after it."""

from dataclasses import dataclass
from typing import Literal

NoAnswer = Literal[
    "refused",  # no TCP connection: refused, unreachable, reset while connecting
    "dns",  # the name has no address
    "tls",  # the handshake failed or the certificate is not trusted
    "proxy",  # the outbound proxy refused the tunnel
    "connect_timeout",
    "queue_timeout",  # every connection of this upstream stayed busy
    "closed",  # closed or reset before a whole head came
    "timeout",  # nothing came within the clock for the first byte, or the head was never finished
    "framing",  # what came is not HTTP/1.1 as the RFC frames it
    "head_too_large",
    "upload",  # the caller's own body ended early
]

Break = Literal["closed", "framing", "silence", "deadline", "too_large"]


@dataclass(frozen=True, slots=True)
class Silence:
    """No usable answer came. `sent` says whether any byte of the request may have reached the upstream.

    `stale`: the connection was a kept one and closed before any byte of an answer, as an idle one does.
    """

    reason: NoAnswer
    sent: bool
    detail: str = ""
    stale: bool = False


class Broken(Exception):
    """The answer began and did not end as its framing promised."""

    def __init__(self, reason: Break) -> None:
        super().__init__(reason)
        self.reason: Break = reason
