"""Text Generation Inference's wire shape: `/generate` and `/generate_stream`, and `{"error", "error_type"}`.

Its streams have no `[DONE]`; a stream that broke ends in an error event.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from providers import sse
from providers.dialects import generate_reply, generate_request
from providers.dialects.generate_request import Want
from providers.dialects.generate_task import Generation
from providers.spec import TEXT_GENERATION, Dialect, Fault, Fields, StreamWriter

# The types that huggingface_hub and the text-generation client turn into exceptions of their own
# (huggingface_hub/inference/_common.py). Other statuses say our code, and those clients go by the status then.
_ERROR_TYPES: Final[Mapping[int, str]] = {
    400: "validation",
    413: "validation",
    415: "validation",
    422: "validation",
    424: "generation",
    429: "overloaded",
    500: "generation",
    502: "generation",
    503: "overloaded",
    504: "generation",
}


def _worded(fault: Fault, error_type: str) -> bytes:
    body: dict[str, Any] = {"error": fault.message, "error_type": error_type}
    if fault.attempts:
        body["attempts"] = fault.attempts
    return msgspec.json.encode(body)


def _fault(fault: Fault) -> bytes:
    return _worded(fault, _ERROR_TYPES.get(fault.status, fault.code))


def fault_event(fault: Fault) -> bytes:
    broken = fault.status >= 500
    return sse.event(_worded(fault, "incomplete_generation") if broken else _fault(fault))


@dataclass(frozen=True, slots=True)
class TextGeneration:
    """`/generate`: one object, without the prompt unless `return_full_text` asks for it."""

    def read(self, fields: Fields) -> tuple[dict[str, Any], Want]:
        return generate_request.read(fields, full_text=False)

    def write(self, reply: dict[str, Any], want: Want) -> bytes:
        return msgspec.json.encode(generate_reply.answer(reply, reply["choices"][0], want))

    def stream(self, want: Want) -> StreamWriter:
        return generate_reply.Stream(want)


DIALECT: Final = Dialect(
    "tgi",
    _fault,
    fault_event,
    {TEXT_GENERATION: TextGeneration()},
    {TEXT_GENERATION: Generation(TextGeneration())},
)
