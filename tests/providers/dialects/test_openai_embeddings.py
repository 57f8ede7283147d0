import base64
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from providers.dialects.openai_embeddings import Embeddings, packed, unpacked
from providers.spec import FEATURE_EXTRACTION, Ask, Body, Failed, Reply, Result, Unreadable, Written, raw

CODEC = Embeddings()


def body(**fields: object) -> Body:
    return Body(fields={name: raw(value) for name, value in fields.items()})


def test_texts_and_what_else_was_asked_are_read() -> None:
    ask, want = CODEC.read(body(model="m", input=["a", "b"], dimensions=2, user="u", encoding_format=None))
    assert ask == Ask(FEATURE_EXTRACTION, ["a", "b"], {"dimensions": 2, "user": "u"})
    assert (want.model, want.base64) == ("m", False)


@pytest.mark.parametrize("tokens", [[1, 2], [[1], [2]]])
def test_token_ids_are_refused_with_a_hint(tokens: list[object]) -> None:
    with pytest.raises(Unreadable, match=r"not token ids.*check_embedding_ctx_length=False") as refused:
        CODEC.read(body(model="m", input=tokens))
    assert (refused.value.param, refused.value.status) == ("input", 400)


@pytest.mark.parametrize("wrong", [None, "", [], [None], {"a": 1}, 5, ["a", {}]])
def test_an_input_that_is_no_text_is_refused_by_name(wrong: object) -> None:
    with pytest.raises(Unreadable) as refused:
        CODEC.read(body(input=wrong))
    assert refused.value.param == "input"


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_the_official_client_reads_the_vectors(encoding: str) -> None:
    _, want = CODEC.read(body(model="m", input=["a", "b"], encoding_format=encoding))
    written = CODEC.write(Result([[0.5, -1.0], [0.25, 2.0]], {"prompt_tokens": 3, "total_tokens": 3}), want)
    assert isinstance(written, Written)
    answer = msgspec.json.decode(written.body)
    if encoding == "base64":
        for item in answer["data"]:  # as the client does before it parses
            item["embedding"] = list(struct.unpack("<2f", base64.b64decode(item["embedding"])))
    parsed = CreateEmbeddingResponse.model_validate(answer, strict=True)
    assert [item.embedding for item in parsed.data] == [[0.5, -1.0], [0.25, 2.0]]
    assert [item.index for item in parsed.data] == [0, 1]
    assert (parsed.model, parsed.usage.prompt_tokens) == ("m", 3)


def test_usage_that_nobody_told_is_none() -> None:
    _, want = CODEC.read(body(model="m", input="a"))
    answer = msgspec.json.decode(CODEC.write(Result([[1.0]]), want).body)
    assert answer["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


def test_vectors_of_tokens_are_no_vector_of_the_text() -> None:
    _, want = CODEC.read(body(input="a"))
    assert b'"embedding":[1.0,2.0]' in CODEC.write(Result([[[1.0, 2.0]]]), want).body
    with pytest.raises(Failed, match="for each token"):
        CODEC.write(Result([[[1.0, 2.0], [3.0, 4.0]]]), want)


def test_what_was_read_is_sent_again() -> None:
    ask, _ = CODEC.read(body(model="caller's", input="hi", dimensions=2))
    send = CODEC.encode(Ask(ask.task, ask.inputs, ask.parameters, provider_id="ID"))
    assert msgspec.json.decode(send.body or b"") == {"input": "hi", "dimensions": 2, "model": "ID"}


def test_an_answer_is_put_in_the_order_of_its_inputs_and_unpacked() -> None:
    said = {"data": [{"index": 1, "embedding": packed([2.0])}, {"index": 0, "embedding": [1.0]}], "usage": {"a": 1}}
    result = CODEC.decode(Reply(200, {}, msgspec.json.encode(said)), Ask(FEATURE_EXTRACTION, ["a", "b"]))
    assert result == Result([[1.0], [2.0]], {"a": 1})


@pytest.mark.parametrize("said", [b"nothing", b"[]", b"{}", b'{"data": [1]}', b'{"data": [{"embedding": "?"}]}'])
def test_an_answer_that_is_none_raises_what_the_door_expects(said: bytes) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        CODEC.decode(Reply(200, {}, said), Ask(FEATURE_EXTRACTION, "a"))


@given(st.lists(st.floats(width=32, allow_nan=False)))
def test_packing_loses_nothing_of_a_float32(vector: list[float]) -> None:
    assert unpacked(packed(vector)) == vector
