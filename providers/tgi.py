"""Text Generation Inference, 1.x to 3.x: a local server that speaks three dialects.

Its OpenAI paths refuse with 422 some things that OpenAI's clients send as a matter of course; they are put its way
here. Its own paths take what its own clients send, untouched.
"""

from typing import Final

import msgspec

from providers.response_format import as_tgi_grammar, read
from providers.spec import (
    CONVERSATIONAL,
    TEXT_GENERATION,
    TOKENIZE,
    Adapter,
    Fields,
    Provider,
    Unreadable,
    raw,
    without,
)

# TGI wants a schema with `properties`, even where any object will do.
ANY_OBJECT: Final = {"type": "json_object", "value": {"type": "object", "properties": {}}}


def number(fields: Fields, name: str) -> float | None:
    """The field where it is a number; anything else is left for TGI to refuse."""
    try:
        return msgspec.json.decode(fields.get(name, b"null"), type=float)
    except msgspec.DecodeError:
        return None


def sampling(fields: Fields) -> Fields:
    """`stop` must be an array, and `top_p` below 1; 1 means the same as none."""
    stop = fields.get("stop")
    if stop is not None and bytes(stop).startswith(b'"'):
        fields = fields | {"stop": raw([stop])}
    top_p = number(fields, "top_p")
    return without(fields, "top_p") if top_p is not None and top_p >= 1 else fields


def penalties(fields: Fields) -> Fields:
    """TGI makes presence_penalty x a repetition_penalty x + 2, so that 0, which asks for nothing, would punish."""
    return without(fields, "presence_penalty") if number(fields, "presence_penalty") == 0 else fields


def logit_bias(fields: Fields) -> Fields:
    """TGI ignores it, but only as an array; OpenAI's object is refused here, by name, unless it biases nothing."""
    bias = fields.get("logit_bias")
    if bias is None or not bytes(bias).startswith(b"{"):
        return fields
    if msgspec.json.decode(bias, type=Fields):
        raise Unreadable("logit_bias", "The field 'logit_bias' is not supported by Text Generation Inference.")
    return without(fields, "logit_bias")


def grammar(fields: Fields) -> Fields:
    """OpenAI's three forms of response_format as TGI's; TGI's own pass."""
    wanted = read(fields)
    if wanted is None or wanted.value is not msgspec.UNSET:
        return fields
    if wanted.type == "text":
        return without(fields, "response_format")
    if wanted.type == "json_object":
        return fields | {"response_format": raw(ANY_OBJECT)}
    return as_tgi_grammar(fields)


def chat(fields: Fields) -> Fields:
    return grammar(logit_bias(penalties(sampling(fields))))


PROVIDER = Provider(
    name="tgi",
    base_url=None,
    adapters={
        (TEXT_GENERATION, "huggingface"): Adapter("/"),
        (TEXT_GENERATION, "tgi"): Adapter("/generate", stream_path="/generate_stream"),
        (TEXT_GENERATION, "openai"): Adapter("/v1/completions", adapt=sampling),
        (CONVERSATIONAL, "openai"): Adapter("/v1/chat/completions", adapt=chat),
        (TOKENIZE, "tgi"): Adapter("/tokenize"),
    },
    models_path="/v1/models",
    needs_key=False,
    prefills=True,
)
