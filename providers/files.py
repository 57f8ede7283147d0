"""What plays of image, audio and video APIs share: bodies from parameters, files as URLs, media out of JSON answers.

Refuses to know any provider: what one of them does otherwise stands in its own file.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from providers import media
from providers.spec import Ask, Blob, Failed, Fetch, Link, Play, Send, Wait

HUB: Final = "https://huggingface.co"


def json_body(value: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(value)


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


def media_at(url: Any, mime: str = "") -> Fetch:
    """Media that came as a URL. Raises ValueError."""
    if not isinstance(url, str) or not url:
        raise ValueError("no URL")
    return Fetch(url, mime)


def polled(
    poll: Send, state: Callable[[Any], str], every: float, undo: Send | None = None, first: float = 0.0
) -> "PollPlay":
    """Ask `poll` until `state` of its JSON says "done" (its JSON is returned) or raises Failed; "" says not yet."""
    if first:
        yield Wait(first, undo)
    while True:
        reply = yield poll
        answer = reply.json()
        if state(answer) == "done":
            return answer
        yield Wait(every, undo)


PollPlay = Any  # a generator of steps that returns the last answer; typed loosely where it is delegated to


def lora_url(ask: Ask) -> str:
    """Where a LoRA's weights are, for APIs that fetch them from the Hub themselves."""
    return f"{HUB}/{ask.model}/resolve/main/{ask.adapter_weights}"


__all__ = ["HUB", "Play", "blob_of", "input_file", "json_body", "lora_url", "media_at", "polled", "renamed"]
