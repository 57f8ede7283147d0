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
MOST: Final = 128  # tokens of an answer, where neither the caller nor the model's makers say
_GENERATES_OWN: Final = 20  # max_length, where a model's makers say nothing
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
    tokenizer = transformers.AutoTokenizer.from_pretrained(order.model)
    model = KINDS[order.task].from_pretrained(order.model, dtype=device.dtype_of(order)).to(place).eval()
    if order.task == "text-generation":
        return device.loaded(order, Writer(tokenizer, model))
    sees = transformers.AutoImageProcessor.from_pretrained(order.model) if order.task == "image-to-text" else None
    return device.loaded(order, inputs.one_by_one(Rewriter(tokenizer, model, order.task, sees)))


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
    """A text in, another text out; or a picture in, where it `sees`."""

    def __init__(self, tokenizer: Any, model: Any, task: str, sees: Any) -> None:
        self._tokenizer = tokenizer
        self._sees = sees
        self._model = model
        self._task = task

    def __call__(self, ask: Ask, step: Step) -> Result:
        asked = inputs.known(ask, (*_GENERATE, *_OTHERS, *_BAGS))
        for bag in _BAGS:
            asked |= inputs.known(Ask(ask.task, None, inputs.bag(asked, bag)), _GENERATE)
        read = self._text(ask, asked) if self._sees is None else self._picture(ask)
        seed(asked)
        cleans = asked.pop("clean_up_tokenization_spaces", True)
        forced = self._language(asked)
        call = {name: value for name, value in asked.items() if name in _GENERATE}
        most = self._most(call)
        made = self._model.generate(**read, **forced, **call, stopping_criteria=teller(step, most))[0]
        text = self._tokenizer.decode(made, skip_special_tokens=True, clean_up_tokenization_spaces=bool(cleans))
        return Result({ANSWERS[self._task]: text.strip() if self._sees else text})

    def _most(self, call: dict[str, Any]) -> int:
        """How many tokens it may write: as many as it is told, or its makers say, or MOST, which it is told then."""
        theirs = self._model.generation_config
        if not {"max_length", "max_new_tokens"} & call.keys():
            if theirs.max_new_tokens or (theirs.max_length or 0) > _GENERATES_OWN:
                return int(theirs.max_new_tokens or theirs.max_length)
            call["max_new_tokens"] = MOST
        return inputs.whole(call, "max_new_tokens") or inputs.whole(call, "max_length") or MOST

    def _text(self, ask: Ask, asked: dict[str, Any]) -> Any:
        if (source := asked.pop("src_lang", None)) is not None:
            self._tokenizer.src_lang = source
        cut = asked.pop("truncation", "longest_first") != "do_not_truncate"
        text = self._prefix() + inputs.text_of(ask.inputs)
        return self._tokenizer(text, truncation=cut, return_tensors="pt").to(self._model.device)

    def _prefix(self) -> str:
        """What a model of several tasks has to be told first: T5's "summarize: "."""
        if self._task == "text2text-generation":
            return ""
        specific = getattr(self._model.config, "task_specific_params", None) or {}
        return (specific.get(self._task) or {}).get("prefix") or getattr(self._model.config, "prefix", None) or ""

    def _picture(self, ask: Ask) -> Any:
        read = self._sees(images=inputs.picture_of(ask.inputs), return_tensors="pt")
        return read.to(self._model.device, self._model.dtype)

    def _language(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The language to translate into, by the names that the model's tokenizer has for them."""
        target = asked.pop("tgt_lang", None)
        if target is None:
            return {}
        codes = getattr(self._tokenizer, "lang_code_to_id", None) or self._tokenizer.get_vocab()
        if target not in codes:
            raise Unreadable("parameters.tgt_lang", "`tgt_lang` is no language of this model", status=400)
        return {"forced_bos_token_id": codes[target]}
