"""Text Embeddings Inference: a server of one model that embeds, ranks or classifies.

Its paths for embeddings take the caller's own bytes, OpenAI's and the Hub's; where it ranks and classifies it has words
of its own (router/src/http/types.rs).
"""

from typing import Any

import msgspec

from providers.dialects.hf_tasks import CODECS
from providers.spec import (
    FEATURE_EXTRACTION,
    OWN,
    SENTENCE_SIMILARITY,
    TEXT_RANKING,
    Adapter,
    Ask,
    Failed,
    Fields,
    Play,
    Provider,
    Result,
    Send,
    read_value,
    without,
)


def rooted(fields: Fields) -> Fields:
    """What it is told stands at the root; from `parameters`, where the Hub's clients may put it, it reads nothing."""
    given = read_value(fields, "parameters")
    if not isinstance(given, dict) or not given:
        return without(fields, "parameters")
    inner = msgspec.json.decode(fields["parameters"], type=Fields)
    return inner | without(fields, "parameters")


def ranked(ask: Ask) -> Play:
    reply = yield _sent("/rerank", {"query": ask.inputs["query"], "texts": ask.inputs["texts"], **ask.parameters})
    return CODECS[ask.task].decode(reply, ask)


def compared(ask: Ask) -> Play:
    reply = yield _sent("/similarity", {"inputs": ask.inputs, "parameters": ask.parameters})
    return CODECS[ask.task].decode(reply, ask)


def classified(ask: Ask) -> Play:
    """A list of two texts is a pair, so that several are sent as lists of one. It gives every label."""
    parameters = dict(ask.parameters)
    top_k, function = parameters.pop("top_k", None), parameters.pop("function_to_apply", "softmax")
    if function not in ("softmax", "none"):
        message = "The parameter 'function_to_apply' can only be softmax or none with Text Embeddings Inference."
        raise Failed(400, message, "invalid_request")
    several = isinstance(ask.inputs, list)
    texts = [_parts(each) for each in ask.inputs] if several else _parts(ask.inputs)
    reply = yield _sent("/predict", {"inputs": texts, "raw_scores": function == "none", **parameters})
    found = CODECS[ask.task].decode(reply, ask).value
    if isinstance(top_k, int):
        found = [each[:top_k] for each in found] if several else found[:top_k]
    return Result(found)


def _parts(text: Any) -> list[str]:
    """One text, or two that are judged together."""
    return [each for each in (text["text"], text.get("text_pair")) if each] if isinstance(text, dict) else [text]


def _sent(path: str, body: dict[str, Any]) -> Send:
    return Send(path, msgspec.json.encode(body), safe=True)


PROVIDER = Provider(
    name="tei",
    base_url=None,
    adapters={
        (FEATURE_EXTRACTION, "openai"): Adapter("/v1/embeddings"),
        (FEATURE_EXTRACTION, "huggingface"): Adapter("/embed", adapt=rooted),
        (SENTENCE_SIMILARITY, OWN): Adapter(play=compared),
        (TEXT_RANKING, OWN): Adapter(play=ranked),
        ("text-classification", OWN): Adapter(play=classified),
    },
    needs_key=False,
)
