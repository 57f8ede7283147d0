import pytest

from router.sandbox.exchange import Wrong
from router.sandbox.form import FormReader, boundary_of

CONTENT = b"line\r\n--not the boundary\r\n--B\x00\r\n"
BODY = (
    b'preamble\r\n--BB\r\nContent-Disposition: form-data; name="model"\r\n\r\nsandbox/echo\r\n'
    b'--BB\r\ncontent-disposition: form-data; filename="a b.wav"; name="file"\r\nContent-Type: audio/wav\r\n\r\n'
    + CONTENT
    + b'\r\n--BB\r\nContent-Disposition: form-data; name="empty"\r\n\r\n\r\n--BB--\r\nepilogue'
)


def read(*pieces: bytes) -> FormReader:
    reader = FormReader(b"BB")
    for piece in pieces:
        reader.feed(piece)
    return reader


def test_a_form_is_the_same_whole_byte_by_byte_and_at_every_split() -> None:
    form = read(BODY).whole()
    assert form.fields == {"model": "sandbox/echo", "empty": ""}
    assert [(file.field, file.filename, file.size) for file in form.files] == [("file", "a b.wav", len(CONTENT))]
    assert read(*(BODY[at : at + 1] for at in range(len(BODY)))).whole() == form
    for at in range(len(BODY)):
        assert read(BODY[:at], BODY[at:]).whole() == form


def test_a_file_is_not_held() -> None:
    reader = FormReader(b"BB")
    reader.feed(b'--BB\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\n')
    for _ in range(200):
        reader.feed(b"x" * 65_536)
        assert len(reader._buffer) < 100 and not reader._value
    reader.feed(b"\r\n--BB--")
    assert reader.whole().files[0].size == 200 * 65_536


def test_a_form_that_ends_early_or_has_a_nameless_part_is_refused() -> None:
    with pytest.raises(Wrong, match="before its last boundary"):
        read(BODY[:-20]).whole()
    with pytest.raises(Wrong, match="without a name"):
        read(b"--BB\r\nContent-Type: text/plain\r\n\r\nx\r\n--BB--")
    with pytest.raises(Wrong, match="larger than") as caught:
        read(b'--BB\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"x" * 1_100_000)
    assert caught.value.status == 413


def test_the_boundary_is_read_quoted_or_not() -> None:
    assert boundary_of('multipart/form-data; boundary="a b"') == b"a b"
    assert boundary_of("Multipart/Form-Data; charset=utf-8; boundary=abc") == b"abc"
    assert boundary_of("application/json") is None
