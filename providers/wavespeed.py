"""WaveSpeedAI: images and videos as tasks that are asked for and then looked after (wavespeed.ai/docs, API v3)."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from providers import media
from providers.files import failed_job, input_file, json_body, media_at, path_of, polled
from providers.spec import (
    IMAGE_TO_IMAGE,
    IMAGE_TO_VIDEO,
    OWN,
    TEXT_TO_IMAGE,
    TEXT_TO_VIDEO,
    Adapter,
    Ask,
    Blob,
    Failed,
    Link,
    Play,
    Provider,
    Result,
    Send,
    Task,
)

CLEAR: Final = (  # one transparent pixel
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAAC0lEQVR42mNgAAIAAAUAAen63NgAAAAASUVORK5CYII="
)
EVERY: Final = 0.5  # seconds between two looks at a task, as the Hub's clients have it


def from_text(ask: Ask) -> Play:
    return (yield from _made({"prompt": ask.inputs, **ask.parameters, **_loras(ask)}))


def from_image(ask: Ask) -> Play:
    image = media.to_url(input_file(ask), "image/jpeg")
    return (yield from _made({"image": image, **ask.parameters, **_loras(ask)}))


def from_image_or_text(ask: Ask) -> Play:
    """huggingface.js's image-text-to-*: these models want an image in any case, an empty one where there is none."""
    image = media.to_url(ask.inputs, "image/jpeg") if isinstance(ask.inputs, Blob | Link) else CLEAR
    return (yield from _made({"image": image, "images": [image], **ask.parameters, **_loras(ask)}))


def _made(body: Mapping[str, Any]) -> Play:
    reply = yield Send("/api/v3/{id}", json_body(body))
    ticket = reply.json()
    task = ticket.get("data") or {}
    if _state(ticket) != "done":
        poll = Send(path_of(task["urls"]["get"]), method="GET", safe=True)
        undo = Send(path_of(f"/api/v3/predictions/{task['id']}"), method="DELETE", safe=True) if "id" in task else None
        answer = yield from polled(poll, _state, EVERY, undo, first=EVERY)
        task = answer["data"]
    return Result(media_at(task["outputs"][0]))


def _state(answer: Any) -> str:
    """Refusals come with 200 too: the code that counts is the one inside."""
    code = answer.get("code", 200)
    if code != 200:
        raise Failed(
            code if isinstance(code, int) and 400 <= code < 600 else 502, str(answer.get("message") or f"code {code}")
        )
    task = answer["data"]
    if task["status"] == "completed":
        return "done"
    if task["status"] in ("created", "processing"):
        return ""
    raise failed_job(task.get("error") or f"The task ended as {task['status']}.")


def _loras(ask: Ask) -> dict[str, Any]:
    """As huggingface.js does it; huggingface_hub leaves it out and gets the base model's image."""
    return {"loras": [{"path": ask.model, "scale": 1}]} if ask.adapter == "lora" else {}


PLAYS: Final[Mapping[Task, Callable[[Ask], Play]]] = {
    TEXT_TO_IMAGE: from_text,
    IMAGE_TO_IMAGE: from_image,
    TEXT_TO_VIDEO: from_text,
    IMAGE_TO_VIDEO: from_image,
    "image-text-to-image": from_image_or_text,
    "image-text-to-video": from_image_or_text,
}

PROVIDER = Provider(
    name="wavespeed",
    base_url="https://api.wavespeed.ai",
    adapters={(task, OWN): Adapter(play=play) for task, play in PLAYS.items()},
    env=("WAVESPEED_API_KEY",),
)
