"""What a request gave, as a pipeline may have it. A pipeline takes strings for files to open or addresses to fetch, so
what must be a file is one here, or is refused; and a parameter that is not the pipeline's is refused by its name.
"""

import io
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from PIL import Image, UnidentifiedImageError

from providers.spec import Ask, Blob, Link, Result, Unreadable
from router.backend.engine import Run, Step


def one_by_one(run: Run) -> Run:
    """Where `inputs` is a list: an answer for each, in a list."""

    def runs(ask: Ask, step: Step) -> Result:
        if not isinstance(ask.inputs, list):
            return run(ask, step)
        found = []
        for place, each in enumerate(ask.inputs, 1):
            found.append(run(replace(ask, inputs=each), lambda share: None).value)
            step(place / len(ask.inputs))
        return Result(found)

    return runs


def text_of(value: Any, name: str = "inputs") -> str:
    if isinstance(value, str):
        return value
    raise Unreadable(name, f"`{name}` must be a string", status=400)


def texts_of(value: Any, name: str = "inputs") -> list[str]:
    """One text or several, as a list."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return value
    raise Unreadable(name, f"`{name}` must be a string, or a list of strings that is not empty", status=400)


def item(ask: Ask, name: str) -> Any:
    """One of several inputs, by its name."""
    if isinstance(ask.inputs, dict) and ask.inputs.get(name) is not None:
        return ask.inputs[name]
    raise Unreadable(f"inputs.{name}", f"`inputs.{name}` is missing", status=400)


def file_of(value: Any, name: str = "inputs") -> Blob:
    if isinstance(value, Blob):
        return value
    if isinstance(value, Link):
        raise Unreadable(name, f"`{name}` is an address, and this server fetches none: send the file", status=400)
    raise Unreadable(name, f"`{name}` must be a file: its bytes, or base64 of them", status=400)


def picture_of(value: Any, name: str = "inputs") -> Image.Image:
    """Raises Unreadable for what is no picture, and for pictures so large that they are an attack (PIL's bound)."""
    try:
        found = Image.open(io.BytesIO(file_of(value, name).data))
        found.load()
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError):
        raise Unreadable(name, f"`{name}` is not a picture that can be read", status=400) from None
    return found.convert("RGB")


def known(ask: Ask, names: Collection[str]) -> dict[str, Any]:
    """The parameters, all of which are among `names`."""
    for name in ask.parameters:
        if name not in names:
            raise Unreadable(f"parameters.{name}", f"`{name}` is not a parameter of this model", status=400)
    return dict(ask.parameters)


def bag(parameters: dict[str, Any], name: str) -> dict[str, Any]:
    """Parameters within a parameter, which is taken out."""
    value = parameters.pop(name, None)
    if value is None or isinstance(value, dict):
        return value or {}
    raise Unreadable(f"parameters.{name}", f"`{name}` must be an object", status=400)


def whole(parameters: dict[str, Any], name: str, otherwise: int | None = None) -> int | None:
    """A count among the parameters."""
    value = parameters.get(name, otherwise)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise Unreadable(f"parameters.{name}", f"`{name}` must be an integer above 0", status=400)
