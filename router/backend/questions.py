"""Questions about a text and about a picture, for which transformers 5 has no pipeline any more.

About a text: the likeliest span of it. Scores are those of the pipeline that was: the product of the likelihoods of a
span's ends, of all tokens that belong to the text.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
import transformers

from providers.spec import Ask, Result
from router.backend import device, inputs
from router.backend.engine import Loaded, Order, Step

_PARAMETERS: Final = (
    "align_to_words",
    "doc_stride",
    "handle_impossible_answer",
    "max_answer_len",
    "max_question_len",
    "max_seq_len",
    "top_k",
)


def load(order: Order) -> Loaded:
    place, dtype = device.device_of(order), device.dtype_of(order)
    if order.task == "question-answering":
        tokenizer = transformers.AutoTokenizer.from_pretrained(order.model, use_fast=True)
        model = transformers.AutoModelForQuestionAnswering.from_pretrained(order.model, dtype=dtype).to(place).eval()
        return device.loaded(order, inputs.one_by_one(Finder(tokenizer, model)))
    processor = transformers.AutoProcessor.from_pretrained(order.model)
    model = transformers.AutoModelForVisualQuestionAnswering.from_pretrained(order.model, dtype=dtype).to(place).eval()
    return device.loaded(order, Looker(processor, model))


@dataclass(frozen=True, slots=True)
class Span:
    score: float
    start: int
    end: int


class Finder:
    def __init__(self, tokenizer: Any, model: Any) -> None:
        self._tokenizer = tokenizer
        self._model = model

    def __call__(self, ask: Ask, step: Step) -> Result:
        asked = inputs.known(ask, _PARAMETERS)
        context = inputs.text_of(inputs.item(ask, "context"), "inputs.context")
        question = inputs.text_of(inputs.item(ask, "question"), "inputs.question")
        spans, nothing = self._spans(question, context, asked)
        if asked.get("handle_impossible_answer"):
            spans.append(Span(nothing, 0, 0))
        best = sorted(spans, key=lambda each: -each.score)
        distinct = list({(each.start, each.end): each for each in reversed(best)}.values())[::-1]
        return Result(
            [
                {
                    "score": each.score,
                    "start": each.start,
                    "end": each.end,
                    "answer": context[each.start : each.end],
                }
                for each in distinct[: inputs.whole(asked, "top_k", 1)]
            ]
        )

    def _spans(self, question: str, context: str, asked: dict[str, Any]) -> tuple[list[Span], float]:
        """The likeliest spans of each stretch of the context, and how likely it is that there is no answer in any."""
        most = min(self._tokenizer.model_max_length, inputs.whole(asked, "max_seq_len", 384) or 384)
        stride = min(inputs.whole(asked, "doc_stride", 128) or 128, most // 2)
        longest = inputs.whole(asked, "max_question_len", 64)
        words = self._tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        if len(words) > (longest or 64):
            question = question[: words[(longest or 64) - 1][1]]
        read = self._tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=most,
            stride=min(stride, most // 4),
            padding=True,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        offsets = read.pop("offset_mapping").tolist()
        read.pop("overflow_to_sample_mapping", None)
        out = self._model(**read.to(self._model.device))
        spans: list[Span] = []
        nothing = 1.0
        kept = inputs.whole(asked, "top_k", 1) or 1
        for row, stretch in enumerate(offsets):
            inside = torch.tensor([each == 1 for each in read.sequence_ids(row)])
            inside[0] = bool(asked.get("handle_impossible_answer"))
            starts, ends = (_likely(each[row].float().cpu(), inside) for each in (out.start_logits, out.end_logits))
            nothing = min(nothing, float(starts[0] * ends[0]))
            starts[0] = ends[0] = 0.0
            pairs = torch.outer(starts, ends).triu().tril((inputs.whole(asked, "max_answer_len", 15) or 15) - 1)
            for place in pairs.flatten().topk(min(kept, pairs.numel())).indices.tolist():
                first, last = divmod(place, pairs.shape[1])
                spans.append(Span(float(pairs[first, last]), stretch[first][0], stretch[last][1]))
        return spans, nothing


def _likely(logits: Any, inside: Any) -> Any:
    return logits.masked_fill(~inside, -10000.0).softmax(-1)


class Looker:
    def __init__(self, processor: Any, model: Any) -> None:
        self._processor = processor
        self._model = model

    def __call__(self, ask: Ask, step: Step) -> Result:
        asked = inputs.known(ask, ("top_k",))
        picture = inputs.picture_of(inputs.item(ask, "image"), "inputs.image")
        question = inputs.text_of(inputs.item(ask, "question"), "inputs.question")
        read = self._processor(images=picture, text=question, return_tensors="pt", truncation=True)
        read = read.to(self._model.device, self._model.dtype)
        if self._model.can_generate():
            said = self._processor.batch_decode(self._model.generate(**read), skip_special_tokens=True)[0]
            return Result([{"answer": said.strip(), "score": 1.0}])
        likely = self._model(**read).logits[0].float().sigmoid()
        found = likely.topk(min(inputs.whole(asked, "top_k", 5) or 5, len(likely)))
        names = self._model.config.id2label
        pairs = zip(found.indices.tolist(), found.values.tolist(), strict=True)
        return Result([{"answer": names[index], "score": score} for index, score in pairs])
