"""The tasks of words and pictures for which transformers has a pipeline: what each is given, and what it may be told.

A pipeline answers with numpy's numbers, tensors and pictures: `outputs.plain` makes JSON of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import transformers

from providers.spec import Ask, Result
from router.backend import device, inputs, outputs
from router.backend.engine import Loaded, Order, Step


def _text(ask: Ask) -> dict[str, Any]:
    """`inputs`: a text, or a pair of texts that is judged as one."""
    return {"inputs": ask.inputs if isinstance(ask.inputs, dict) else inputs.text_of(ask.inputs)}


def _sequence(ask: Ask) -> dict[str, Any]:
    return {"sequences": inputs.text_of(ask.inputs)}


def _table(ask: Ask) -> dict[str, Any]:
    return {"table": inputs.item(ask, "table"), "query": inputs.item(ask, "query")}


def _picture(ask: Ask) -> dict[str, Any]:
    return {"inputs": inputs.picture_of(ask.inputs)}


def _scene(ask: Ask) -> dict[str, Any]:
    return {"image": inputs.picture_of(ask.inputs)}


def _document(ask: Ask) -> dict[str, Any]:
    picture = inputs.picture_of(inputs.item(ask, "image"), "inputs.image")
    return {"image": picture, "question": inputs.text_of(inputs.item(ask, "question"), "inputs.question")}


@dataclass(frozen=True, slots=True)
class Kind:
    """`unasked`: what the Hub's API does where the caller says nothing, and the pipeline would do otherwise."""

    read: Callable[[Ask], dict[str, Any]]
    parameters: tuple[str, ...] = ()
    unasked: tuple[tuple[str, Any], ...] = ()


_DOCUMENT: Final = ("doc_stride", "handle_impossible_answer", "lang", "max_answer_len", "max_question_len")
_ENTITIES: Final = ("aggregation_strategy", "ignore_labels", "stride")
_LABELS: Final = ("candidate_labels", "hypothesis_template")
_MASKS: Final = ("mask_threshold", "overlap_mask_area_threshold", "subtask", "threshold")

KINDS: Final = {
    "text-classification": Kind(_text, ("top_k", "function_to_apply"), (("top_k", None),)),
    "token-classification": Kind(_text, _ENTITIES, (("aggregation_strategy", "simple"),)),
    "zero-shot-classification": Kind(_sequence, (*_LABELS, "multi_label")),
    "fill-mask": Kind(_text, ("top_k", "targets")),
    "table-question-answering": Kind(_table, ("padding", "sequential", "truncation")),
    "image-classification": Kind(_picture, ("top_k", "function_to_apply")),
    "zero-shot-image-classification": Kind(_scene, _LABELS),
    "object-detection": Kind(_picture, ("threshold",)),
    "zero-shot-object-detection": Kind(_scene, ("candidate_labels", "threshold", "top_k")),
    "image-segmentation": Kind(_picture, _MASKS),
    "depth-estimation": Kind(_picture),
    "document-question-answering": Kind(_document, (*_DOCUMENT, "max_seq_len", "top_k", "word_boxes")),
}


def load(order: Order) -> Loaded:
    made = transformers.pipeline(
        order.task, model=order.model, device=device.device_of(order), dtype=device.dtype_of(order)
    )
    kind = KINDS[order.task]

    def run(ask: Ask, step: Step) -> Result:
        asked = dict(kind.unasked) | inputs.known(ask, kind.parameters)
        return Result(_scored(outputs.plain(_called(made, kind.read(ask), asked))))

    return device.loaded(order, inputs.one_by_one(run))


def _called(pipeline: Any, given: dict[str, Any], asked: dict[str, Any]) -> Any:
    """What is given stands first, whatever the pipeline calls it, unless it is several things."""
    if len(given) > 1:
        return pipeline(**given, **asked)
    (subject,) = given.values()
    return pipeline(subject, **asked)


def _scored(found: Any) -> Any:
    """Labels and their scores side by side, as zero-shot has them → one entry a label."""
    if isinstance(found, dict) and "labels" in found and "scores" in found:
        pairs = zip(found["labels"], found["scores"], strict=True)
        return [{"label": label, "score": score} for label, score in pairs]
    return found
