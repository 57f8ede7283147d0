"""One call of each of the Hub's tasks: what a client sends, what that means, the answer, and what the client gets."""

import base64
from dataclasses import dataclass, field
from typing import Any, Final

from providers.dialects import hf_media
from providers.spec import Blob

PNG: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsMPRTgAAAABJRU5ErkJggg=="
)
WAV: Final = hf_media.sound([0.0, 0.5, -0.5], 8000).data
MP4: Final = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2"
IMAGE: Final = Blob(PNG, "image/png")
AUDIO: Final = Blob(WAV, "audio/wav")
VIDEO: Final = Blob(MP4, "video/mp4")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass(frozen=True)
class Example:
    """`written`: None where it is the value itself."""

    body: dict[str, Any]
    inputs: Any
    value: Any
    parameters: dict[str, Any] = field(default_factory=dict)
    written: Any = None


SCORED: Final = [{"label": "a", "score": 0.75}, {"label": "b", "score": 0.25}]
BOXED: Final = [{"score": 0.9, "label": "cat", "box": {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}}]
ENTITY: Final = {"entity_group": "PER", "score": 0.99, "word": "Elon", "start": 0, "end": 4}
ANSWER: Final = {"answer": "Bob", "score": 0.5, "start": 0, "end": 3}
QUESTION: Final = {"question": "who?", "context": "Bob did"}
CELLS: Final = {"answer": "36542", "coordinates": [[0, 1]], "cells": ["36542"], "aggregator": "AVERAGE"}
TABLE: Final = {"Repository": ["Transformers"], "Stars": ["36542"]}
MASK: Final = {"label": "cat", "score": 0.9, "mask": b64(PNG)}
CANDIDATES: Final = {"candidate_labels": ["a", "b"]}
SOUND: Final = {"label": "label_0", "content-type": "audio/wav", "blob": b64(WAV)}

