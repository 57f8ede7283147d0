"""The Hub's inference API: `{"inputs", "parameters"}` in, a list out, and errors that are one string.

Text generation is TGI's with two differences: the answer is a list, and it begins with the prompt unless
`return_full_text` is false.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from providers.dialects import generate_reply, generate_request, hf_tasks, tgi
from providers.dialects.generate_request import Want
from providers.dialects.generate_task import Generation
from providers.spec import TEXT_GENERATION, Dialect, Fault, Fields, StreamWriter


def loading(model: str, estimated_time: float) -> Fault:
    """The words that clients look for: llm-vscode "is currently loading", retry loops "loading" or the 503."""
    message = f"Model {model} is currently loading"
    return Fault(503, "model_loading", message, "model", retry_after=estimated_time, estimated_time=estimated_time)


def _fault(fault: Fault) -> bytes:
    """`error` is always a string: llm-ls and older hub versions cannot read anything else."""
    body: dict[str, Any] = {"error": fault.message}
    if fault.status == 422:  # as the Hub hands on from TGI; clients make a ValidationError of it
        body["error_type"] = "validation"
    if fault.estimated_time is not None:
        body["estimated_time"] = fault.estimated_time
    if fault.attempts:
        body["attempts"] = fault.attempts
    return msgspec.json.encode(body)


@dataclass(frozen=True, slots=True)
class TextGeneration:
    """`/models/{id}`: one entry for each of `num_return_sequences`."""

    def read(self, fields: Fields) -> tuple[dict[str, Any], Want]:
        return generate_request.read(fields, full_text=True)

    def write(self, reply: dict[str, Any], want: Want) -> bytes:
        return msgspec.json.encode([generate_reply.answer(reply, choice, want) for choice in reply["choices"]])

    def stream(self, want: Want) -> StreamWriter:
        return generate_reply.Stream(want)


DIALECT: Final = Dialect(
    "huggingface",
    _fault,
    tgi.fault_event,
    {TEXT_GENERATION: TextGeneration()},
    {**hf_tasks.CODECS, TEXT_GENERATION: Generation(TextGeneration())},
)
