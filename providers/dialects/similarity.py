"""What lies between ranking, comparing and embedding texts: each can be had from the next, by arithmetic alone.

    text-ranking → sentence-similarity → feature-extraction

An `…_of` function makes the ask of the next, and the one below it the answer from the next one's.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from operator import mul

from providers.spec import FEATURE_EXTRACTION, SENTENCE_SIMILARITY, Ask, Result


def similarity_of(ranking: Ask) -> Ask:
    """{"query", "texts"} → {"source_sentence", "sentences"}."""
    inputs = {"source_sentence": ranking.inputs["query"], "sentences": ranking.inputs["texts"]}
    return replace(ranking, task=SENTENCE_SIMILARITY, inputs=inputs)


def ranked(similarities: Result) -> Result:
    """One number a text → [{"index", "score"}], best first; equal ones as they came."""
    scores = [{"index": index, "score": score} for index, score in enumerate(similarities.value)]
    return Result(sorted(scores, key=lambda each: -each["score"]), similarities.usage)


def features_of(similarity: Ask) -> Ask:
    """{"source_sentence", "sentences"} → all of them, the source first."""
    inputs = [similarity.inputs["source_sentence"], *similarity.inputs["sentences"]]
    return replace(similarity, task=FEATURE_EXTRACTION, inputs=inputs)


def compared(features: Result) -> Result:
    """Vectors → how near each is to the first, by the cosine between them."""
    source, *others = features.value
    return Result([cosine(source, other) for other in others], features.usage)


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """0 where one of them is nothing. Raises ValueError where they are not of one length."""
    if len(one) != len(other):
        raise ValueError("vectors of different lengths")
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(map(mul, one, other)) / lengths if lengths else 0.0
