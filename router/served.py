"""What an attempt came to that the caller gets: an answer, whole or with its beginning in hand."""

from typing import Final, Literal

from providers import sse
from router.call import Prepared
from router.routing import Candidate
from router.upstream.answer import NEVER, Answer
from router.usage import Usage

FULL_LIMIT: Final = 64 * 1024 * 1024  # of an answer that must be read whole


class Served:
    """An answer that the caller gets: whole (`body`), or as events or bytes of which the first are in hand.

    `mime` is its media type where that is ours to say; empty: as the upstream said.
    """

    def __init__(
        self,
        candidate: Candidate,
        prepared: Prepared,
        answer: Answer,
        form: Literal["full", "events", "bytes"],
        body: bytes = b"",
        *,
        blocks: list[bytes] | None = None,
        splitter: sse.Splitter | None = None,
        used: Usage | None = None,
        mime: str = "",
    ) -> None:
        self.candidate = candidate
        self.prepared = prepared
        self.answer = answer
        self.form = form
        self.body = body
        self.blocks = blocks or []
        self.splitter = splitter
        self.used = used
        self.mime = mime
        self.clocks = (NEVER, NEVER)
