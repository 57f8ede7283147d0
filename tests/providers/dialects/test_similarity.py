import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects import similarity
from providers.spec import FEATURE_EXTRACTION, SENTENCE_SIMILARITY, TEXT_RANKING, Ask, Result

RANKING = Ask(TEXT_RANKING, {"query": "q", "texts": ["a", "b"]}, {"truncate": True}, "ID", "org/model")


def test_a_ranking_is_a_comparison_is_an_embedding_of_the_same_model() -> None:
    compared = similarity.similarity_of(RANKING)
    inputs = {"source_sentence": "q", "sentences": ["a", "b"]}
    assert compared == Ask(SENTENCE_SIMILARITY, inputs, {"truncate": True}, "ID", "org/model")
    assert similarity.features_of(compared) == Ask(
        FEATURE_EXTRACTION, ["q", "a", "b"], {"truncate": True}, "ID", "org/model"
    )


def test_vectors_are_compared_with_the_first_and_ranked() -> None:
    usage = {"prompt_tokens": 3}
    compared = similarity.compared(Result([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [-1.0, 0.0]], usage))
    assert compared == Result([0.0, 1.0, -1.0], usage)
    assert similarity.ranked(compared) == Result(
        [{"index": 1, "score": 1.0}, {"index": 0, "score": 0.0}, {"index": 2, "score": -1.0}], usage
    )


def test_equal_scores_keep_their_order() -> None:
    assert [each["index"] for each in similarity.ranked(Result([0.5, 0.5, 0.5])).value] == [0, 1, 2]


def test_nothing_is_like_nothing_and_lengths_must_agree() -> None:
    assert similarity.cosine([0.0, 0.0], [1.0, 0.0]) == 0.0
    with pytest.raises(ValueError, match="different lengths"):
        similarity.cosine([1.0], [1.0, 2.0])


@given(st.lists(st.floats(-1e3, 1e3).filter(lambda x: x == 0 or abs(x) > 1e-3), min_size=1).filter(any))
def test_everything_is_like_itself(vector: list[float]) -> None:
    assert math.isclose(similarity.cosine(vector, vector), 1.0, rel_tol=1e-9)
