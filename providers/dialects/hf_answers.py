"""The shapes of the Hub's answers: what its servers have answered → canonical, and canonical → what clients insist on.

Canonical is the task's output schema (huggingface.js packages/tasks) for one input, and a list of that where `inputs`
was a list. What clients insist on: huggingface_hub's `parse_obj_as_list` and `_as_instance`, and the checks in
huggingface.js's providers/hf-inference.ts.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from providers.spec import IMAGE_TO_TEXT, TEXT_RANKING, Ask, Task

ZERO_SHOT: Final = "zero-shot-classification"


@dataclass(frozen=True, slots=True)
class Want:
    """What of the request an answer's shape depends on. `texts`: those that the answer says again."""

    many: bool = False
    several: bool = False  # more than one answer to a question was asked for
    raw_entities: bool = False  # tokens, not groups of them
    javascript: bool = False  # huggingface.js asks
    labels_and_scores: bool = False  # a huggingface_hub that knows zero-shot answers in two columns only
    texts: tuple[str, ...] = ()


def want_of(ask: Ask, many: bool, agent: str) -> Want:
    """Takes out of the parameters what is a matter of the answer's shape alone."""
    parameters = ask.parameters
    top_k = parameters.get("top_k")
    texts: list[str] = []
    if ask.task == ZERO_SHOT:
        texts = ask.inputs if many else [ask.inputs]
    elif ask.task == TEXT_RANKING:
        back = [parameters.pop(name, None) for name in ("return_text", "return_documents")]
        texts = ask.inputs["texts"] if any(each is True for each in back) else []
    hub = _HUB.search(agent)
    return Want(
        many,
        several=isinstance(top_k, int) and top_k > 1,
        raw_entities=parameters.get("aggregation_strategy") == "none",
        javascript="@huggingface/inference" in agent,
        labels_and_scores=hub is not None and (int(hub[1]), int(hub[2])) < _LIST_SINCE,
        texts=tuple(texts),
    )


def reshapes(task: Task, agent: str) -> bool:
    """Whether a client insists on a shape of its own for an answer, so that no server's can be passed on as it is."""
    if task == ZERO_SHOT:
        hub = _HUB.search(agent)
        return hub is not None and (int(hub[1]), int(hub[2])) < _LIST_SINCE
    return task == IMAGE_TO_TEXT and "@huggingface/inference" in agent


_HUB: Final = re.compile(r"\bhf_hub/(\d{1,4})\.(\d{1,4})")
_LIST_SINCE: Final = (1, 2)  # huggingface_hub pull request 3561

