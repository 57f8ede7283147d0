"""What is in a picture: always a sky above and a ground below, and what the caller asks to be found, in the middle."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Final

from router.sandbox import fields as read
from router.sandbox.exchange import Ask, Reply
from router.sandbox.pictures import grey
from router.sandbox.tasks import asked
from router.sandbox.tasks.labels import THINGS, ranked
from router.sandbox.tasks.sizes import size_of

HALVES: Final = ("sky", "ground")
GRID: Final = 8


def objects(ask: Ask) -> Reply:
    return asked.answer(_found(ask, THINGS))


def named_objects(ask: Ask) -> Reply:
    return asked.answer(_found(ask, asked.labels(ask)))


def segments(ask: Ask) -> Reply:
    """Two masks as large as the picture, that between them cover it."""
    given = asked.parameters(ask)
    read.choice(given, "subtask", "semantic", "instance", "panoptic")
    for name in ("mask_threshold", "overlap_mask_area_threshold", "threshold"):
        read.number(given, name, 0, 1)
    image = asked.file(ask)
    scores = {each["label"]: each["score"] for each in ranked(HALVES, image, alone=True)}
    return asked.answer(
        [
            {"label": label, "score": scores[label], "mask": b64encode(mask).decode()}
            for label, mask in zip(HALVES, _masks(image), strict=True)
            if scores[label] >= (given.get("threshold") or 0)
        ]
    )


def masks(ask: Ask) -> Reply:
    """Every segment without a name, in the columns of transformers' pipeline."""
    image = asked.file(ask)
    scores = [each["score"] for each in ranked(HALVES, image, alone=True)]
    return asked.answer({"masks": [b64encode(mask).decode() for mask in _masks(image)], "scores": scores})


def depth(ask: Ask) -> Reply:
    """The lower, the nearer: a grid of numbers, and a picture as large as the one that came."""
    width, height = size_of(asked.file(ask, "image"))
    picture = grey(width, bytes(255 * row // height for row in range(height)))
    predicted = [[row / GRID] * GRID for row in range(GRID)]
    return asked.answer({"predicted_depth": predicted, "depth": b64encode(picture).decode()})


def caption(ask: Ask) -> Reply:
    width, height = size_of(asked.file(ask))
    return asked.answer([{"generated_text": f"a picture of {width} by {height} pixels"}])


def _masks(image: bytes) -> tuple[bytes, bytes]:
    width, height = size_of(image)
    above = height // 2
    below = height - above
    return grey(width, b"\xff" * above + b"\0" * below), grey(width, b"\0" * above + b"\xff" * below)


def _found(ask: Ask, labels: Sequence[str]) -> list[dict[str, Any]]:
    """The two likeliest, each in a box of its own beside the other."""
    given = asked.parameters(ask)
    read.number(given, "threshold", 0, 1)
    image = asked.file(ask, "image")
    width, height = size_of(image)
    top, bottom = height // 4, max(1, height * 3 // 4)
    boxes = ((0, width // 2), (width // 2, width))
    return [
        {**each, "box": {"xmin": left, "ymin": top, "xmax": right, "ymax": bottom}}
        for each, (left, right) in zip(ranked(labels, image, alone=True), boxes, strict=False)
        if each["score"] >= (given.get("threshold") or 0)
    ]
