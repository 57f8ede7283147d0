"""fal: images, videos and sound, each model an app with fields of its own.

What is quick is asked at fal.run and answered there; the rest is a job in the queue of queue.fal.run, which gives a
ticket, then a state, then the result (fal.ai/docs, "Queue"). Each task stands where huggingface_hub asks for it.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from providers import media
from providers.files import Poll, input_file, json_body, lora_url, media_at, path_of, polled, renamed, transcript
from providers.spec import (
    AUDIO_TO_AUDIO,
    IMAGE_SEGMENTATION,
    IMAGE_TO_IMAGE,
    IMAGE_TO_VIDEO,
    OWN,
    SPEECH_RECOGNITION,
    TEXT_TO_AUDIO,
    TEXT_TO_IMAGE,
    TEXT_TO_SPEECH,
    TEXT_TO_VIDEO,
    Adapter,
    Ask,
    Blob,
    Failed,
    Fetch,
    Link,
    Play,
    Provider,
    Result,
    Send,
    Task,
)

QUEUE: Final = "https://queue.fal.run"
EVERY: Final = 0.5  # seconds between two looks at a job, as fal's own clients have it

# Of the types of errors that fal.ai/docs lists ("Model Errors"), those that are not the input's.
_ITS_OWN: Final = frozenset(
    {"internal_server_error", "generation_timeout", "downstream_service_error", "downstream_service_unavailable"}
)


def text_to_image(ask: Ask) -> Play:
    body = {"prompt": ask.inputs, **ask.parameters}
    if "width" in body and "height" in body:
        body["image_size"] = {"width": body.pop("width"), "height": body.pop("height")}
    body |= _loras(ask)
    if ask.adapter_weights and ask.provider_id == "fal-ai/lora":
        body["model_name"] = "stabilityai/stable-diffusion-xl-base-1.0"  # this app has no base model by itself
    answer = yield from _run(body)
    return Result(_file(answer["images"][0]))  # of what it takes for unsafe fal sends a black image, and charges it


def image_to_image(ask: Ask) -> Play:
    image = media.to_url(input_file(ask), "image/jpeg")
    parameters = renamed(ask.parameters, {"target_size": "image_size"})
    # Apps differ in which of the two they read, and ignore the other.
    answer = yield from _queued({"image_url": image, "image_urls": [image], **parameters, **_loras(ask)})
    return Result(_file(answer["images"][0]))


def image_segmentation(ask: Ask) -> Play:
    image = media.to_url(input_file(ask), "image/png")
    answer = yield from _queued({"image_url": image, **ask.parameters, "sync_mode": True})  # the mask inside the answer
    mask = yield _file(answer["image"])
    return Result([{"label": "mask", "mask": media.to_base64(Blob(mask.body))}])


def text_to_video(ask: Ask) -> Play:
    answer = yield from _queued({"prompt": ask.inputs, **ask.parameters, **_loras(ask)})
    return Result(_file(answer["video"]))


def image_to_video(ask: Ask) -> Play:
    image = media.to_url(input_file(ask), "image/jpeg")
    answer = yield from _queued({"image_url": image, **ask.parameters, **_loras(ask)})
    return Result(_file(answer["video"]))


def image_text_to_image(ask: Ask) -> Play:
    if isinstance(ask.inputs, Blob | Link):
        return (yield from image_to_image(ask))
    answer = yield from _queued({**ask.parameters, **_loras(ask)}, _without_image(ask))
    return Result(_file(answer["images"][0]))


def image_text_to_video(ask: Ask) -> Play:
    if isinstance(ask.inputs, Blob | Link):
        return (yield from image_to_video(ask))
    answer = yield from _queued({**ask.parameters, **_loras(ask)}, _without_image(ask))
    return Result(_file(answer["video"]))


def speech_recognition(ask: Ask) -> Play:
    answer = yield from _run({"audio_url": _audio_url(ask), **ask.parameters})
    return Result(transcript(answer.get("text", answer.get("output")), answer))


def text_to_speech(ask: Ask) -> Play:
    answer = yield from _run({"text": ask.inputs, **ask.parameters})
    return Result(_file(answer["audio"]))


def text_to_audio(ask: Ask) -> Play:
    answer = yield from _queued({"prompt": ask.inputs, **ask.parameters})
    return Result(_file(answer.get("audio_file") or answer["audio"]))


def audio_to_audio(ask: Ask) -> Play:
    answer = yield from _queued({"audio_url": _audio_url(ask), **ask.parameters})
    audio = _file(answer["audio"])
    sound = yield audio
    blob = Blob(sound.body, audio.mime or sound.headers.get("content-type", ""))
    label = answer.get("text") or "speech"
    kind = media.mime_of(blob, "audio/wav")
    return Result([{"label": label, "content-type": kind, "blob": media.to_base64(blob)}])


def _run(body: Mapping[str, Any]) -> Poll:
    """An answer that is waited for at fal.run."""
    reply = yield Send("/{id}", json_body(body))
    return _checked(reply.json())


def _queued(body: Mapping[str, Any], path: str = "/{id}") -> Poll:
    """A job: its ticket names the URLs of its state, its result and its end, below the app rather than the model."""
    reply = yield Send(path, json_body(body), origin=QUEUE)
    ticket = _checked(reply.json())
    job = path_of(ticket["response_url"])
    state = {"status": ticket.get("status")}
    if state["status"] != "COMPLETED":
        cancel = path_of(ticket["cancel_url"]) if ticket.get("cancel_url") else f"{job}/cancel"
        status = path_of(ticket["status_url"]) if ticket.get("status_url") else f"{job}/status"
        undo = Send(cancel, method="PUT", origin=QUEUE, safe=True)
        state = yield from polled(_look(status), _state, EVERY, undo, first=EVERY)
    reply = yield _look(job)
    return _checked({"detail": state.get("error"), **reply.json()})


def _without_image(ask: Ask) -> str:
    """The app that takes text alone stands above the one that edits: fal-ai/flux-2 above fal-ai/flux-2/edit, as
    huggingface.js has it.
    """
    app = _edits(ask.provider_id)
    return f"/{app[1]}" if app else "/{id}"


_NAME: Final = "[A-Za-z0-9][A-Za-z0-9._-]*"
_edits: Final = re.compile(f"({_NAME}(?:/{_NAME})+)/{_NAME}").fullmatch


def _look(path: str) -> Send:
    return Send(path, method="GET", origin=QUEUE, safe=True)


def _state(answer: Any) -> str:
    return "done" if answer["status"] == "COMPLETED" else ""


def _checked(answer: Any) -> Any:
    """The answer, if it is none of a job that failed: that too is COMPLETED, and what it says is in `detail`, where
    huggingface_hub looks for an image in it.
    """
    detail = answer.get("detail")
    if not detail:
        return answer
    errors = [each for each in detail if isinstance(each, dict)] if isinstance(detail, list) else []
    types = {each.get("type") for each in errors}
    message = "; ".join(str(each.get("msg")) for each in errors) or str(detail)
    if "content_policy_violation" in types:
        raise Failed(400, message, "content_policy_violation")
    if types and not types & _ITS_OWN:
        raise Failed(422, message, "invalid_request")
    raise Failed(502, message, "job_failed")


def _loras(ask: Ask) -> dict[str, Any]:
    return {"loras": [{"path": lora_url(ask), "scale": 1}]} if ask.adapter_weights else {}


def _audio_url(ask: Ask) -> str:
    """Of all names of sounds fal lets only a few through and reads the bytes by themselves, so each is called MPEG."""
    file = input_file(ask)
    return media.to_url(Blob(file.data, "audio/mpeg") if isinstance(file, Blob) else file)


def _file(value: Any) -> Fetch:
    """fal's File object: a URL, or a data: URL where `sync_mode` was asked for."""
    return media_at(value["url"], value.get("content_type"))


PLAYS: Final[Mapping[Task, Callable[[Ask], Play]]] = {
    TEXT_TO_IMAGE: text_to_image,
    IMAGE_TO_IMAGE: image_to_image,
    IMAGE_SEGMENTATION: image_segmentation,
    SPEECH_RECOGNITION: speech_recognition,
    TEXT_TO_SPEECH: text_to_speech,
    TEXT_TO_AUDIO: text_to_audio,
    AUDIO_TO_AUDIO: audio_to_audio,
    TEXT_TO_VIDEO: text_to_video,
    IMAGE_TO_VIDEO: image_to_video,
    "image-text-to-image": image_text_to_image,
    "image-text-to-video": image_text_to_video,
}

PROVIDER = Provider(
    name="fal-ai",
    base_url="https://fal.run",
    adapters={(task, OWN): Adapter(play=play) for task, play in PLAYS.items()},
    auth=("authorization", "Key "),
    env=("FAL_KEY", "FAL_API_KEY"),
    origins=(QUEUE,),
)
