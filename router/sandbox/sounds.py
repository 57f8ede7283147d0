"""/audio/speech, /audio/transcriptions, /audio/translations: a tone for every word, and a count for every recording."""

import struct
from collections.abc import Iterator
from math import ceil
from typing import Any, Final

from router.sandbox import fields as read
from router.sandbox import words
from router.sandbox.exchange import EVENTS, Ask, Events, File, Reply, Wrong, json_reply, sse

RATE: Final = 24_000  # what OpenAI's `pcm` means
TONE: Final = RATE // 20  # samples a word
PIECE: Final = 16 * 1024
BYTES_A_SECOND: Final = 16_000
FORMATS: Final = ("mp3", "opus", "aac", "flac", "wav", "pcm")


def speech(ask: Ask) -> Reply:
    """WAV whatever was asked for, said so by its type; `pcm` is the same samples without the head."""
    said = read.text(ask.fields, "input")
    read.text(ask.fields, "voice")
    if not said or len(said) > 4096:
        raise read.invalid("input", "expected a string of 1 to 4096 characters.")
    if read.choice(ask.fields, "stream_format", "audio", "sse") == "sse":
        raise read.invalid("stream_format", "speech comes as audio only.")
    bare = read.choice(ask.fields, "response_format", *FORMATS) == "pcm"
    samples = spoken(said)
    sound = samples if bare else wav(samples)

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(sound), PIECE):
            yield sound[at : at + PIECE]

    return Reply(Events(ceil(len(sound) / PIECE), pieces), content_type="audio/pcm" if bare else "audio/wav")


def transcriptions(ask: Ask) -> Reply:
    return _heard(ask, "transcribe")


def translations(ask: Ask) -> Reply:
    return _heard(ask, "translate")


def _heard(ask: Ask, task: str) -> Reply:
    file = next((file for file in ask.files if file.field == "file"), None)
    if file is None:
        raise read.missing("file")
    if not file.size:
        raise Wrong("Audio file might be corrupted or unsupported", "file", "invalid_value")
    wanted = read.choice(ask.fields, "response_format", "json", "text", "verbose_json", "srt", "vtt")
    text = f"heard {file.size} bytes of {file.filename}"
    seconds = ceil(file.size / BYTES_A_SECOND)
    if read.flag(ask.fields, "stream"):
        return _streamed(text, seconds)
    if wanted == "json":
        return json_reply({"text": text, "usage": {"type": "duration", "seconds": seconds}})
    if wanted == "verbose_json":
        return json_reply(_verbose(ask, task, text, file, seconds))
    start, end = _stamp(0), _stamp(seconds)
    body = {
        "text": f"{text}\n",
        "srt": f"1\n{start.replace('.', ',')} --> {end.replace('.', ',')}\n{text}\n\n",
        "vtt": f"WEBVTT\n\n{start} --> {end}\n{text}\n\n",
    }[wanted]
    return Reply(body.encode(), content_type=f"text/{'vtt' if wanted == 'vtt' else 'plain'}; charset=utf-8")


def _verbose(ask: Ask, task: str, text: str, file: File, seconds: int) -> dict[str, Any]:
    segment = {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": float(seconds),
        "text": text,
        "tokens": [words.token_id(token) for token in words.tokens(text)],
        "temperature": 0.0,
        "avg_logprob": -0.25,
        "compression_ratio": 1.0,
        "no_speech_prob": 0.0,
    }
    return {
        "task": task,
        "language": ask.fields.get("language", "english") if task == "transcribe" else "english",
        "duration": float(seconds),
        "text": text,
        "segments": [segment],
        "usage": {"type": "duration", "seconds": seconds},
    }


def _streamed(text: str, seconds: int) -> Reply:
    tokens = tuple(words.tokens(text))

    def events() -> Iterator[bytes]:
        for token in tokens:
            yield sse({"type": "transcript.text.delta", "delta": token})
        yield sse(
            {
                "type": "transcript.text.done",
                "text": text,
                "usage": {
                    "type": "tokens",
                    "input_tokens": seconds,
                    "output_tokens": len(tokens),
                    "total_tokens": seconds + len(tokens),
                },
            }
        )

    return Reply(Events(len(tokens) + 1, events), content_type=EVENTS)


def _stamp(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.000"


def _tone(token: str) -> bytes:
    """A triangle wave of 150 to 950 Hz."""
    half = RATE // (2 * (150 + words.token_id(token) % 800))
    period = [16_000 * at // half - 8_000 for at in (*range(half), *range(half, 0, -1))]
    return struct.pack(f"<{2 * half}h", *period) * (TONE // (2 * half))


def spoken(text: str) -> bytes:
    """16-bit little-endian samples, one channel."""
    return b"".join(map(_tone, words.tokens(text)))


def wav(samples: bytes) -> bytes:
    size = len(samples)
    kind = struct.pack("<HHIIHH", 1, 1, RATE, RATE * 2, 2, 16)
    head = b"WAVEfmt " + struct.pack("<I", 16) + kind + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", 36 + size) + head + samples
