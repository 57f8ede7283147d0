"""Rerank, as Cohere and Jina shaped it and OpenAI's compatible servers took it over ⇄ text ranking."""

from dataclasses import dataclass
from typing import Any

from providers.dialects.openai_fields import JSON, body_of, refused, take_text, values_of
from providers.spec import TEXT_RANKING, Ask, Body, Reply, Result, Send, Written


@dataclass(frozen=True, slots=True)
class Want:
    """`documents`: the texts, where they are to be handed back. `top`: how many results at most."""

    model: str
    documents: tuple[str, ...] | None
    top: int | None


class Rerank:
    """`/v1/rerank`. Every score is asked for; `top_n` cuts the answer."""

    def read(self, body: Body) -> tuple[Ask, Want]:
        values = values_of(body.fields)
        model = take_text(values, "model", "")
        texts = _texts(values.pop("documents", None))
        inputs = {"query": take_text(values, "query"), "texts": texts}
        top, back = values.pop("top_n", None), values.pop("return_documents", False)
        if top is not None and (type(top) is not int or top < 1):
            raise refused("top_n", "must be a number above 0")
        if not isinstance(back, bool):
            raise refused("return_documents", "must be true or false")
        return Ask(TEXT_RANKING, inputs, values), Want(model, tuple(texts) if back else None, top)

    def write(self, result: Result, want: Want) -> Written:
        results: list[dict[str, Any]] = [
            {"index": each["index"], "relevance_score": each["score"]} for each in result.value[: want.top]
        ]
        if want.documents is not None:
            for each in results:
                each["document"] = {"text": want.documents[each["index"]]}
        model = {"model": want.model} if want.model else {}
        usage = {} if result.usage is None else {"usage": result.usage}
        return Written(JSON.encode({**model, "results": results, **usage}))

    def gathers(self, want: Want) -> bool:
        return False

    def encode(self, ask: Ask) -> Send:
        inputs = {"query": ask.inputs["query"], "documents": ask.inputs["texts"]}
        return body_of({**inputs, **ask.parameters, "model": ask.provider_id})

    def decode(self, reply: Reply, ask: Ask) -> Result:
        answer = reply.json()
        ranked = [{"index": each["index"], "score": each["relevance_score"]} for each in answer["results"]]
        return Result(sorted(ranked, key=lambda each: -each["score"]), answer.get("usage"))

    def media(self, ask: Ask) -> bool:
        return False


def _texts(given: Any) -> list[str]:
    if not isinstance(given, list) or not given:
        raise refused("documents", "must be a list of strings that is not empty")
    texts: list[Any] = [each.get("text") if isinstance(each, dict) else each for each in given]
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise refused(f"documents[{index}]", 'must be a string, or an object with a "text"')
    return texts