EXAMPLES: Final[dict[str, Example]] = {
    "text-classification": Example({"inputs": "great"}, "great", SCORED, written=[SCORED]),
    "token-classification": Example(
        {"inputs": "Elon"}, "Elon", [ENTITY], parameters={"aggregation_strategy": "simple"}
    ),
    "fill-mask": Example(
        {"inputs": "Paris is [MASK]."},
        "Paris is [MASK].",
        [{"score": 0.5, "token": 2, "token_str": "big", "sequence": "paris is big."}],
    ),
    "question-answering": Example({"inputs": QUESTION}, QUESTION, [ANSWER], written=ANSWER),
    "table-question-answering": Example(
        {"inputs": {"query": "How many?", "table": TABLE}}, {"query": "How many?", "table": TABLE}, [CELLS], {}, CELLS
    ),
    "zero-shot-classification": Example({"inputs": "hi", "parameters": CANDIDATES}, "hi", SCORED, CANDIDATES),
    "summarization": Example(
        {"inputs": "long"}, "long", {"summary_text": "short"}, written=[{"summary_text": "short"}]
    ),
    "translation": Example(
        {"inputs": "hi", "parameters": {"src_lang": "en", "tgt_lang": "de"}},
        "hi",
        {"translation_text": "hallo"},
        {"src_lang": "en", "tgt_lang": "de"},
        [{"translation_text": "hallo"}],
    ),
    "text2text-generation": Example(
        {"inputs": "hi"}, "hi", {"generated_text": "ho"}, written=[{"generated_text": "ho"}]
    ),
    "feature-extraction": Example(
        {"inputs": ["a", "b"], "normalize": True}, ["a", "b"], [[0.5, 0.25], [1.0, 0.0]], {"normalize": True}
    ),
    "sentence-similarity": Example(
        {"inputs": {"source_sentence": "a", "sentences": ["b", "c"]}},
        {"source_sentence": "a", "sentences": ["b", "c"]},
        [0.5, 0.25],
    ),
    "text-ranking": Example(
        {"inputs": {"query": "q", "texts": ["a", "b"]}},
        {"query": "q", "texts": ["a", "b"]},
        [{"index": 1, "score": 0.9}, {"index": 0, "score": 0.1}],
    ),
    "image-classification": Example({"inputs": b64(PNG), "parameters": {"top_k": 2}}, IMAGE, SCORED, {"top_k": 2}),
    "zero-shot-image-classification": Example(
        {"inputs": b64(PNG), "parameters": CANDIDATES}, IMAGE, SCORED, CANDIDATES
    ),
    "object-detection": Example({"inputs": b64(PNG)}, IMAGE, BOXED),
    "zero-shot-object-detection": Example({"inputs": b64(PNG), "parameters": CANDIDATES}, IMAGE, BOXED, CANDIDATES),
    "image-segmentation": Example(
        {"inputs": b64(PNG), "parameters": {"subtask": "panoptic"}}, IMAGE, [MASK], {"subtask": "panoptic"}
    ),
    "mask-generation": Example({"inputs": b64(PNG)}, IMAGE, {"masks": [b64(PNG)], "scores": [0.5]}),
    "depth-estimation": Example({"inputs": b64(PNG)}, IMAGE, {"depth": b64(PNG)}),
    "video-classification": Example({"inputs": b64(MP4), "parameters": {"top_k": 2}}, VIDEO, SCORED, {"top_k": 2}),
    "image-to-text": Example(
        {"inputs": b64(PNG)}, IMAGE, {"generated_text": "a cat"}, written=[{"generated_text": "a cat"}]
    ),
    "visual-question-answering": Example(
        {"inputs": {"question": "what?", "image": b64(PNG)}},
        {"question": "what?", "image": IMAGE},
        [{"score": 0.5, "answer": "a cat"}],
    ),
    "document-question-answering": Example(
        {"inputs": {"question": "who?", "image": b64(PNG)}}, {"question": "who?", "image": IMAGE}, [ANSWER]
    ),
    "text-to-image": Example({"inputs": "a cat", "parameters": {"seed": 42}}, "a cat", IMAGE, {"seed": 42}),
    "image-to-image": Example(
        {"inputs": b64(PNG), "parameters": {"prompt": "a dog", "target_size": {"width": 8, "height": 8}}},
        IMAGE,
        IMAGE,
        {"prompt": "a dog", "target_size": {"width": 8, "height": 8}},
    ),
    "image-text-to-image": Example({"parameters": {"prompt": "a dog"}}, None, IMAGE, {"prompt": "a dog"}),
    "text-to-video": Example({"inputs": "a cat", "parameters": {"num_frames": 8}}, "a cat", VIDEO, {"num_frames": 8}),
    "image-to-video": Example({"inputs": b64(PNG), "parameters": {"prompt": "run"}}, IMAGE, VIDEO, {"prompt": "run"}),
    "image-text-to-video": Example(
        {"inputs": b64(PNG), "parameters": {"prompt": "run"}}, IMAGE, VIDEO, {"prompt": "run"}
    ),
    "automatic-speech-recognition": Example(
        {"inputs": b64(WAV), "parameters": {"return_timestamps": True}},
        AUDIO,
        {"text": "hello", "chunks": [{"text": "hello", "timestamp": [0.0, 1.25]}]},
        {"return_timestamps": True},
    ),
    "audio-classification": Example({"inputs": b64(WAV)}, AUDIO, SCORED),
    "audio-to-audio": Example({"inputs": b64(WAV)}, AUDIO, [SOUND]),
    "text-to-speech": Example({"inputs": "hi"}, "hi", AUDIO),
    "text-to-audio": Example({"inputs": "birds"}, "birds", AUDIO),
    "tabular-classification": Example({"inputs": {"data": {"a": ["1", "2"]}}}, {"data": {"a": ["1", "2"]}}, [5, 7]),
    "tabular-regression": Example({"inputs": {"data": {"a": ["1", "2"]}}}, {"data": {"a": ["1", "2"]}}, [0.5, 1.5]),
}
