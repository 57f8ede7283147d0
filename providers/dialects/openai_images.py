"""OpenAI's images ⇄ text-to-image and image-to-image.

One image an answer, as everywhere on the Hub. The time that `created` tells is not known to pure functions, so it is 0.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from providers import media, multipart
from providers.dialects.openai_fields import (
    JSON,
    body_of,
    file_of,
    filename,
    form_parts,
    form_values,
    refuse_all_but,
    refused,
    take_choice,
    take_text,
    values_of,
)
from providers.spec import (
    IMAGE_TO_IMAGE,
    TEXT_TO_IMAGE,
    Ask,
    Blob,
    Body,
    Fetch,
    Link,
    Reply,
    Result,
    Send,
    Task,
    Written,
)


@dataclass(frozen=True, slots=True)
class Want:
    url: bool


class Images:
    """`/v1/images/generations`, and what `/v1/images/edits` has in common with it."""

    task: Task = TEXT_TO_IMAGE

    def read(self, body: Body) -> tuple[Ask, Want]:
        values = values_of(body.fields)
        values.pop("model", None)
        prompt = take_text(values, "prompt")
        size, accept, want = _shape(values)
        return Ask(self.task, prompt, values | size, accept=accept), want

    def write(self, result: Result, want: Want) -> Written:
        """A URL is the provider's own where it gave one; media that only a key can get must have been gathered."""
        value = result.value
        if want.url and isinstance(value, Fetch):
            image = {"url": value.url}
        elif isinstance(value, Blob):
            image = {"url": media.to_data_url(value, "image/png")} if want.url else {"b64_json": media.to_base64(value)}
        else:
            raise TypeError("an image that was not gathered")
        usage = {} if result.usage is None else {"usage": result.usage}
        return Written(JSON.encode({"created": 0, "data": [image], **usage}))

    def gathers(self, want: Want) -> bool:
        return not want.url

    def encode(self, ask: Ask) -> Send:
        parameters = dict(ask.parameters)
        size = {}
        if {"width", "height"} <= parameters.keys():
            size = {"size": f"{parameters.pop('width')}x{parameters.pop('height')}"}
        fields = {"prompt": ask.inputs, **_output(ask), **size, **parameters}
        return body_of({**fields, "model": ask.provider_id})

    def decode(self, reply: Reply, ask: Ask) -> Result:
        answer = reply.json()
        image = answer["data"][0]
        if image.get("b64_json"):
            return Result(media.from_base64(image["b64_json"]), answer.get("usage"))
        return Result(Fetch(image["url"]), answer.get("usage"))

    def media(self, ask: Ask) -> bool:
        return False


class Edits(Images):
    """`/v1/images/edits`: a form, with the image as a file."""

    task: Task = IMAGE_TO_IMAGE

    def read(self, body: Body) -> tuple[Ask, Want]:
        values = values_of(body.fields)
        values.pop("model", None)
        image = _image(values, body.files)
        prompt = take_text(values, "prompt")
        if body.files:
            values = form_values(values)
        size, accept, want = _shape(values)
        parameters = {"prompt": prompt, **values} | ({"target_size": size} if size else {})
        return Ask(self.task, image, parameters, accept=accept), want

    def encode(self, ask: Ask) -> Send:
        image = file_of(ask)
        fields = {"prompt": "", **_output(ask), **ask.parameters}
        match fields.get("target_size"):
            case {"width": int(width), "height": int(height)}:
                del fields["target_size"]
                fields["size"] = f"{width}x{height}"
        image = Blob(image.data, media.mime_of(image))
        parts: list[multipart.Part] = [("image", image), *form_parts({**fields, "model": ask.provider_id})]
        body, mime = multipart.write(parts, filename("image", image, "png"))
        return Send("", body, mime=mime)


_ONLY_OPENAI: Final[Mapping[str, tuple[Any, ...]]] = {
    "n": (1,),
    "quality": ("auto", "standard"),
    "style": ("auto",),
    "background": ("auto", "opaque"),
    "moderation": ("auto",),
    "input_fidelity": ("auto", "low"),
    "output_compression": (100,),
    "partial_images": (0,),
    "stream": (False,),
    "complexity": (),
    "frame_count": (),
    "frame_duration_ms": (),
    "svg": (),
    "safety_identifier": (),
    "user": (),
    "mask": (),
    "markup": (),
}
_FORMATS: Final = ("png", "jpeg", "webp")
_SIZE: Final = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


def _shape(values: dict[str, Any]) -> tuple[dict[str, int], str, Want]:
    """Takes out OpenAI's own fields → the width and height, the media type and the form of the answer."""
    refuse_all_but(values, _ONLY_OPENAI)
    answer = take_choice(values, "response_format", ("b64_json", "url"), "b64_json")
    output = take_choice(values, "output_format", (*_FORMATS, "auto"), "auto")
    accept = "" if output == "auto" else f"image/{output}"
    size = take_text(values, "size", "auto")
    if size == "auto":
        return {}, accept, Want(answer == "url")
    found = _SIZE.fullmatch(size)
    if found is None:
        raise refused("size", 'must be "auto", or width and height in pixels: "1024x1024"')
    return {"width": int(found[1]), "height": int(found[2])}, accept, Want(answer == "url")


def _output(ask: Ask) -> dict[str, str]:
    """PNG goes unsaid: it is what these APIs answer with, and what the Hub's client asks of every one of them. OpenAI's
    GPT models always answer base64, and refuse to be told so (openai-python, image_generate_params.py)."""
    kind = ask.accept.removeprefix("image/")
    output = {"output_format": kind} if kind in ("jpeg", "webp") else {}
    return output if ask.provider_id.startswith(_GPT) else {"response_format": "b64_json", **output}


_GPT: Final = ("gpt-image", "chatgpt-image")


def _image(values: dict[str, Any], files: Mapping[str, Blob]) -> Blob | Link:
    """The form's one file, or in JSON its base64 or URL."""
    for name in files:
        if name not in ("image", "image[]"):
            raise refused(name, "is not supported: this model is not served by OpenAI's API")
    if len(files) > 1:
        raise refused("image[]", "must be one image: this model is not served by OpenAI's API")
    if files:
        return next(iter(files.values()))
    text = take_text(values, "image")
    try:
        return media.file_of(text)
    except ValueError:
        raise refused("image", "must be a file, base64 or a URL") from None
