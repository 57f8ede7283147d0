"""Texts as vectors, how alike they are, and which of them answers a query best.

A model of sentence-transformers says itself how a vector is made of its tokens' (`modules.json`, `1_Pooling`); one that
says nothing gets their mean, normalised, which is what most are trained for. There is always one vector a text: what is
wanted of token-level vectors is rare, and `feature-extraction` would have two shapes.
"""

import json
from pathlib import Path
from typing import Any, Final

import huggingface_hub
import torch
import transformers

from providers.spec import Ask, Result, Unreadable
from router.backend import device, inputs
from router.backend.engine import Loaded, Order, Step

BATCH: Final = 32
_FIRST: Final = ("truncate", "truncation_direction", "prompt_name")
_POOLINGS: Final = ("cls_token", "lasttoken", "max_tokens", "mean_tokens")


def load(order: Order) -> Loaded:
    place = device.device_of(order)
    tokenizer = transformers.AutoTokenizer.from_pretrained(order.model)
    kind = transformers.AutoModelForSequenceClassification if order.task == "text-ranking" else transformers.AutoModel
    model = kind.from_pretrained(order.model, dtype=device.dtype_of(order)).to(place).eval()
    if order.task == "text-ranking":
        return device.loaded(order, Ranker(Reader(tokenizer, model)))
    embedder = Embedder(Reader(tokenizer, model), order.model)
    return device.loaded(order, embedder.compare if order.task == "sentence-similarity" else embedder.embed)


class Reader:
    """Texts → what the model makes of them, batch by batch."""

    def __init__(self, tokenizer: Any, model: Any) -> None:
        self._tokenizer = tokenizer
        self._model = model
        longest = getattr(model.config, "max_position_embeddings", None) or 512
        self.longest = min(tokenizer.model_max_length, longest)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token

    def read(self, texts: list[Any], asked: dict[str, Any], step: Step) -> Any:
        """For each batch of texts (or pairs of them) its attention mask and the model's outputs."""
        self._tokenizer.truncation_side = _side(asked.get("truncation_direction", "right"))
        cut = asked.get("truncate", True)
        for at in range(0, len(texts), BATCH):
            batch = texts[at : at + BATCH]
            read = self._tokenizer(
                batch, padding=True, truncation=bool(cut), max_length=self.longest if cut else None, return_tensors="pt"
            )
            if read["input_ids"].shape[1] > self.longest:
                raise Unreadable("inputs", f"`inputs` must have at most {self.longest} tokens", status=400)
            read = read.to(self._model.device)
            yield read["attention_mask"], self._model(**read)
            step(min(1.0, (at + BATCH) / len(texts)))


def _side(direction: Any) -> str:
    if isinstance(direction, str) and direction.lower() in ("left", "right"):
        return direction.lower()
    raise Unreadable("truncation_direction", "`truncation_direction` must be left or right", status=400)


class Embedder:
    def __init__(self, reader: Reader, model: str) -> None:
        self._reader = reader
        self._pooling = _pooling_of(model)
        modules = _json_of(model, "modules.json")
        kinds = [str(each.get("type", "")).rpartition(".")[2] for each in modules] if modules else ["Normalize"]
        if strange := [each for each in kinds if each not in ("Transformer", "Pooling", "Normalize")]:
            raise ValueError(f"its vectors go through {', '.join(strange)}, which this server has not")
        self._normal = "Normalize" in kinds
        self._prompts = (_json_of(model, "config_sentence_transformers.json") or {}).get("prompts") or {}
        limit = (_json_of(model, "sentence_bert_config.json") or {}).get("max_seq_length")
        reader.longest = min(reader.longest, limit or reader.longest)

    def embed(self, ask: Ask, step: Step) -> Result:
        asked = inputs.known(ask, (*_FIRST, "normalize", "dimensions", "encoding_format"))
        if asked.get("encoding_format", "float") != "float":
            raise Unreadable("encoding_format", "`encoding_format` must be float", status=400)
        return Result(self._vectors(inputs.texts_of(ask.inputs), asked, step).tolist())

    def compare(self, ask: Ask, step: Step) -> Result:
        asked = inputs.known(ask, _FIRST) | {"normalize": True}
        source = inputs.text_of(inputs.item(ask, "source_sentence"), "inputs.source_sentence")
        sentences = inputs.texts_of(inputs.item(ask, "sentences"), "inputs.sentences")
        vectors = self._vectors([source, *sentences], asked, step)
        return Result((vectors[1:] @ vectors[0]).tolist())

    def _vectors(self, texts: list[str], asked: dict[str, Any], step: Step) -> Any:
        prompt = asked.get("prompt_name")
        if prompt is not None and prompt not in self._prompts:
            known = ", ".join(self._prompts) or "none"
            raise Unreadable("prompt_name", f"`prompt_name` must be one that the model has: {known}", status=400)
        texts = [self._prompts.get(prompt, "") + each for each in texts]
        pooled = [self._pooled(mask, out[0]) for mask, out in self._reader.read(texts, asked, step)]
        vectors = torch.cat(pooled).float().cpu()
        vectors = vectors[:, : inputs.whole(asked, "dimensions")]
        normal = asked.get("normalize", self._normal)
        return torch.nn.functional.normalize(vectors, dim=-1) if normal else vectors

    def _pooled(self, mask: Any, tokens: Any) -> Any:
        there = mask.unsqueeze(-1).to(tokens.dtype)
        if self._pooling == "cls_token":
            return tokens[:, 0]
        if self._pooling == "max_tokens":
            return tokens.masked_fill(there == 0, -torch.inf).amax(1)
        if self._pooling == "lasttoken":
            last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
            return tokens[torch.arange(len(tokens)), last]
        return (tokens * there).sum(1) / there.sum(1).clamp(min=1e-9)


class Ranker:
    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __call__(self, ask: Ask, step: Step) -> Result:
        asked = inputs.known(ask, ("raw_scores", "truncate", "truncation_direction"))
        query = inputs.text_of(inputs.item(ask, "query"), "inputs.query")
        pairs = [(query, each) for each in inputs.texts_of(inputs.item(ask, "texts"), "inputs.texts")]
        scores = torch.cat([out.logits[:, -1] for _, out in self._reader.read(pairs, asked, step)]).float()
        if not asked.get("raw_scores"):
            scores = scores.sigmoid()
        ranked = sorted(enumerate(scores.tolist()), key=lambda each: -each[1])
        return Result([{"index": index, "score": score} for index, score in ranked])


def _pooling_of(model: str) -> str:
    said = _json_of(model, "1_Pooling/config.json") or {}
    chosen = [each for each in _POOLINGS if said.get(f"pooling_mode_{each}")]
    if len(chosen) > 1 or (said and not chosen):
        raise ValueError("its vectors are pooled in a way that this server has not")
    return chosen[0] if chosen else "mean_tokens"


def _json_of(model: str, name: str) -> Any:
    """A small file of a model; None where it has none."""
    if Path(model).is_dir():
        file = Path(model) / name
        return json.loads(file.read_text()) if file.is_file() else None
    try:
        return json.loads(Path(huggingface_hub.hf_hub_download(model, name)).read_text())
    except huggingface_hub.errors.EntryNotFoundError:
        return None
