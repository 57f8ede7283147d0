"""Replicate: predictions of models with fields of their own, held open for a minute, then looked after by polling.

replicate.com/docs/reference/http#predictions.create. Files go in and come out as URLs.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from providers import media
from providers.files import HUB, Poll, failed_job, input_file, json_body, media_at, path_of, polled, transcript
from providers.spec import (
    IMAGE_TO_IMAGE,
    OWN,
    SPEECH_RECOGNITION,
    TEXT_TO_IMAGE,
    TEXT_TO_SPEECH,
    TEXT_TO_VIDEO,
    Adapter,
    Ask,
    Fetch,
    Play,
    Provider,
    Result,
    Send,
    Task,
)

EVERY: Final = 0.5  # seconds between two looks at a prediction, as Replicate's own clients have it
_NOTHING: Final[tuple[Any, ...]] = (None, "", [])


def text_to_image(ask: Ask) -> Play:
    output = yield from _predicted(ask, {"prompt": ask.inputs, **ask.parameters, **_lora(ask)})
    return Result(_file(output))


def image_to_image(ask: Ask) -> Play:
    image = media.to_url(input_file(ask), "image/jpeg")
    # Models differ in which of these they read; what a model does not know it ignores. huggingface.js sends a LoRA
    # here too, huggingface_hub leaves it out and gets the base model's image.
    names = {"image": image, "images": [image], "input_image": image, "input_images": [image]}
    output = yield from _predicted(ask, {**names, **ask.parameters, **_lora(ask)})
    return Result(_file(output))


def text_to_video(ask: Ask) -> Play:
    output = yield from _predicted(ask, {"prompt": ask.inputs, **ask.parameters})
    return Result(_file(output))


def text_to_speech(ask: Ask) -> Play:
    output = yield from _predicted(ask, {"text": ask.inputs, **ask.parameters})
    return Result(_file(output))


def speech_recognition(ask: Ask) -> Play:
    audio = media.to_url(input_file(ask), "audio/wav")
    output = yield from _predicted(ask, {"audio": audio, **ask.parameters}, whole=True)
    if isinstance(output, list) and output and isinstance(output[0], dict):
        output = output[0]
    if isinstance(output, dict) and isinstance(output.get("txt_file"), str):
        written = yield media_at(output["txt_file"])
        return Result(transcript(written.body.decode(), output))
    return Result(_spoken(output))


def _predicted(ask: Ask, given: Mapping[str, Any], whole: bool = False) -> Poll:
    """The output of a prediction. `whole`: text, which may come in pieces, and is awaited to its end; a file is there
    as soon as it is named, which may be before the prediction says so.
    """
    body: dict[str, Any] = {"input": given}
    path = "/v1/models/{id}/predictions"
    if ":" in ask.provider_id:  # a version of a model, by its hash
        body["version"] = ask.provider_id.split(":", 1)[1]
        path = "/v1/predictions"
    reply = yield Send(path, json_body(body), headers={"prefer": "wait"})
    prediction = reply.json()

    def state(answer: Any) -> str:
        if answer.get("status") in ("failed", "canceled", "aborted"):
            raise failed_job(answer.get("error") or f"The prediction ended as {answer['status']}.")
        there = answer.get("output") not in _NOTHING and not whole
        return "done" if there or answer.get("status") in ("succeeded", "successful") else ""

    if state(prediction) != "done":  # huggingface_hub gives up here: a cold model takes longer than the minute
        urls = prediction["urls"]
        undo = Send(path_of(urls["cancel"]), safe=True) if urls.get("cancel") else None
        poll = Send(path_of(urls["get"]), method="GET", safe=True)
        prediction = yield from polled(poll, state, EVERY, undo, first=EVERY)
    return prediction.get("output")


def _lora(ask: Ask) -> dict[str, Any]:
    return {"lora_weights": f"{HUB}/{ask.model}"} if ask.adapter_weights else {}


def _file(output: Any) -> Fetch:
    """The first file of an output: a URL, several, or an object that has one. Raises ValueError where there is none."""
    if isinstance(output, dict):
        output = [each for each in output.values() if isinstance(each, str) and "://" in each]
    if isinstance(output, list):
        output = next(iter(output), None)
    return media_at(output)


def _spoken(output: Any) -> dict[str, Any]:
    """A transcription in any of the shapes that models of speech have."""
    if isinstance(output, list):
        output = "".join(output)  # pieces of one text, as they were spoken
    if isinstance(output, dict):
        texts = [output.get(name) for name in ("translation", "transcription", "text")]
        return transcript(next((each for each in texts if isinstance(each, str)), None), output)
    return transcript(output, {})


PLAYS: Final[Mapping[Task, Callable[[Ask], Play]]] = {
    TEXT_TO_IMAGE: text_to_image,
    IMAGE_TO_IMAGE: image_to_image,
    SPEECH_RECOGNITION: speech_recognition,
    TEXT_TO_SPEECH: text_to_speech,
    TEXT_TO_VIDEO: text_to_video,
}

PROVIDER = Provider(
    name="replicate",
    base_url="https://api.replicate.com",
    adapters={(task, OWN): Adapter(play=play) for task, play in PLAYS.items()},
    env=("REPLICATE_API_TOKEN",),
    key_prefixes=("r8_",),
)
