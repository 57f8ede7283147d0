"""What an attempt came to that the caller gets: an answer, whole or with its beginning in hand."""

from typing import Final, Literal

import msgspec

from providers import sse
from router.call import Prepared
from router.routing import Candidate
from router.upstream.answer import NEVER, Answer
from router.usage import Usage

FULL_LIMIT: Final = 64 * 1024 * 1024  # of an answer that must be read whole


class Served(msgspec.Struct, gc=False):
    """An answer that the caller gets: whole (`body`), or as events or bytes of which the first are in hand.

    `mime` is its media type where that is ours to say; empty: as the upstream said.
    """

    candidate: Candidate
    prepared: Prepared
    answer: Answer
    form: Literal["full", "events", "bytes"]
    body: bytes = b""
    blocks: list[bytes] = []
    splitter: sse.Splitter | None = None
    clocks: tuple[float, float] = (NEVER, NEVER)
    used: Usage | None = None
    mime: str = ""
