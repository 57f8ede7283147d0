"""What each provider answers, in the shapes that were recorded of it: the first reply, and what its URLs lead to."""

from dataclasses import dataclass, field
from typing import Any, Final

from tests.providers.hub_calls import FLAC, JPEG, PNG, b64


@dataclass(frozen=True)
class Replies:
    """`first`: to the call's own request, bytes or JSON. `at`: to each later GET. `call`: which of the task's calls."""

    first: Any
    at: dict[str, Any] = field(default_factory=dict)
    call: int = 0


MP4: Final = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2"
CDN: Final = "https://files.example/made"
USAGE: Final = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
CHAT: Final = Replies(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ho"}}],
        "usage": USAGE,
    }
)
TEXT: Final = Replies(
    {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "length", "text": " there", "seed": 7}],
        "usage": USAGE,
    }
)
VECTORS: Final = Replies(
    {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -0.25]},
            {"object": "embedding", "index": 1, "embedding": [1.0, 0.0]},
        ],
        "model": "m",
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    },
    call=1,
)
DRAWN: Final = Replies({"created": 1, "data": [{"index": 0, "b64_json": b64(JPEG)}]})
SPOKEN: Final = Replies(FLAC)
SEGMENTS: Final = [{"id": 0, "start": 0.0, "end": 1.25, "text": " hello"}]


def fal(result: Any, made: bytes) -> Replies:
    job = "https://queue.fal.run/vendor/model-x/requests/1"
    ticket = {
        "status": "IN_QUEUE",
        "request_id": "1",
        "response_url": job,
        "status_url": f"{job}/status",
        "cancel_url": f"{job}/cancel",
        "queue_position": 0,
    }
    return Replies(ticket, {f"{job}/status": {"status": "COMPLETED", "request_id": "1"}, job: result, CDN: made})


def replicate(output: Any, at: dict[str, Any] | None = None) -> Replies:
    job = "https://api.replicate.com/v1/predictions/1"
    urls = {"get": job, "cancel": f"{job}/cancel"}
    return Replies({"id": "1", "status": "succeeded", "output": output, "error": None, "urls": urls}, at or {})


def wavespeed(made: bytes) -> Replies:
    job = "https://api.wavespeed.ai/api/v3/predictions/1/result"
    ticket = {"id": "1", "model": "m", "status": "created", "urls": {"get": job}, "outputs": []}
    done = ticket | {"status": "completed", "outputs": [CDN]}
    return Replies(
        {"code": 200, "message": "success", "data": ticket},
        {job: {"code": 200, "message": "success", "data": done}, CDN: made},
    )


def together_video() -> Replies:
    job = {"id": "1", "object": "video", "status": "queued"}
    done = job | {"status": "completed", "outputs": {"cost": 0.1, "video_url": CDN}}
    return Replies(job, {"https://api.together.xyz/v2/videos/1": done, CDN: MP4})


SCORED: Final = [{"label": "a", "score": 0.75}, {"label": "b", "score": 0.25}]
BOX: Final = {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}
CELLS: Final = {"answer": "36542", "coordinates": [[0, 1]], "cells": ["36542"], "aggregator": "AVERAGE"}
FOUND: Final = {"answer": "Bob", "score": 0.5, "start": 0, "end": 3}

