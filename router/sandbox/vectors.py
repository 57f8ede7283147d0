"""/embeddings, /rerank, /moderations: numbers about texts, computed from their bytes and their words."""

import struct
from base64 import b64encode
from collections.abc import Sequence
from hashlib import shake_256
from math import sqrt
from typing import Any, Final

from router.sandbox import fields as read
from router.sandbox import words
from router.sandbox.chat import text_of
from router.sandbox.completions import prompts_of
from router.sandbox.exchange import Ask, Reply, json_reply

DIMENSIONS: Final = 384
INPUTS: Final = 2048
CATEGORIES: Final = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)


def embed(text: str, dimensions: int) -> bytes:
    """A vector of length one as little-endian float32, the same for the same text."""
    noise = shake_256(text.encode("utf-8", "surrogatepass")).digest(2 * dimensions)
    values = struct.unpack(f"<{dimensions}h", noise)
    length = sqrt(sum(value * value for value in values)) or 1.0
    return struct.pack(f"<{dimensions}f", *(value / length for value in values))


def embeddings(ask: Ask) -> Reply:
    texts = prompts_of(read.need(ask.fields, "input"), "input")
    if len(texts) > INPUTS:
        raise read.invalid("input", f"array too long. Expected at most {INPUTS} elements.")
    if not all(texts):
        raise read.invalid("input", "the text is empty.")
    dimensions = read.whole(ask.fields, "dimensions", 1, 4096) or DIMENSIONS
    encoding = read.choice(ask.fields, "encoding_format", "float", "base64")
    data = []
    for index, text in enumerate(texts):
        packed = embed(text, dimensions)
        vector = b64encode(packed).decode() if encoding == "base64" else struct.unpack(f"<{dimensions}f", packed)
        data.append({"object": "embedding", "index": index, "embedding": vector})
    used = sum(map(words.count, texts))
    usage = {"prompt_tokens": used, "total_tokens": used}
    return json_reply({"object": "list", "data": data, "model": ask.model, "usage": usage})


def rerank(ask: Ask) -> Reply:
    """Cohere's and Jina's shape."""
    query = read.text(ask.fields, "query")
    documents = read.need(ask.fields, "documents")
    if not isinstance(documents, list) or not documents:
        raise read.wrong_type("documents", "an array of strings or objects", documents)
    texts = []
    for at, document in enumerate(documents):
        text = document.get("text") if isinstance(document, dict) else document
        if not isinstance(text, str):
            raise read.wrong_type(f"documents[{at}]", "a string or an object with a text", document)
        texts.append(text)
    with_text = read.flag(ask.fields, "return_documents")
    results = [
        {"index": at, "relevance_score": score} | ({"document": {"text": texts[at]}} if with_text else {})
        for at, score in shares(query, texts)[: read.whole(ask.fields, "top_n", 1, 10_000_000)]
    ]
    used = words.count(query) + sum(map(words.count, texts))
    return json_reply(
        {"id": f"rerank-{ask.seal[:24]}", "model": ask.model, "results": results, "usage": {"total_tokens": used}}
    )


def shares(query: str, texts: Sequence[str]) -> list[tuple[int, float]]:
    """Each text's place and score, best first: the score is the share of the query's words that stand in it."""
    asked = set(query.lower().split())
    scores = [len(asked.intersection(text.lower().split())) / max(1, len(asked)) for text in texts]
    return sorted(enumerate(scores), key=lambda each: (-each[1], each[0]))


def moderations(ask: Ask) -> Reply:
    """A text is flagged for each category whose name it contains."""
    value = read.need(ask.fields, "input")
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        texts = [text_of(value, "input")]
    else:
        texts = prompts_of(value, "input")
    return json_reply(
        {
            "id": f"modr-{ask.seal[:24]}",
            "model": ask.model or "sandbox/echo",
            "results": [_moderation(text.lower()) for text in texts],
        }
    )


def _moderation(text: str) -> dict[str, Any]:
    found = {name: name in text for name in CATEGORIES}
    return {
        "flagged": any(found.values()),
        "categories": found,
        "category_scores": {name: float(hit) for name, hit in found.items()},
        "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
    }
