"""One server on loopback that speaks as every kind of provider does, for the matrix of who asks in whose words.

What stands first in a path is a place: a provider, and what it is asked for there. What places answer for images and
sound is what was recorded of them (tests/providers/hub_replies.py); texts and vectors follow from what is asked.
"""

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Final
from urllib.parse import urlsplit

from providers import spec
from providers.dialects.hf_media import sound
from tests.providers.hub_calls import FLAC, PNG, b64
from tests.providers.hub_replies import CDN, DRAWN, MP4, REPLIES, SCORED, SPOKEN, Replies
from tests.threaded import Threaded

TEXT: Final = (" there", " now")  # as it is streamed
WORDS: Final = "".join(TEXT)
HEARD: Final = "hello"
VECTORS: Final = {"a red cat": [1.0, 0.0], "a red kitten": [0.6, 0.8], "blue cars": [0.0, 1.0]}
LIKE: Final = [0.6, 0.0]  # how like the first the two others are
SAMPLES: Final = [0.0, 0.5, -0.5, 0.25]
_USAGE: Final = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
_PAINTING: Final = (spec.TEXT_TO_IMAGE, spec.IMAGE_TO_IMAGE)

# What is not among the recorded: servers in OpenAI's shape, those of one's own, and those with one task.
_MORE: Final[dict[tuple[str, str], Replies]] = {
    **{("openai", task): DRAWN for task in _PAINTING},
    **{("diffusers", task): Replies(bytes(PNG)) for task in _PAINTING},
    **{(name, spec.SPEECH_RECOGNITION): Replies({"text": HEARD}) for name in ("openai", "together", "transformers")},
    ("openai", spec.TEXT_TO_SPEECH): SPOKEN,
    ("transformers", spec.TEXT_TO_SPEECH): Replies({"audio": [SAMPLES], "sampling_rate": 16_000}),
    ("nebius", spec.TEXT_TO_IMAGE): DRAWN,
    ("hyperbolic", spec.TEXT_TO_IMAGE): Replies({"images": [{"index": 0, "image": b64(PNG)}]}),
    ("black-forest-labs", spec.TEXT_TO_IMAGE): Replies(
        {"id": "1", "polling_url": "https://api.us1.bfl.ai/v1/get_result?id=1"},
        {"https://api.us1.bfl.ai/v1/get_result": {"id": "1", "status": "Ready", "result": {"sample": CDN}}, CDN: PNG},
    ),
}


def recorded(provider: str, task: str) -> Replies:
    return _MORE.get((provider, task)) or REPLIES[provider, task]


def made(provider: str, task: str) -> bytes:
    """The file that comes of it, wherever in its answers the provider has it."""
    replies = recorded(provider, task)
    first = replies.at.get(CDN, replies.first)
    if isinstance(first, bytes):
        return bytes(first)
    if "audio" in first:
        return sound(SAMPLES, 16_000).data
    image = first["images"][0]["image"] if "images" in first else first["data"][0]["b64_json"]
    return base64.b64decode(image)


@dataclass(frozen=True)
class Asked:
    method: str
    path: str  # below the place's own
    head: str


@dataclass
class Families:
    """`places`: provider and task of each, by name. `asked`: what came to each, files of its answers under `files`."""

    places: dict[str, tuple[str, str]] = field(default_factory=dict)
    asked: dict[str, list[Asked]] = field(default_factory=dict)
    base: str = ""

    def answer(self, place: str, asked: Asked, body: bytes) -> bytes | list[bytes]:
        """A whole answer, or the blocks of a stream."""
        provider, task = self.places[place]
        self.asked.setdefault(place, []).append(asked)
        fields = json.loads(body) if body[:1] in (b"{", b"[") else {}
        if task in (spec.CONVERSATIONAL, spec.TEXT_GENERATION):
            return _said(asked.path, fields)
        if task in (spec.FEATURE_EXTRACTION, spec.SENTENCE_SIMILARITY, spec.TEXT_RANKING):
            return json.dumps(_compared(provider, task, asked.path, fields)).encode()
        if task == "text-classification":
            return json.dumps([SCORED] if provider == "hf-inference" else SCORED).encode()
        replies = recorded(provider, task)
        value = replies.first
        if asked.method == "GET":
            value = next(each for url, each in replies.at.items() if urlsplit(url).path == urlsplit(asked.path).path)
        if isinstance(value, bytes):
            return bytes(value)
        return json.dumps(value).replace(CDN, f"{self.base}/files/{place}/made").encode()


