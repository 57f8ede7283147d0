"""Sound out of texts, texts out of sound: a tone for every word, and a count for every recording."""

from base64 import b64encode
from math import ceil
from typing import Any

from providers.media import sniff
from router.sandbox import fields as read
from router.sandbox import sounds, words
from router.sandbox.exchange import Ask, Events, Reply
from router.sandbox.flac import BLOCK, flac
from router.sandbox.tasks import asked


def heard(ask: Ask) -> Reply:
    """Chunks only where `return_timestamps` asks for them: one of the whole, or one a word."""
    recording = asked.file(ask)
    said = f"heard {len(recording)} bytes"
    found: dict[str, Any] = {"text": said}
    stamps = asked.parameters(ask).get("return_timestamps")
    if stamps == "word":
        found["chunks"] = _spread(list(words.tokens(said)), len(recording))
    elif read.flag(asked.parameters(ask), "return_timestamps"):
        found["chunks"] = _spread([said], len(recording))
    return asked.answer(found)


def returned(ask: Ask) -> Reply:
    """An improvement that changes nothing: the recording as it came."""
    recording = asked.file(ask)
    kind = sniff(recording) or "application/octet-stream"
    return asked.answer([{"label": "label_0", "content-type": kind, "blob": b64encode(recording).decode()}])


def spoken(ask: Ask) -> Reply:
    """FLAC where it is named among what may come, else WAV; the same samples in both, and in /v1/audio/speech."""
    said = asked.text(ask)
    if len(said) > 4096:
        raise read.invalid("inputs", "expected a string of 1 to 4096 characters.")
    asked.parameters(ask)
    samples = sounds.spoken(said)
    if "audio/flac" in ask.accept:
        frames = Events(1 + ceil(len(samples) / (2 * BLOCK)), lambda: flac(samples, sounds.RATE))
        return Reply(frames, content_type="audio/flac", headers=asked.COMPUTE)
    return asked.media(sounds.wav(samples), "audio/wav")


def _spread(texts: list[str], size: int) -> list[dict[str, Any]]:
    """The texts, one after the other, over as many seconds as the recording has."""
    seconds = ceil(size / sounds.BYTES_A_SECOND)
    return [
        {"text": said, "timestamp": [seconds * at / len(texts), seconds * (at + 1) / len(texts)]}
        for at, said in enumerate(texts)
    ]
