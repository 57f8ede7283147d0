import msgspec
import pytest

from providers.dialects.openai_rerank import Rerank
from providers.spec import TEXT_RANKING, Ask, Body, Reply, Result, Unreadable, raw

CODEC = Rerank()
BEST_FIRST = Result([{"index": 1, "score": 0.9}, {"index": 0, "score": 0.1}])


def body(**fields: object) -> Body:
    return Body(fields={name: raw(value) for name, value in fields.items()})


def test_a_query_and_its_documents_are_read() -> None:
    ask, _ = CODEC.read(body(model="m", query="q", documents=["a", {"text": "b"}], top_n=1, truncate=True))
    assert ask == Ask(TEXT_RANKING, {"query": "q", "texts": ["a", "b"]}, {"truncate": True})


@pytest.mark.parametrize(
    ("name", "value", "param"),
    [
        ("query", None, "query"), ("query", ["q"], "query"), ("documents", [], "documents"), ("documents", "a",
        "documents"), ("documents", ["a", {"title": "b"}], "documents[1]"), ("top_n", 0, "top_n"), ("top_n", True,
        "top_n"), ("return_documents", "yes", "return_documents"),
    ],
)  # fmt: skip
def test_what_cannot_be_ranked_is_refused_by_name(name: str, value: object, param: str) -> None:
    with pytest.raises(Unreadable) as refused:
        CODEC.read(body(**{"query": "q", "documents": ["a"], name: value}))
    assert refused.value.param == param


def test_the_answer_is_cut_and_carries_the_documents_where_they_were_asked_for() -> None:
    _, want = CODEC.read(body(model="m", query="q", documents=["a", {"text": "b"}], top_n=1, return_documents=True))
    assert msgspec.json.decode(CODEC.write(BEST_FIRST, want).body) == {
        "model": "m",
        "results": [{"index": 1, "relevance_score": 0.9, "document": {"text": "b"}}],
    }


def test_the_answer_has_every_score_and_the_usage_that_was_told() -> None:
    _, want = CODEC.read(body(query="q", documents=["a", "b"]))
    assert msgspec.json.decode(CODEC.write(Result(BEST_FIRST.value, {"total_tokens": 4}), want).body) == {
        "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}],
        "usage": {"total_tokens": 4},
    }


def test_what_was_read_is_sent_again_and_its_answer_is_put_best_first() -> None:
    ask, _ = CODEC.read(body(model="m", query="q", documents=["a", {"text": "b"}], truncate=True))
    ask = Ask(ask.task, ask.inputs, ask.parameters, "ID")
    assert msgspec.json.decode(CODEC.encode(ask).body or b"") == {
        "query": "q", "documents": ["a", "b"], "truncate": True, "model": "ID",
    }  # fmt: skip
    said = b'{"results":[{"index":0,"relevance_score":0.1},{"index":1,"relevance_score":0.9}]}'
    assert CODEC.decode(Reply(200, {}, said), ask) == BEST_FIRST
