import io
import wave
from typing import Any

import pytest

from providers.dialects import hf_media
from providers.spec import Fetch
from tests.providers.dialects.hub_tasks import AUDIO, IMAGE, MP4, PNG, VIDEO, WAV, b64


@pytest.mark.parametrize(
    "value",
    [
        b64(PNG),
        f"data:image/png;base64,{b64(PNG)}",
        [b64(PNG)],
        {"image": b64(PNG)},
        {"images": [b64(PNG)], "seed": 4},
        {"data": [{"b64_json": b64(PNG)}]},
        {"generated_image": b64(PNG), "image": None},
    ],
)
def test_a_picture_is_found_in_every_answer_that_has_one(value: Any) -> None:
    assert hf_media.of_json(value, "image/jpeg") == IMAGE


def test_a_file_that_is_named_by_url_is_to_be_fetched() -> None:
    assert hf_media.of_json({"output": ["https://cdn.test/a"]}, "image/jpeg") == Fetch(
        "https://cdn.test/a", "image/jpeg"
    )
    assert hf_media.of_json({"video": {"url": "https://cdn.test/a"}}, "video/mp4") == Fetch(
        "https://cdn.test/a", "video/mp4"
    )


def test_sound_and_video_are_found() -> None:
    assert hf_media.of_json({"audio": b64(WAV), "sampling_rate": 8000}, "audio/flac") == AUDIO
    assert hf_media.of_json([{"video": b64(MP4)}], "video/mp4") == VIDEO


@pytest.mark.parametrize(
    "nested", [[0.0, 1.0, -2.0], [[0.0, 1.0, -2.0]], [[[0.0, 1.0, -2.0]]], [[0.0, 1.0, -2.0], [0, 0, 0]]]
)
@pytest.mark.parametrize("around", [lambda audio: audio, lambda audio: [audio]])
def test_samples_become_a_sound_of_one_channel_that_is_cut_at_its_loudest(nested: list[Any], around: Any) -> None:
    found = hf_media.of_json(around({"audio": nested, "sampling_rate": 24000}), "audio/flac")
    assert not isinstance(found, Fetch) and found.mime == "audio/wav"
    with wave.open(io.BytesIO(found.data)) as sound:
        assert (sound.getnchannels(), sound.getframerate(), sound.getsampwidth()) == (1, 24000, 2)
        pcm = sound.readframes(9)
    assert [int.from_bytes(pcm[at : at + 2], "little", signed=True) for at in (0, 2, 4)] == [0, 32767, -32767]


@pytest.mark.parametrize(
    "value",
    [None, 5, "", "?", [], {}, [[]], {"image": 5}, {"error": "out of memory"}, {"image": {"image": []}}, [0.5, 1.0]],
)
def test_an_answer_without_a_file_is_none(value: Any) -> None:
    with pytest.raises(ValueError):
        hf_media.of_json(value, "image/jpeg")


@pytest.mark.parametrize("rate", [-1, 1e12, "fast", [16000]])
def test_a_sound_needs_a_rate_that_can_be_played(rate: Any) -> None:
    with pytest.raises(ValueError, match="rate"):
        hf_media.of_json({"audio": [0.0], "sampling_rate": rate}, "audio/flac")
