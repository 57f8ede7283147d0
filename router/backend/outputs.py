"""What a pipeline gave, as an answer may have it: files of the type that was asked for, and JSON's own numbers."""

import base64
import io
import wave
from typing import Any, Final

import numpy
import soundfile
from PIL import Image

from providers.spec import Blob

_PICTURES: Final = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}  # the first for who does not say


def picture(image: Image.Image, accept: str) -> Blob:
    """The Hub's default is JPEG."""
    mime = next((each for each in _PICTURES if each in accept.lower()), "image/jpeg")
    out = io.BytesIO()
    (image.convert("RGB") if mime == "image/jpeg" else image).save(out, _PICTURES[mime])
    return Blob(out.getvalue(), mime)


def base64_png(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode("ascii")


def sound(samples: Any, rate: int, accept: str) -> Blob:
    """Samples of -1 to 1, of one channel (n) or several (channels, n)."""
    tall = numpy.atleast_2d(numpy.asarray(samples, dtype=numpy.float32)).T
    pcm = (numpy.clip(tall, -1.0, 1.0) * 32767).astype("<i2")
    out = io.BytesIO()
    if "audio/flac" in accept.lower():
        soundfile.write(out, pcm, rate, format="FLAC")
        return Blob(out.getvalue(), "audio/flac")
    with wave.open(out, "wb") as file:
        file.setnchannels(pcm.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.tobytes())
    return Blob(out.getvalue(), "audio/wav")


def plain(value: Any) -> Any:
    """Tensors, arrays and their numbers as lists and numbers, pictures as base64, at any depth; what is not known of a
    thing is not said of it.
    """
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, Image.Image):
        return base64_png(value)
    return value.tolist() if hasattr(value, "tolist") else value
