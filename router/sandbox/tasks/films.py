"""Films out of prompts and pictures: an MP4 whose frames are pictures drawn from the prompt."""

from typing import Final

from router.sandbox import fields as read
from router.sandbox.exchange import Ask, Reply, seal
from router.sandbox.mp4 import mp4
from router.sandbox.pictures import SIDE, png
from router.sandbox.tasks import asked
from router.sandbox.tasks.images import checked, seed_of
from router.sandbox.tasks.sizes import size_of

FRAMES: Final = 8
MOST: Final = 512  # pixels of a side: there is a picture for every frame
MP4: Final = "video/mp4"


def shot(ask: Ask) -> Reply:
    return _film(ask, asked.text(ask), (SIDE, SIDE))


def animated(ask: Ask) -> Reply:
    return _of_picture(ask, asked.file(ask, "image"))


def animated_or_shot(ask: Ask) -> Reply:
    """The picture may be left out; the prompt then may not."""
    image = asked.file_or_none(ask, "image")
    if image is None:
        return _film(ask, read.text(asked.parameters(ask), "prompt"), (SIDE, SIDE))
    return _of_picture(ask, image)


def _of_picture(ask: Ask, image: bytes) -> Reply:
    given = asked.parameters(ask)
    prompt = "" if given.get("prompt") is None else read.text(given, "prompt")
    return _film(ask, seal(image, prompt), size_of(image))


def _film(ask: Ask, seed: str, size: tuple[int, int]) -> Reply:
    given = asked.parameters(ask)
    width, height = (min(side, MOST) for side in checked(given, size))
    frames = read.whole(given, "num_frames", 1, 64) or FRAMES
    drawn = [png(f"{seed} {seed_of(given)} {at}", width, height) for at in range(frames)]
    return asked.media(mp4(drawn, width, height), MP4)
