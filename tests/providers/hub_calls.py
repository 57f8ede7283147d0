"""Calls of the Hub's tasks as users of huggingface_hub's InferenceClient make them: what its helpers are handed."""

import base64
from dataclasses import dataclass, field
from typing import Any, Final

from huggingface_hub.inference._common import MimeBytes

PNG: Final = MimeBytes(b"\x89PNG\r\n\x1a\n0000", "image/png")
JPEG: Final = MimeBytes(b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg")
FLAC: Final = MimeBytes(b"fLaC0000", "audio/flac")
MP3: Final = MimeBytes(b"ID300000", "audio/mpeg")
UNTOLD: Final = MimeBytes(b"\x00\x01\x02\x03 of no kind that anybody knows")
URL: Final = "https://pictures.example/cat.png"


@dataclass(frozen=True)
class HubCall:
    """`extra`: what the client puts at the root. `weights`: the model is a LoRA, and this is its file on the Hub."""

    inputs: Any
    parameters: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    provider_id: str = "vendor/model-x"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


MESSAGES: Final = [{"role": "user", "content": "hi"}]
SCHEMA: Final = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOLS: Final = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]
TABLE: Final = {"Repository": ["Transformers"], "Stars": ["36542"]}
QUESTION: Final = {"question": "who?", "context": "Bob did"}
LABELS: Final = {"candidate_labels": ["a", "b"], "hypothesis_template": "This is {}.", "multi_label": None}
SIZED: Final = {"width": 512, "height": 768, "num_inference_steps": 5, "guidance_scale": 3.5, "seed": 7}
MADE_OVER: Final = {"prompt": "a dog", "target_size": {"width": 512, "height": 768}, "num_inference_steps": 5}
FILMED: Final = {"num_frames": 16, "guidance_scale": 3.0, "seed": 7, "num_inference_steps": 5}
LORA: Final = "pytorch_lora_weights.safetensors"

CALLS: Final[dict[str, list[HubCall]]] = {
    "conversational": [
        HubCall(MESSAGES, {"max_tokens": 5, "stream": True, "top_p": None}),
        HubCall(MESSAGES, {"tools": TOOLS, "tool_choice": "auto", "stop": ["a"], "temperature": 0.5, "seed": 7}),
        HubCall(MESSAGES, {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}}),
    ],
    "text-generation": [
        HubCall("hi", {"max_new_tokens": 5, "temperature": 0.7, "stop": ["\n"], "top_p": 0.9}),
        HubCall("hi", {"max_new_tokens": 20, "do_sample": True, "temperature": 1.5, "seed": 7, "top_k": None}),
    ],
    "feature-extraction": [
        HubCall("hi"),
        HubCall(["hi", "ho"], {"normalize": True, "truncate": None, "dimensions": 64}),
    ],
    "sentence-similarity": [HubCall({"source_sentence": "a", "sentences": ["b", "c"]})],
    "text-to-image": [
        HubCall("a cat"),
        HubCall("a cat", {**SIZED, "negative_prompt": "dog", "scheduler": None}),
        HubCall("a cat", {"width": 512}),
        HubCall("a cat", SIZED, weights=LORA),
        HubCall("a cat", weights=LORA, provider_id="fal-ai/lora"),
        HubCall("a cat", provider_id="vendor/model-x:5c7d5dc6dd8bf75c1acaa8565735e798"),
    ],
    "image-to-image": [
        HubCall(PNG, {"prompt": None}),
        HubCall(JPEG, MADE_OVER),
        HubCall(UNTOLD, {"prompt": "a dog"}),
        HubCall(URL, {"prompt": "a dog"}),
        HubCall(JPEG, {"prompt": "a dog"}, provider_id="black-forest-labs/FLUX.1-kontext-pro"),
        HubCall(JPEG, {"prompt": "a dog"}, weights=LORA),
        HubCall(JPEG, provider_id="vendor/model-x:5c7d5dc6dd8bf75c1acaa8565735e798"),
    ],
    "text-to-video": [HubCall("a cat"), HubCall("a cat", FILMED), HubCall("a cat", weights=LORA)],
    "image-to-video": [
        HubCall(JPEG),
        HubCall(JPEG, {**FILMED, "prompt": "run", "target_size": {"width": 512, "height": 768}}),
        HubCall(URL, {"prompt": "run"}),
        HubCall(JPEG, weights=LORA),
    ],
    "image-segmentation": [HubCall(JPEG), HubCall(UNTOLD), HubCall(PNG, {"threshold": 0.5, "subtask": None})],
    "text-to-speech": [HubCall("hi"), HubCall("hi", {"voice": "af_alloy", "temperature": 0.5, "top_k": None})],
    "automatic-speech-recognition": [
        HubCall(FLAC),
        HubCall(MP3, {"language": "en", "temperature": 0.2, "generation_parameters": {"num_beams": 2}}),
        HubCall(UNTOLD),
        HubCall(FLAC, {"return_timestamps": True}),
    ],
    "audio-classification": [HubCall(FLAC), HubCall(FLAC, {"top_k": 2, "function_to_apply": None})],
    "audio-to-audio": [HubCall(FLAC)],
    "document-question-answering": [
        HubCall({"question": "who?", "image": b64(PNG)}),
        HubCall({"question": "who?", "image": b64(PNG)}, {"top_k": 2, "lang": None}),
    ],
    "fill-mask": [HubCall("Paris is [MASK]."), HubCall("Paris is [MASK].", {"targets": ["big"], "top_k": 2})],
    "image-classification": [HubCall(PNG), HubCall(PNG, {"top_k": 2})],
    "image-to-text": [HubCall(PNG)],
    "object-detection": [HubCall(PNG), HubCall(PNG, {"threshold": 0.5})],
    "question-answering": [HubCall(QUESTION), HubCall(QUESTION, {"top_k": 2, "max_answer_len": 5})],
    "summarization": [HubCall("long"), HubCall("long", {"truncation": "only_first", "generate_parameters": {"a": 1}})],
    "table-question-answering": [
        HubCall({"query": "How many?", "table": TABLE}, {"model": None, "padding": "longest"})
    ],
    "tabular-classification": [HubCall(None, extra={"table": TABLE})],
    "text-classification": [HubCall("great"), HubCall("great", {"top_k": 2, "function_to_apply": "softmax"})],
    "token-classification": [
        HubCall("Elon", {"aggregation_strategy": "simple"}),
        HubCall("Elon", {"aggregation_strategy": "none", "stride": 2}),
    ],
    "translation": [HubCall("hi"), HubCall("hi", {"src_lang": "en", "tgt_lang": "de"})],
    "visual-question-answering": [
        HubCall(PNG, {"top_k": None}, {"question": "what?", "image": b64(PNG)}),
        HubCall(PNG, {"top_k": 2}, {"question": "what?", "image": b64(PNG)}),
    ],
    "zero-shot-classification": [HubCall("hi", LABELS)],
    "zero-shot-image-classification": [HubCall(PNG, {"candidate_labels": ["a", "b"], "hypothesis_template": None})],
}
