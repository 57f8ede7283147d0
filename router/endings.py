"""How streams of events end, well or not, and who writes those that are translated."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from providers import spec, sse
from providers.spec import Fault, StreamWriter
from router.call import Call
from router.served import Served

ENDS: Final[Mapping[str, tuple[bytes, ...]]] = {  # what an event that ends a stream well has in it
    spec.CONVERSATIONAL: (b'"finish_reason":"', b'"finish_reason": "'),
    spec.TEXT_GENERATION: (b'"finish_reason":"', b'"finish_reason": "'),
    spec.RESPONSES: (b'"response.completed"', b'"response.incomplete"', b'"response.failed"'),
}
TOKENS_END: Final = (b'"generated_text":"', b'"generated_text": "')


class _Rechunk:
    """OpenAI's own completions, of a provider that only chats: canonical chunks as they are."""

    def event(self, chunk: dict[str, Any]) -> bytes:
        return sse.event(msgspec.json.encode(chunk))

    def end(self) -> bytes:
        return sse.DONE


def writer_of(call: Call, served: Served) -> StreamWriter:
    codec = call.codec
    return _Rechunk() if codec is None else codec.stream(served.prepared.want)


_WORDS: Final[Mapping[str, str]] = {
    "closed": "The upstream closed the connection before the answer was complete.",
    "silence": "The upstream fell silent before the answer was complete.",
    "deadline": "The answer took longer than is allowed.",
    "diverged": "The upstream broke off, and no other could carry its answer on.",
    "shutdown": "The server is shutting down.",
    "truncated": "The upstream's answer ended before it was complete.",
    "upstream_error": "The upstream reported an error before the answer was complete.",
}


def broken(reason: str) -> Fault:
    return Fault(502, "upstream_stream_broken", _WORDS.get(reason, "The answer could not be read to its end."))
