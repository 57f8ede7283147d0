"""Together: text, speech and embeddings in OpenAI's shape; images in fields of its own; videos as jobs to look after.

docs.together.ai/reference: post-images-generations, create-videos, get-videos-id. A job cannot be cancelled there.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from providers import media
from providers.dialects.openai import DIALECT as OPENAI
from providers.files import failed_job, input_file, json_body, media_at, polled, renamed
from providers.openai_shaped import openai_adapters
from providers.response_format import as_flat_json_schema
from providers.spec import (
    CONVERSATIONAL,
    FEATURE_EXTRACTION,
    IMAGE_TO_IMAGE,
    IMAGE_TO_VIDEO,
    OWN,
    SPEECH_RECOGNITION,
    SPEECH_TRANSLATION,
    TEXT_GENERATION,
    TEXT_RANKING,
    TEXT_TO_IMAGE,
    TEXT_TO_SPEECH,
    TEXT_TO_VIDEO,
    Adapter,
    Ask,
    Play,
    Provider,
    Result,
    Send,
    Task,
)

EVERY: Final = 2.0  # seconds between two looks at a job, as the Hub's clients have it


def text_to_image(ask: Ask) -> Play:
    return (yield from _image(ask, {"prompt": ask.inputs}))


def image_to_image(ask: Ask) -> Play:
    image = media.to_url(input_file(ask), "image/jpeg")
    name = ask.provider_id.lower()
    # FLUX.1 Kontext reads one field, every other model the other (docs.together.ai/docs/image-to-image).
    given = {"image_url": image} if "flux.1" in name and "kontext" in name else {"reference_images": [image]}
    return (yield from _image(ask, {"prompt": "", **given}))


def text_to_video(ask: Ask) -> Play:
    return (yield from _video(ask, {"prompt": ask.inputs}))


def image_to_video(ask: Ask) -> Play:
    frame = {"input_image": media.to_url(input_file(ask), "image/png"), "frame": "first"}
    return (yield from _video(ask, {"frame_images": [frame]}))


def _image(ask: Ask, given: Mapping[str, Any]) -> Play:
    body = {**given, "response_format": "base64", **_parameters(ask), "model": ask.provider_id}
    reply = yield Send("/v1/images/generations", json_body(body))
    return OPENAI.tasks[TEXT_TO_IMAGE].decode(reply, ask)


def _video(ask: Ask, given: Mapping[str, Any]) -> Play:
    reply = yield Send("/v2/videos", json_body({**given, "model": ask.provider_id, **_parameters(ask)}))
    job = reply.json()
    if _state(job) != "done":
        poll = Send(f"/v2/videos/{quote(job['id'], safe='')}", method="GET", safe=True)
        job = yield from polled(poll, _state, EVERY, first=EVERY)
    return Result(media_at(job["outputs"]["video_url"], "video/mp4"))


def _state(job: Any) -> str:
    status = job.get("status") or "queued"  # optional in the reference
    if status == "completed":
        return "done"
    if status in ("queued", "in_progress"):
        return ""
    error = job.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    raise failed_job(message or f"The job is {status}.")


def _parameters(ask: Ask) -> dict[str, Any]:
    """Under Together's names. A `target_size` is two fields, of images too, where the Hub's clients let it stand."""
    parameters = renamed(ask.parameters, {"num_inference_steps": "steps"})
    size = parameters.get("target_size")
    if isinstance(size, dict):
        del parameters["target_size"]
        parameters |= {name: size[name] for name in ("width", "height") if name in size}
    return parameters


PLAYS: Final[Mapping[Task, Callable[[Ask], Play]]] = {
    TEXT_TO_IMAGE: text_to_image,
    IMAGE_TO_IMAGE: image_to_image,
    TEXT_TO_VIDEO: text_to_video,
    IMAGE_TO_VIDEO: image_to_video,
}

# Rerank and speech recognition: docs.together.ai/docs/together-and-llamarank, /reference/audio-transcriptions,
# /reference/audio-translations.
_IN_OPENAIS_SHAPE: Final = (
    CONVERSATIONAL,
    TEXT_GENERATION,
    FEATURE_EXTRACTION,
    TEXT_TO_SPEECH,
    SPEECH_RECOGNITION,
    SPEECH_TRANSLATION,
    TEXT_RANKING,
)

PROVIDER = Provider(
    name="together",
    base_url="https://api.together.xyz",
    adapters={
        **openai_adapters("/v1", _IN_OPENAIS_SHAPE, {CONVERSATIONAL: as_flat_json_schema}),
        **{(task, OWN): Adapter(play=play) for task, play in PLAYS.items()},
    },
    env=("TOGETHER_API_KEY",),
    key_prefixes=("tgp_v1_",),
    # No models_path: GET /v1/models answers a bare array, which is not OpenAI's shape.
)