def _said(path: str, fields: Any) -> bytes | list[bytes]:
    prompt = fields.get("prompt") or fields.get("inputs")
    if path.endswith("/completions"):
        chat = path.endswith("/chat/completions")
        if not fields.get("stream"):
            message = {"message": {"role": "assistant", "content": WORDS}} if chat else {"text": WORDS}
            choice = {"index": 0, "finish_reason": "stop", "logprobs": None} | message
            return json.dumps({"id": "c", "model": "m", "created": 1, "choices": [choice], "usage": _USAGE}).encode()
        texts = [({"delta": {"content": each}} if chat else {"text": each}) for each in (*TEXT, "")]
        ends = [*(None for _ in TEXT), "stop"]
        choices = [{"index": 0, "finish_reason": end, **text} for text, end in zip(texts, ends, strict=True)]
        kind = {"id": "c", "model": "m", "created": 1, "object": "chat.completion.chunk" if chat else "text_completion"}
        events = [{**kind, "choices": [each]} for each in choices]
        return [*map(_event, events), b"data: [DONE]\n\n"]
    if path.endswith("/generate_stream") or fields.get("stream"):
        tokens: list[dict[str, Any]] = [{"index": at, "token": _token(at, each)} for at, each in enumerate(TEXT, 1)]
        details = {"finish_reason": "length", "generated_tokens": 2, "seed": None, "input_length": 1}
        tokens[0] |= {"generated_text": None, "details": None}
        tokens[1] |= {"generated_text": WORDS, "details": details}
        return [*map(_event, tokens)]
    if path.endswith("/generate"):
        return json.dumps({"generated_text": WORDS}).encode()
    alone = fields.get("parameters", {}).get("return_full_text") is False
    return json.dumps([{"generated_text": WORDS if alone else prompt + WORDS}]).encode()


def _token(number: int, text: str) -> dict[str, Any]:
    return {"id": number, "text": text, "logprob": -0.5, "special": False}


def _event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _compared(provider: str, task: str, path: str, fields: Any) -> Any:
    if task == spec.SENTENCE_SIMILARITY:
        return LIKE
    if task == spec.TEXT_RANKING:
        name = "relevance_score" if path.endswith("/v1/rerank") or provider == "openai" else "score"
        ranked = [{"index": at, name: like} for at, like in enumerate(LIKE)]
        return {"id": "r", "results": ranked} if name == "relevance_score" else ranked
    vectors = [VECTORS[each] for each in fields.get("input") or fields["inputs"]]
    if path.endswith("/embeddings"):
        data = [{"object": "embedding", "index": at, "embedding": each} for at, each in enumerate(vectors)]
        return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 2, "total_tokens": 2}}
    return [[[each, each]] for each in vectors] if provider == "transformers" else vectors  # a vector a token


@contextlib.contextmanager
def families(places: dict[str, tuple[str, str]]) -> Iterator[Families]:
    known = Families(places)

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place, _, path = self.path[1:].partition("/")
            asked = Asked(self.command, "/" + path, str(self.headers))
            body = self.rfile.read(int(self.headers["content-length"] or 0))
            if place == "files":
                known.asked.setdefault(place, []).append(asked)
                provider_and_task = known.places[path.partition("/")[0]]
                return self._answer(made(*provider_and_task))
            return self._answer(known.answer(place, asked, body))

        do_POST = do_PUT = do_GET

        def _answer(self, said: bytes | list[bytes]) -> None:
            whole = said if isinstance(said, bytes) else b"".join(said)
            kinds = {
                PNG[:4]: "image/png",
                b"\xff\xd8\xff\xe0": "image/jpeg",
                FLAC[:4]: "audio/flac",
                MP4[:4]: "video/mp4",
            }
            kind = kinds.get(whole[:4], "application/json" if whole is said else "text/event-stream")
            self.send_response(200)
            self.send_header("content-type", kind)
            if whole is said:
                self.send_header("content-length", str(len(whole)))
            self.end_headers()
            for each in [said] if isinstance(said, bytes) else said:
                self.wfile.write(each)

        def log_message(self, *_: Any) -> None:
            """Nothing on stderr."""

    with Threaded(("127.0.0.1", 0), Answering) as server:
        known.base = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield known
        finally:
            server.shutdown()
            thread.join()
