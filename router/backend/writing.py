"""Text that is written: on from a prompt, out of another text, or of a picture. Greedy unless told to sample."""

from collections.abc import Callable
from typing import Any, Final

import torch
import transformers

from providers.spec import Ask, Result, Unreadable
from router.backend import device, inputs
from router.backend.engine import Loaded, Order, Step

KINDS: Final = {
    "text-generation": transformers.AutoModelForCausalLM,
    "text2text-generation": transformers.AutoModelForSeq2SeqLM,
    "summarization": transformers.AutoModelForSeq2SeqLM,
    "translation": transformers.AutoModelForSeq2SeqLM,
    "image-to-text": transformers.AutoModelForImageTextToText,
}
ANSWERS: Final = {
    "text2text-generation": "generated_text",
    "summarization": "summary_text",
    "translation": "translation_text",
    "image-to-text": "generated_text",
}
# As they are called in a completion, and in `generate`.
_COMPLETION: Final = (
    "max_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "repetition_penalty",
    "seed",
    "stop",
    "n",
)
_BAGS: Final = ("generate_parameters", "generation_parameters", "generate_kwargs")
_GENERATE: Final = (
    "do_sample",
    "early_stopping",
    "epsilon_cutoff",
    "eta_cutoff",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "no_repeat_ngram_size",
    "num_beams",
    "repetition_penalty",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "use_cache",
)
_OTHERS: Final = ("clean_up_tokenization_spaces", "truncation", "src_lang", "tgt_lang", "seed")


def load(order: Order) -> Loaded:
    place = device.device_of(order)
    reader: Any = transformers.AutoProcessor if order.task == "image-to-text" else transformers.AutoTokenizer
    reads = reader.from_pretrained(order.model)
    model = KINDS[order.task].from_pretrained(order.model, dtype=device.dtype_of(order)).to(place).eval()
    if order.task == "text-generation":
        return device.loaded(order, Writer(reads, model))
    return device.loaded(order, inputs.one_by_one(Rewriter(reads, model, order.task)))


def teller(step: Step, most: int) -> list[Callable[..., Any]]:
    """Stopping criteria that stop nothing, unless the caller has left; after each token they are asked."""
    said = 0

    def tell(ids: Any, scores: Any, **more: Any) -> Any:
        nonlocal said
        said += 1
        step(min(1.0, said / most))
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    return [tell]


class Writer:
    """A completion: OpenAI's, which is what text generation is in the middle."""

    def __init__(self, tokenizer: Any, model: Any) -> None:
        self._tokenizer = tokenizer
        self._model = model

    def __call__(self, ask: Ask, step: Step) -> Result:
        asked = inputs.known(ask, _COMPLETION)
        read = self._tokenizer(inputs.text_of(ask.inputs), return_tensors="pt").to(self._model.device)
        begun = read["input_ids"].shape[1]
        room = (getattr(self._model.config, "max_position_embeddings", None) or 2**20) - begun
        most = min(inputs.whole(asked, "max_tokens", 16) or 16, room)
        if most < 1:
            raise Unreadable("inputs", f"`inputs` has {begun} tokens, and the model has room for no more", status=400)
        stops = asked.get("stop") or []
        call: dict[str, Any] = {name: asked[name] for name in _COMPLETION[2:6] if name in asked}
        temperature = asked.get("temperature", 0.0)
        call |= {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        call |= {"stop_strings": stops, "tokenizer": self._tokenizer} if stops else {}
        seed(asked)
        made = self._model.generate(
            **read,
            **(call if temperature else {name: value for name, value in call.items() if name not in _SAMPLING}),
            max_new_tokens=most,
            num_return_sequences=inputs.whole(asked, "n", 1),
            pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
            stopping_criteria=teller(step, most),
        )
        choices = [self._choice(index, ids[begun:], most, stops) for index, ids in enumerate(made)]
        written = sum(tokens for _, tokens in choices)
        usage = {"prompt_tokens": begun, "completion_tokens": written, "total_tokens": begun + written}
        return Result({"choices": [choice for choice, _ in choices], "usage": usage}, usage)

    def _choice(self, index: int, ids: Any, most: int, stops: list[str]) -> tuple[dict[str, Any], int]:
        pad = self._tokenizer.pad_token_id
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        tokens = int((ids != pad).sum()) if pad is not None else len(ids)
        ended = tokens < most or any(text.endswith(each) for each in stops)
        return {"index": index, "text": text, "finish_reason": "stop" if ended else "length"}, tokens


_SAMPLING: Final = ("top_k", "top_p", "typical_p")


def seed(asked: dict[str, Any]) -> None:
    if (given := asked.pop("seed", None)) is not None:
        torch.manual_seed(device.seeded(given).initial_seed())


class Rewriter:
    """A text or a picture in, another text out."""

    def __init__(self, reads: Any, model: Any, task: str) -> None:
        self._reads = reads
        self._model = model
        self._task = task

    def __call__(self, ask: Ask, step: Step) -> Result:
        asked = inputs.known(ask, (*_GENERATE, *_OTHERS, *_BAGS))
        for bag in _BAGS:
            asked |= inputs.known(Ask(ask.task, None, asked.pop(bag, None) or {}), _GENERATE)
        read = self._picture(ask) if self._task == "image-to-text" else self._text(ask, asked)
        seed(asked)
        cleans = asked.pop("clean_up_tokenization_spaces", True)
        forced = self._language(asked)
        call = {name: value for name, value in asked.items() if name in _GENERATE}
        if not {"max_length", "max_new_tokens"} & call.keys():
            call["max_new_tokens"] = 128
        most = call.get("max_new_tokens") or call["max_length"]
        made = self._model.generate(**read, **forced, **call, stopping_criteria=teller(step, most))
        text = self._reads.batch_decode(made, skip_special_tokens=True, clean_up_tokenization_spaces=bool(cleans))[0]
        return Result({ANSWERS[self._task]: text.strip() if self._task == "image-to-text" else text})

    def _text(self, ask: Ask, asked: dict[str, Any]) -> Any:
        if (source := asked.pop("src_lang", None)) is not None:
            self._reads.src_lang = source
        if self._task != "text2text-generation":
            specific = getattr(self._model.config, "task_specific_params", None) or {}
            prefix = (specific.get(self._task) or {}).get("prefix") or getattr(self._model.config, "prefix", None) or ""
        else:
            prefix = ""
        cut = asked.pop("truncation", "longest_first") != "do_not_truncate"
        return self._reads(prefix + inputs.text_of(ask.inputs), truncation=cut, return_tensors="pt").to(
            self._model.device
        )

    def _picture(self, ask: Ask) -> Any:
        read = self._reads(images=inputs.picture_of(ask.inputs), return_tensors="pt")
        return read.to(self._model.device, self._model.dtype)

    def _language(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The language to translate into, by the names that the model's tokenizer has for them."""
        target = asked.pop("tgt_lang", None)
        if target is None:
            return {}
        codes = getattr(self._reads, "lang_code_to_id", None) or self._reads.get_vocab()
        if target not in codes:
            raise Unreadable("parameters.tgt_lang", "`tgt_lang` is no language of this model", status=400)
        return {"forced_bos_token_id": codes[target]}
