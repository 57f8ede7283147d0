"""Files that came as JSON where the file itself was wanted: base64, a URL, or the samples of a sound.

The Inference toolkit answers a JSON string of base64 for a picture and an array of numbers for speech; the Hub's output
schemas name `image`, `video` and `audio`; older servers answered as OpenAI (`data`) or by URL (`output`).
"""

import array
import io
import sys
import wave
from typing import Any, Final

from providers import media
from providers.spec import Blob, Fetch, Link

_NAMES: Final = ("image", "video", "audio", "blob", "b64_json", "url", "generated_image", "data", "output", "images")
_DEFAULT_RATE: Final = 16_000  # Hz; what most speech models make, where the answer does not say
_HIGHEST_RATE: Final = 384_000


def of_json(value: Any, mime: str) -> Blob | Fetch:
    """Raises ValueError where there is no file in it. `mime` is what it is if its first bytes do not tell."""
    rate = _DEFAULT_RATE
    while isinstance(value, dict | list):
        if isinstance(value, dict):
            rate = value.get("sampling_rate") or rate
            value = next((value[name] for name in _NAMES if value.get(name) is not None), None)
        elif value and mime.startswith("audio/") and (samples := _flat(value)):
            return sound(samples, rate)
        else:
            value = value[0] if value else None
    if not isinstance(value, str) or not value:
        raise ValueError("no file")
    found = media.file_of(value)
    if isinstance(found, Link):
        return Fetch(found.url, mime)
    return Blob(found.data, found.mime or mime)


def _flat(value: list[Any]) -> list[float]:
    """The samples of one channel, out of the batches around them; none where these are no numbers."""
    while len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    return value if value and all(isinstance(each, int | float) for each in value) else []


def sound(samples: list[float], rate: Any) -> Blob:
    """Samples between -1 and 1 → WAV, 16 bits, one channel. Raises ValueError."""
    if not isinstance(rate, int | float) or not 1 <= rate <= _HIGHEST_RATE:
        raise ValueError("no sampling rate")
    pcm = array.array("h", (round(max(-1.0, min(1.0, sample)) * 32767) for sample in samples))
    if sys.byteorder == "big":
        pcm.byteswap()
    written = io.BytesIO()
    with wave.open(written, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(int(rate))
        out.writeframes(pcm.tobytes())
    return Blob(written.getvalue(), "audio/wav")