Read = Callable[[Any], Any]
Write = Callable[[Any, Want], Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """`read`: the answer to one input. `file`: a whole file as the answer: its type and base64."""

    read: Read
    write: Write
    file: Callable[[str, str], Any] | None = None


def canonical(shape: Shape, value: Any, ask: Ask, many: bool) -> Any:
    """Raises ValueError, LookupError or TypeError where the value is no answer to what was asked."""
    if not many:
        return shape.read(value)
    if len(ask.inputs) == 1 and not (isinstance(value, list) and len(value) == 1):
        return [shape.read(value)]
    if not isinstance(value, list) or len(value) != len(ask.inputs):
        raise ValueError("not one answer an input")
    return [shape.read(each) for each in value]


# Reading: the answer to one input


def a_list(value: Any) -> list[Any]:
    """Of objects: alone, in a list, in a list of one list, or in the two columns of zero-shot pipelines."""
    if isinstance(value, dict):
        if "labels" in value and "scores" in value:
            pairs = zip(value["labels"], value["scores"], strict=True)
            return [{"label": label, "score": score} for label, score in pairs]
        return [value]
    if not isinstance(value, list):
        raise ValueError("not a list")
    return value[0] if len(value) == 1 and isinstance(value[0], list) else value


def an_object(value: Any) -> dict[str, Any]:
    """Alone, or the first of a list."""
    while isinstance(value, list):
        value = value[0]
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def a_transcript(value: Any) -> dict[str, Any]:
    found = {"text": value} if isinstance(value, str) else an_object(value)
    if not isinstance(found["text"], str):
        raise ValueError("no text")
    return found


def numbers(value: Any) -> list[Any]:
    """Similarities: the Inference toolkit names them."""
    found = value["similarities"] if isinstance(value, dict) else value
    if not isinstance(found, list) or not all(isinstance(each, int | float) for each in found):
        raise ValueError("not a list of numbers")
    return found


def vectors(value: Any) -> list[Any]:
    """One an input; of each token where the model does no more."""
    found = value["embeddings"] if isinstance(value, dict) else value
    if not isinstance(found, list):
        raise ValueError("no vectors")
    return [found] if found and isinstance(found[0], int | float) else found


def a_ranking(value: Any) -> list[Any]:
    """[{"index", "score"}], best first; a score a text where the toolkit ranks pairs."""
    found = value["scores"] if isinstance(value, dict) else value
    ranked = [
        {"index": each["index"], "score": each["score"]} if isinstance(each, dict) else {"index": place, "score": each}
        for place, each in enumerate(found)
    ]
    return sorted(ranked, key=lambda each: -each["score"])


def anything(value: Any) -> Any:
    return value


# Writing


def plain(value: Any, want: Want) -> Any:
    return value


def listed(value: Any, want: Want) -> Any:
    """A list of answers, if of one."""
    return value if want.many else [value]


def answered(value: Any, want: Want) -> Any:
    """Answers to a question: the best one alone, unless more were asked for."""
    if want.many:
        return [_best(each, want) for each in value]
    return _best(value, want)


def _best(answers: list[Any], want: Want) -> Any:
    return answers if want.several or not answers else answers[0]


def tables(value: Any, want: Want) -> Any:
    """Cells of a table: huggingface.js insists on an aggregator, which models that only select have none of."""
    full = [{"aggregator": "NONE", **each} for each in value]
    return full if want.many or not full else full[0]


def entities(value: Any, want: Want) -> Any:
    """In groups unless asked otherwise: huggingface.js insists on them, and pipelines give tokens by themselves."""
    if want.raw_entities:
        return value
    return [[_grouped(each) for each in one] for one in value] if want.many else [_grouped(each) for each in value]


def _grouped(entity: dict[str, Any]) -> dict[str, Any]:
    if "entity_group" in entity or "entity" not in entity:
        return entity
    label = str(entity["entity"])
    group = label[2:] if label[:2] in ("B-", "I-") else label
    return {"entity_group": group, **{name: value for name, value in entity.items() if name != "entity"}}


def zero_shot(value: Any, want: Want) -> Any:
    """Label by label; in two columns to old hubs, and where `inputs` was a list, which was never answered otherwise."""
    if want.many:
        return [_columns(text, each) for text, each in zip(want.texts, value, strict=True)]
    return _columns(want.texts[0], value) if want.labels_and_scores else value


def _columns(text: str, scored: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "sequence": text,
        "labels": [each["label"] for each in scored],
        "scores": [each["score"] for each in scored],
    }


def caption(value: Any, want: Want) -> Any:
    """huggingface.js insists on an object, huggingface_hub on a list."""
    return value if want.javascript else [value]


def ranking(value: Any, want: Want) -> Any:
    return [{**each, "text": want.texts[each["index"]]} for each in value] if want.texts else value


LABELS: Final = Shape(a_list, plain)
NESTED_LABELS: Final = Shape(a_list, listed)
ENTITIES: Final = Shape(a_list, entities)
ZERO_SHOT_LABELS: Final = Shape(a_list, zero_shot)
ANSWERS: Final = Shape(a_list, answered)
TABLES: Final = Shape(a_list, tables)
TEXTS: Final = Shape(an_object, listed)
CAPTION: Final = Shape(an_object, caption)
TRANSCRIPT: Final = Shape(a_transcript, plain)
DEPTH: Final = Shape(an_object, plain, lambda mime, base64: {"depth": base64})
SOUNDS: Final = Shape(a_list, plain, lambda mime, base64: [{"label": "label_0", "content-type": mime, "blob": base64}])
NUMBERS: Final = Shape(numbers, plain)
VECTORS: Final = Shape(vectors, plain)
RANKING: Final = Shape(a_ranking, ranking)
ANYTHING: Final = Shape(anything, plain)
