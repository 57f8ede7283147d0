"""Vectors and what follows from them. The same text has the same vector here and at /v1/embeddings."""

import struct
from base64 import b64encode
from typing import Any

from router.sandbox import fields as read
from router.sandbox.exchange import Ask, Reply
from router.sandbox.tasks import asked
from router.sandbox.vectors import DIMENSIONS, embed, shares


def vectors(ask: Ask) -> Reply:
    """One vector a text, also for one text alone. The parameters stand at the top, or in `parameters`."""
    given = {**asked.parameters(ask), **ask.fields}
    dimensions = read.whole(given, "dimensions", 1, 4096) or DIMENSIONS
    for name in ("normalize", "truncate"):
        read.flag(given, name)
    read.choice(given, "truncation_direction", "right", "left", "Right", "Left")
    packed = [embed(said, dimensions) for said in asked.texts(ask)]
    if read.choice(given, "encoding_format", "float", "base64") == "base64":
        return asked.answer([b64encode(each).decode() for each in packed])
    return asked.answer([_numbers(each) for each in packed])


def sentences(ask: Ask) -> Reply:
    within = asked.parts(ask)
    source = _numbers(embed(read.text(within, "source_sentence"), DIMENSIONS))
    others = asked.strings(within, "sentences")
    return asked.answer([_product(source, _numbers(embed(said, DIMENSIONS))) for said in others])


def ranking(ask: Ask) -> Reply:
    """TEI's shape, and /v1/rerank's scores."""
    within = asked.parts(ask)
    query, said = read.text(within, "query"), asked.strings(within, "texts")
    with_text = read.flag(within, "return_text") or read.flag(asked.parameters(ask), "return_text")
    most = read.whole(asked.parameters(ask), "top_n", 1, 10_000_000)
    scores = shares(query, said)
    found = [{"index": at, "score": score} | ({"text": said[at]} if with_text else {}) for at, score in scores]
    return asked.answer(found[:most])


def _numbers(packed: bytes) -> tuple[Any, ...]:
    return struct.unpack(f"<{len(packed) // 4}f", packed)


def _product(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The cosine, as both are of length one; within its bounds whatever float32 makes of that."""
    return max(-1.0, min(1.0, sum(left * right for left, right in zip(one, other, strict=True))))
