"""What the golden cases of `transformers` and `diffusers` do not show: exact types, and answers that are none."""

import pytest

from providers import diffusers, transformers
from providers.spec import Ask, Blob, Result, Send
from tests.providers.driving import drive, play_of

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("task", "file", "mime"),
    [
        ("image-classification", Blob(PNG, "image/png"), "image/png"),
        ("image-classification", Blob(PNG), "image/png"),
        ("image-classification", Blob(PNG, "image/PNG; charset=binary"), "image/png"),
        ("image-classification", Blob(b"?", "image/avif"), "image/x-image"),
        ("automatic-speech-recognition", Blob(b"fLaC", "audio/x-flac"), "audio/x-flac"),
        ("automatic-speech-recognition", Blob(b"?", "video/webm"), "audio/x-audio"),
        ("audio-classification", Blob(b"?"), "audio/x-audio"),
    ],
)
def test_a_file_is_sent_under_a_type_that_is_in_the_toolkits_table(task: str, file: Blob, mime: str) -> None:
    reply = {"text": "a"} if task == "automatic-speech-recognition" else [{"label": "a", "score": 1.0}]
    (sent,), _ = drive(play_of(transformers.PROVIDER, Ask(task, file)), [reply])
    assert isinstance(sent, Send) and sent.mime == mime and sent.body == file.data


@pytest.mark.parametrize(
    ("asked", "sent"),
    [("image/jpeg", "image/jpeg"), ("image/webp", "image/webp"), ("", "image/png"), ("image/avif", "image/png")],
)
def test_a_picture_is_asked_for_by_a_type_that_the_toolkit_writes(asked: str, sent: str) -> None:
    _, result = drive(play_of(diffusers.PROVIDER, Ask("text-to-image", "a cat", accept=asked)))
    assert isinstance(result.value, Send) and result.value.headers == {"accept": sent}


def test_a_type_of_sound_is_never_asked_for() -> None:
    (sent,), result = drive(
        play_of(transformers.PROVIDER, Ask("text-to-speech", "hi", accept="audio/flac")),
        [{"audio": [[0.0, 1.0]], "sampling_rate": 8000}],
    )
    assert isinstance(sent, Send) and sent.headers == {"accept": "*/*"}
    assert isinstance(result, Result) and isinstance(result.value, Blob) and result.value.mime == "audio/wav"


@pytest.mark.parametrize("reply", [[], {"embeddings": []}, [[1.0], [2.0], [3.0]], {"vectors": 1}, "no", [[]]])
def test_what_are_no_vectors_of_these_texts_is_no_answer(reply: object) -> None:
    with pytest.raises((ValueError, LookupError, TypeError)):
        drive(play_of(transformers.PROVIDER, Ask("feature-extraction", ["a", "b"])), [reply])
