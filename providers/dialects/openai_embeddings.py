"""OpenAI's embeddings ⇄ feature extraction."""

import array
import sys
from dataclasses import dataclass
from typing import Any, Final

from providers import media
from providers.dialects.openai_fields import JSON, body_of, refused, take_choice, take_text, values_of
from providers.spec import FEATURE_EXTRACTION, Ask, Blob, Body, Failed, Reply, Result, Send, Written


@dataclass(frozen=True, slots=True)
class Want:
    model: str
    base64: bool


class Embeddings:
    """`/v1/embeddings`."""

    def read(self, body: Body) -> tuple[Ask, Want]:
        values = values_of(body.fields)
        model = take_text(values, "model", "")
        encoding = take_choice(values, "encoding_format", ("float", "base64"), "float")
        return Ask(FEATURE_EXTRACTION, _texts(values.pop("input", None)), values), Want(model, encoding == "base64")

    def write(self, result: Result, want: Want) -> Written:
        vectors = [packed(vector) if want.base64 else vector for vector in map(_of_a_text, result.value)]
        data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
        usage = _NO_USAGE | (result.usage or {})
        return Written(JSON.encode({"object": "list", "data": data, "model": want.model, "usage": usage}))

    def gathers(self, want: Want) -> bool:
        return False

    def encode(self, ask: Ask) -> Send:
        return body_of({"input": ask.inputs, **ask.parameters, "model": ask.provider_id})

    def decode(self, reply: Reply, ask: Ask) -> Result:
        answer = reply.json()
        items = sorted(answer["data"], key=lambda item: item.get("index") or 0)
        vectors = [item["embedding"] for item in items]
        return Result([unpacked(each) if isinstance(each, str) else each for each in vectors], answer.get("usage"))

    def media(self, ask: Ask) -> bool:
        return False


_NO_USAGE: Final = {"prompt_tokens": 0, "total_tokens": 0}


def _texts(given: Any) -> str | list[str]:
    if isinstance(given, str) and given:
        return given
    if not isinstance(given, list) or not given:
        raise refused("input", "must be a string, or a list of strings that is not empty")
    if any(isinstance(each, int | list) for each in given):
        hint = "LangChain sends text with check_embedding_ctx_length=False"
        raise refused("input", f"must be text, not token ids: this model is not served by OpenAI's API ({hint})")
    if not all(isinstance(each, str) for each in given):
        raise refused("input", "must be a string, or a list of strings")
    return given


def _of_a_text(vector: list[Any]) -> list[float]:
    """Raises Failed where the model embeds tokens: how a text's vector is made of theirs, the model's makers decide."""
    while vector and isinstance(vector[0], list):
        if len(vector) > 1:
            raise Failed(502, "The model gave a vector for each token, and none for the text.", "token_vectors")
        vector = vector[0]
    return vector


def packed(vector: list[float]) -> str:
    """Little-endian float32 in base64, as OpenAI's clients unpack it."""
    return media.to_base64(Blob(_little_endian(array.array("f", vector)).tobytes()))


def unpacked(text: str) -> list[float]:
    """Raises ValueError where the text is no such thing."""
    return _little_endian(array.array("f", media.from_base64(text).data)).tolist()


def _little_endian(floats: "array.array[float]") -> "array.array[float]":
    if sys.byteorder == "big":
        floats.byteswap()
    return floats
