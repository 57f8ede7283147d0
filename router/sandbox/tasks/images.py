"""Pictures out of prompts and of pictures: real PNG of the size asked for, whatever was to be accepted."""

from typing import Any

from router.sandbox import fields as read
from router.sandbox.exchange import Ask, Reply, seal
from router.sandbox.pictures import MOST, SIDE, png
from router.sandbox.tasks import asked
from router.sandbox.tasks.sizes import size_of

PNG = "image/png"


def painted(ask: Ask) -> Reply:
    """The picture that /v1/images/generations makes of the same prompt, where no seed asks for another."""
    return _painted(ask, asked.text(ask))


def repainted(ask: Ask) -> Reply:
    return _repainted(ask, asked.file(ask, "image"))


def repainted_or_painted(ask: Ask) -> Reply:
    """The picture may be left out; the prompt then may not."""
    image = asked.file_or_none(ask, "image")
    return _painted(ask, read.text(asked.parameters(ask), "prompt")) if image is None else _repainted(ask, image)


def checked(given: dict[str, Any], default: tuple[int, int]) -> tuple[int, int]:
    """The parameters of diffusion that change nothing here, refused where they are no numbers; and the size."""
    read.whole(given, "num_inference_steps", 1, 10_000)
    read.number(given, "guidance_scale", 0, 1_000)
    target = read.mapping(given, "target_size") or given
    width, height = read.whole(target, "width", 1, MOST), read.whole(target, "height", 1, MOST)
    return width or default[0], height or default[1]


def seed_of(given: dict[str, Any]) -> int:
    return read.whole(given, "seed", 0, 2**64 - 1) or 0


def _painted(ask: Ask, prompt: str) -> Reply:
    given = asked.parameters(ask)
    width, height = checked(given, (SIDE, SIDE))
    return asked.media(png(f"{prompt} {seed_of(given)}", width, height), PNG)


def _repainted(ask: Ask, image: bytes) -> Reply:
    given = asked.parameters(ask)
    prompt = "" if given.get("prompt") is None else read.text(given, "prompt")
    width, height = checked(given, size_of(image))
    return asked.media(png(f"{seal(image, prompt)} {seed_of(given)}", width, height), PNG)
