"""Images, seconds and characters: as asked for, and as delivered."""

from typing import Any

import pytest

from providers.spec import Ask, Blob
from router import units
from router.durations import seconds_of
from router.sandbox.flac import flac
from router.usage import Usage
from tests.router.stories import call_of, candidate

RATE = 16_000


def wav(seconds: float) -> bytes:
    size = int(seconds * RATE) * 2
    fmt = b"fmt " + (16).to_bytes(4, "little") + b"\1\0\1\0" + RATE.to_bytes(4, "little")
    fmt += (RATE * 2).to_bytes(4, "little") + b"\2\0\x10\0"
    return (
        b"RIFF" + (36 + size).to_bytes(4, "little") + b"WAVE" + fmt + b"data" + size.to_bytes(4, "little") + bytes(size)
    )


def ogg(kind: bytes, position: int) -> bytes:
    page = b"OggS\0\2" + bytes(8) + bytes(13) + kind + bytes(60)
    return page + b"OggS\0\4" + position.to_bytes(8, "little") + bytes(30)


OPUS = b"OpusHead\1\1" + (312).to_bytes(2, "little") + (48000).to_bytes(4, "little")
VORBIS = b"\1vorbis" + bytes(4) + b"\1" + (44100).to_bytes(4, "little")
MP4 = (
    b"\0\0\0\x18ftypmp42"
    + bytes(12)
    + b"\0\0\0\x6cmvhd"
    + bytes(12)
    + (600).to_bytes(4)
    + (2700).to_bytes(4)
    + bytes(80)
)
FRAME = b"\xff\xfb\x90\xc4"  # version 1, layer III, 128 kbit/s, 44,100 samples a second


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (wav(2.5), 2.5),
        (wav(2.5).replace(b"data" + (80000).to_bytes(4, "little"), b"data\xff\xff\xff\xff"), 2.5),  # streamed
        (ogg(OPUS, 312 + 96_000), 2.0),
        (ogg(VORBIS, 88_200), 2.0),
        (MP4, 4.5),
        (b"".join(flac(bytes(64_000), RATE)), 2.0),
        (FRAME + bytes(32_000 - 4), 2.0),
        (b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + FRAME + bytes(32_000 - 4), 2.0),
        (FRAME + bytes(32) + b"Xing\0\0\0\1" + (100).to_bytes(4) + bytes(99), 100 * 1152 / 44100),
        (b"", None),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"OggS", None),
        (b"\0\0\0\x18ftypmp42", None),
        (b"\xff\xfb", None),
        (b"hello, this is no sound", None),
        (b"fLaC" + bytes(40), None),
    ],
)
def test_a_header_says_how_long_a_sound_is(data: bytes, seconds: float | None) -> None:
    found = seconds_of(data)
    assert found == (None if seconds is None else pytest.approx(seconds, rel=1e-3))


@pytest.mark.parametrize(
    ("task", "dialect", "body", "found"),
    [
        ("text-to-image", "openai", {"prompt": "x", "n": 3}, Usage(images=3)),
        ("text-to-image", "openai", {"prompt": "x", "n": "many"}, Usage(images=1)),
        ("text-to-image", "huggingface", {"inputs": "x", "parameters": {"num_images_per_prompt": 2}}, Usage(images=2)),
        ("text-to-video", "huggingface", {"inputs": "x", "parameters": {"frames": 48, "fps": 24}}, Usage(seconds=2.0)),
        ("text-to-video", "huggingface", {"inputs": "x", "parameters": {"duration": "5s"}}, Usage(seconds=5.0)),
        ("text-to-video", "huggingface", {"inputs": "x"}, Usage()),
        ("text-to-speech", "openai", {"input": "hällo"}, Usage(characters=5)),
        ("text-to-speech", "huggingface", {"inputs": "hello"}, Usage(characters=5)),
        ("conversational", "openai", {"messages": []}, Usage()),
    ],
)  # fmt: skip
def test_what_is_asked_for(task: str, dialect: str, body: dict[str, Any], found: Usage) -> None:
    assert units.asked(call_of(body, task, dialect)) == found


def test_what_an_answer_delivered() -> None:
    painted, call = candidate(task="text-to-image"), call_of({"prompt": "x", "n": 3}, "text-to-image")
    assert units.units_of(call, painted, b'{"data":[{"b64_json":""},{"b64_json":""}]}') == Usage(images=2)
    assert units.units_of(call, painted) == Usage(images=1), "a file"
    heard, upload = candidate(task="automatic-speech-recognition"), call_of({}, "automatic-speech-recognition")
    assert units.units_of(upload, heard, b'{"text":"x","duration":"8.5"}') == Usage(seconds=8.5)
    assert units.units_of(upload, heard, b'{"text":"x","duration":-1}') == Usage()
    assert units.units_of(upload, heard, b'{"text":"x","duration":1%b}' % (b"0" * 400)) == Usage(), "beyond all floats"
    ask = Ask("automatic-speech-recognition", Blob(wav(1.5), "audio/wav"))
    assert units.units_of(upload, heard, ask=ask) == Usage(seconds=1.5)
    spoken = call_of({"input": "hello"}, "text-to-speech")
    assert units.units_of(spoken, candidate(task="text-to-speech")) == Usage(characters=5)
    assert units.units_of(call_of({"messages": []}), candidate(), b"{}") is None
