import msgspec
import pytest

from providers import multipart
from providers.dialects import openai_fields as fields
from providers.spec import Ask, Blob, Unreadable


def test_nulls_are_absent_and_what_is_no_json_is_refused_by_name() -> None:
    assert fields.values_of({"a": msgspec.Raw(b"null"), "b": msgspec.Raw(b"[1]")}) == {"b": [1]}
    with pytest.raises(Unreadable) as refused:
        fields.values_of({"a": msgspec.Raw(b'"\xff"')})
    assert (refused.value.param, refused.value.status) == ("a", 400)


def test_what_is_nested_beyond_reading_is_refused() -> None:
    with pytest.raises(Unreadable, match="nested too deep"):
        fields.values_of({"a": msgspec.Raw(b"[" * 100_000 + b"]" * 100_000)})


@pytest.mark.parametrize(
    ("text", "value"),
    [("7", 7), ("7.5", 7.5), ("true", True), ("null", "null"), ("1e999", "1e999"), ("[1]", "[1]"), ("9" * 40, "9" * 40),
     ("seven", "seven"), ("\ud800", "\ud800"), (["1"], ["1"])],
)  # fmt: skip
def test_a_forms_text_is_the_number_that_it_spells(text: object, value: object) -> None:
    assert fields.typed(text) == value


def test_a_list_is_a_part_for_each_of_its_values_only_where_its_name_says_so() -> None:
    parts = list(fields.form_parts({"a[]": ["x", "y"], "b": ["x"], "c": True, "d": 0.5, "e": {"f": None}}))
    assert parts == [("a[]", "x"), ("a[]", "y"), ("b", '["x"]'), ("c", "true"), ("d", "0.5"), ("e", '{"f": null}')]
    assert multipart.parse(*_split(multipart.write(parts))) == parts


def _split(written: tuple[bytes, str]) -> tuple[bytes, bytes]:
    return written[0], written[1].partition("boundary=")[2].encode()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (Blob(b"", "audio/mpeg"), "audio.mp3"),
        (Blob(b"OggS"), "audio.ogg"),
        (Blob(b"?", "application/octet-stream"), "audio.wav"),
    ],
)
def test_a_file_is_called_by_its_kind(file: Blob, name: str) -> None:
    assert fields.filename("audio", file, "wav") == name


def test_what_is_no_file_is_refused() -> None:
    with pytest.raises(Unreadable, match="`inputs` must be a file"):
        fields.file_of(Ask("automatic-speech-recognition", "hello"))
