"""One request for every task of the Hub, as huggingface_hub 2.4 sends it (where it has the task), and its files."""

from base64 import b64encode
from typing import Any

from router.sandbox import sounds
from router.sandbox.pictures import png

PICTURE = png("a picture", 80, 60)
RECORDING = sounds.wav(sounds.spoken("one two three"))
FILM = b"\0\0\0\x18ftypisom" + bytes(40)


def encoded(data: bytes) -> str:
    return b64encode(data).decode()


PICTURE_64 = encoded(PICTURE)
COLUMNS = {"alcohol": ["9.4", "9.8", "9.8"], "pH": ["3.51", "3.2", "3.26"]}
STARS = {"Repository": ["Transformers", "Datasets", "Tokenizers"], "Stars": ["36542", "4512", "3934"]}

REQUESTS: dict[str, dict[str, Any] | bytes] = {
    "text-classification": {"inputs": "I like you", "parameters": {}},
    "token-classification": {"inputs": "Sarah Jessica Parker lives in New York", "parameters": {}},
    "fill-mask": {"inputs": "The goal of life is [MASK].", "parameters": {}},
    "question-answering": {
        "inputs": {"question": "What's my name?", "context": "My name is Clara. It rains."},
        "parameters": {},
    },
    "table-question-answering": {
        "inputs": {"query": "How many stars does the transformers repository have?", "table": STARS},
        "parameters": {"model": "a leak of the client's"},
    },
    "zero-shot-classification": {
        "inputs": "a refund, please",
        "parameters": {"candidate_labels": ["legal", "refund", "faq"]},
    },
    "summarization": {"inputs": "The tower is tall. It is in Paris.", "parameters": {}},
    "translation": {"inputs": "hello there", "parameters": {"src_lang": "en_XX", "tgt_lang": "fr_XX"}},
    "text2text-generation": {"inputs": "hello there"},
    "feature-extraction": {"inputs": ["one", "two"], "normalize": True},
    "sentence-similarity": {"inputs": {"source_sentence": "one", "sentences": ["one", "two"]}, "parameters": {}},
    "text-ranking": {"inputs": {"query": "red car", "texts": ["a tree", "a red car"]}},
    "image-classification": PICTURE,
    "zero-shot-image-classification": {"inputs": PICTURE_64, "parameters": {"candidate_labels": ["dog", "cat"]}},
    "object-detection": PICTURE,
    "zero-shot-object-detection": {"inputs": PICTURE_64, "parameters": {"candidate_labels": ["dog", "cat"]}},
    "image-segmentation": PICTURE,
    "mask-generation": PICTURE,
    "depth-estimation": PICTURE,
    "video-classification": FILM,
    "image-to-text": PICTURE,
    "visual-question-answering": {
        "inputs": PICTURE_64,
        "parameters": {},
        "question": "What is it doing?",
        "image": PICTURE_64,
    },
    "document-question-answering": {"inputs": {"question": "What number?", "image": PICTURE_64}, "parameters": {}},
    "text-to-image": {"inputs": "a cat", "parameters": {"width": 96, "height": 64, "guidance_scale": 9}},
    "image-to-image": {"inputs": PICTURE_64, "parameters": {"prompt": "blue"}},
    "image-text-to-image": {"parameters": {"prompt": "a cat"}},
    "text-to-video": {"inputs": "a cat walks", "parameters": {"num_frames": 3}},
    "image-to-video": PICTURE,
    "image-text-to-video": {"inputs": PICTURE_64, "parameters": {"prompt": "it walks"}},
    "automatic-speech-recognition": RECORDING,
    "audio-classification": RECORDING,
    "audio-to-audio": RECORDING,
    "text-to-speech": {"inputs": "hello there", "parameters": {}},
    "text-to-audio": {"inputs": "a bell"},
    "tabular-classification": {"parameters": {}, "table": COLUMNS},
    "tabular-regression": {"inputs": {"data": COLUMNS}},
}
"""JSON, or the file itself."""
