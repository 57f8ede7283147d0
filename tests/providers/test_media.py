"""What is said of a file's type stands in heads on both sides: nothing but a type may come of it."""

import pytest

from providers import media, multipart
from providers.spec import Blob

SAID = [
    "image/png\r\nset-cookie: a=b",
    "image/png\n\n--x",
    'image/png"; name="model',
    "image/png\x00",
    "bildliches/übel",
    "png",
    "/",
    "image/" + "x" * 200,
]


@pytest.mark.parametrize("said", SAID)
def test_what_is_no_media_type_is_as_if_nothing_had_been_said(said: str) -> None:
    assert media.mime_of(Blob(b"x", said)) == "application/octet-stream"
    assert media.mime_of(Blob(b"\xff\xd8\xff", said)) == "image/jpeg"
    assert media.mime_of(Blob(b"x"), said) == "application/octet-stream"
    assert media.from_data_url(f"data:{said},x").mime in ("", "image/png")


@pytest.mark.parametrize("said", SAID)
def test_a_type_puts_no_part_into_a_form(said: str) -> None:
    body, _ = multipart.write([("image", Blob(b"x", said)), ("model", "mine")])
    assert body.count(b"content-type: application/octet-stream\r\n") == 1
    assert body.count(b"\r\n\r\n") == 2 and body.count(b'name="model"') == 1


@pytest.mark.parametrize("said", ["image/svg+xml", "audio/x-wav", "application/vnd.ms-excel", "IMAGE/PNG; q=1"])
def test_a_media_type_is_taken_at_its_word(said: str) -> None:
    assert media.mime_of(Blob(b"x", said)) == said.partition(";")[0].lower()
