"""What plays of image, audio and video APIs share: bodies from parameters, files as URLs, media out of JSON answers.

Refuses to know any provider: what one of them does otherwise stands in its own file.
"""

import re
from collections.abc import Callable, Generator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from providers import media
from providers.spec import Ask, Blob, Failed, Fetch, Link, Reply, Send, Step, Wait

HUB: Final = "https://huggingface.co"

Poll = Generator[Step, Reply, Any]
"""A part of a play, to be delegated to by `yield from`: it returns the JSON of the answer that ended it."""


def json_body(value: Mapping[str, Any]) -> bytes:
    """A JSON body; files in it go as URLs."""
    return msgspec.json.encode(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, Blob | Link):
        return media.to_url(value)
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def renamed(parameters: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Parameters under the provider's names for them."""
    return {names.get(name, name): value for name, value in parameters.items()}


def input_file(ask: Ask) -> Blob | Link:
    """The one file that the task takes. Raises Failed where there is none."""
    if isinstance(ask.inputs, Blob | Link):
        return ask.inputs
    raise Failed(400, f"{ask.task} takes a file.", "invalid_request")


def blob_of(base64: Any) -> Blob:
    """Media that came as base64 or as a data: URL. Raises ValueError."""
    if not isinstance(base64, str):
        raise ValueError("no media")
    return media.from_data_url(base64) if base64.startswith("data:") else media.from_base64(base64)


def media_at(url: Any, mime: Any = "") -> Fetch:
    """Media that came as a URL, and of what type its provider said it is. Raises ValueError."""
    if not isinstance(url, str) or not url:
        raise ValueError("no URL")
    return Fetch(url, mime if isinstance(mime, str) else "")


def path_of(url: Any) -> str:
    """The path of a URL that a provider answered with, to be asked of the provider's own host whatever host it names:
    a key never follows an answer elsewhere. Raises ValueError.
    """
    path = urlsplit(url).path if isinstance(url, str) else ""
    if not path.startswith("/"):
        raise ValueError("no URL to ask again at")
    return quote(path, safe="/%:@!$&'()*+,;=~")  # a brace would be read as the place of an id


def polled(poll: Send, state: Callable[[Any], str], every: float, undo: Send | None = None, first: float = 0.0) -> Poll:
    """Ask `poll` until `state` of its JSON says "done" (its JSON is returned) or raises Failed; "" says not yet."""
    if first:
        yield Wait(first, undo)
    while True:
        reply = yield poll
        answer = reply.json()
        if state(answer) == "done":
            return answer
        yield Wait(every, undo)


def failed_job(said: Any) -> Failed:
    """A job's bad end in its provider's words. Where they tell of moderation, the prompt is to be changed: nobody else
    is asked, and it says nothing against the deployment.
    """
    message = said if isinstance(said, str) and said else "The job failed."
    if _moderation(message):
        return Failed(400, message, "content_policy_violation")
    return Failed(502, message, "job_failed")


_moderation: Final = re.compile(r"(?i)\b(nsfw|flagged|moderation|moderated|content policy|E005)\b").search


def transcript(text: Any, answer: Mapping[str, Any]) -> dict[str, Any]:
    """A transcription as the Hub has it. Pieces with times come as the Hub's `chunks` or as Whisper's `segments`.
    Raises ValueError where there is no text.
    """
    if not isinstance(text, str):
        raise ValueError("no transcription")
    chunks = [
        {"text": each["text"], "timestamp": each["timestamp"] if "timestamp" in each else [each["start"], each["end"]]}
        for each in answer.get("chunks") or answer.get("segments") or ()
    ]
    return {"text": text, "chunks": chunks} if chunks else {"text": text}


def lora_url(ask: Ask) -> str:
    """Where a LoRA's weights are, for APIs that fetch them from the Hub themselves."""
    return f"{HUB}/{quote(f'{ask.model}/resolve/main/{ask.adapter_weights}')}"