HUB: Final[dict[str, Replies]] = {
    "conversational": CHAT,
    "text-generation": Replies([{"generated_text": "hi there"}]),
    "feature-extraction": Replies([[0.5, -0.25], [1.0, 0.0]], call=1),
    "sentence-similarity": Replies([0.66, 0.93]),
    "text-to-image": Replies(JPEG),
    "image-to-image": Replies(JPEG),
    "text-to-speech": Replies(FLAC),
    "image-segmentation": Replies([{"label": "cat", "score": 0.9, "mask": b64(PNG)}]),
    "automatic-speech-recognition": Replies({"text": "hello", "chunks": [{"text": "hello", "timestamp": [0.0, 1.25]}]}),
    "audio-classification": Replies(SCORED),
    "audio-to-audio": Replies([{"label": "label_0", "content-type": "audio/flac", "blob": b64(FLAC)}]),
    "document-question-answering": Replies([FOUND]),
    "fill-mask": Replies([{"score": 0.5, "token": 2, "token_str": "big", "sequence": "paris is big."}]),
    "image-classification": Replies(SCORED),
    "image-to-text": Replies([{"generated_text": "a cat"}]),
    "object-detection": Replies([{"score": 0.9, "label": "cat", "box": BOX}]),
    "question-answering": Replies(FOUND),
    "summarization": Replies([{"summary_text": "short"}]),
    "table-question-answering": Replies(CELLS),
    "tabular-classification": Replies([5, 7]),
    "text-classification": Replies([SCORED]),
    "token-classification": Replies([{"entity_group": "PER", "score": 0.99, "word": "Elon", "start": 0, "end": 4}]),
    "translation": Replies([{"translation_text": "hallo"}]),
    "visual-question-answering": Replies([{"score": 0.5, "answer": "a cat"}]),
    "zero-shot-classification": Replies(SCORED),
    "zero-shot-image-classification": Replies(SCORED),
}

REPLIES: Final[dict[tuple[str, str], Replies]] = {
    **{("hf-inference", task): replies for task, replies in HUB.items()},
    ("deepinfra", "automatic-speech-recognition"): Replies({"text": " hello", "segments": SEGMENTS, "language": "en"}),
    ("deepinfra", "text-to-speech"): SPOKEN,
    ("together", "text-to-speech"): SPOKEN,
    ("together", "text-to-image"): DRAWN,
    ("together", "image-to-image"): DRAWN,
    ("nscale", "text-to-image"): DRAWN,
    **{(name, "feature-extraction"): VECTORS for name in ("deepinfra", "scaleway", "together")},
    **{(name, "text-generation"): TEXT for name in ("deepinfra", "featherless-ai", "novita", "together")},
    ("fal-ai", "automatic-speech-recognition"): Replies({"text": "hello", "inferred_languages": ["en"]}),
    ("fal-ai", "text-to-image"): Replies(
        {"images": [{"url": CDN, "content_type": "image/png"}], "seed": 7}, {CDN: PNG}
    ),
    ("fal-ai", "text-to-speech"): Replies({"audio": {"url": CDN, "content_type": "audio/flac"}}, {CDN: FLAC}),
    ("fal-ai", "text-to-video"): fal({"video": {"url": CDN, "content_type": "video/mp4"}}, MP4),
    ("fal-ai", "image-to-video"): fal({"video": {"url": CDN}}, MP4),
    ("fal-ai", "image-to-image"): fal({"images": [{"url": CDN, "content_type": "image/jpeg"}]}, JPEG),
    ("fal-ai", "image-segmentation"): fal({"image": {"url": f"data:image/png;base64,{b64(PNG)}"}}, PNG),
    ("replicate", "automatic-speech-recognition"): replicate({"transcription": "hello", "language": "en"}),
    ("replicate", "text-to-image"): replicate([CDN], {CDN: PNG}),
    ("replicate", "image-to-image"): replicate(CDN, {CDN: PNG}),
    ("replicate", "text-to-speech"): replicate(CDN, {CDN: FLAC}),
    ("replicate", "text-to-video"): replicate(CDN, {CDN: MP4}),
    ("wavespeed", "text-to-image"): wavespeed(PNG),
    ("wavespeed", "image-to-image"): wavespeed(PNG),
    ("wavespeed", "text-to-video"): wavespeed(MP4),
    ("wavespeed", "image-to-video"): wavespeed(MP4),
    ("together", "text-to-video"): together_video(),
    ("together", "image-to-video"): together_video(),
    ("novita", "text-to-video"): Replies({"video": {"video_url": CDN, "video_type": "mp4"}}, {CDN: MP4}),
    ("zai-org", "text-to-image"): Replies(
        {"id": "1", "model": "m", "request_id": "r", "task_status": "PROCESSING"},
        {
            "https://api.z.ai/api/paas/v4/async-result/1": {"task_status": "SUCCESS", "image_result": [{"url": CDN}]},
            CDN: PNG,
        },
    ),
}


def replies_of(name: str, task: str) -> Replies:
    return CHAT if task == "conversational" else REPLIES[name, task]
