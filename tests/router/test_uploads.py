import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import Refused
from router.uploads import Upload, boundary_of

FILE = bytes(range(256)) * 40
MODEL_FIRST = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nold/id\r\n'
FILE_PART = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + FILE + b"\r\n"
END = b"--B--\r\n"
ORDERS = [MODEL_FIRST + FILE_PART + END, FILE_PART + MODEL_FIRST + END]


def upload_of(body: bytes, cuts: list[int], length: int | None = None, limit: int = 1 << 20) -> Upload:
    edges = [0, *sorted({cut % (len(body) + 1) for cut in cuts}), len(body)]
    pieces = [body[start:end] for start, end in itertools.pairwise(edges) if end > start]

    async def receive() -> bytes:
        return pieces.pop(0) if pieces else b""

    return Upload(receive, b"B", length, limit)


async def through(upload: Upload, model: str) -> bytes:
    try:
        await upload.find_model()
        return b"".join([piece async for piece in upload.pieces(model)])
    finally:
        upload.close()


@given(st.sampled_from(ORDERS), st.lists(st.integers(0, 20_000), max_size=6))
@settings(max_examples=60, deadline=None)
def test_only_the_model_is_exchanged_however_the_body_is_cut(body: bytes, cuts: list[int]) -> None:
    upload = upload_of(body, cuts, len(body))
    sent = asyncio.run(through(upload, "new"))
    assert upload.model == "old/id"
    assert sent == body.replace(b"old/id", b"new")
    assert upload.outgoing_length("new") == len(sent)


def test_a_body_of_unknown_length_goes_up_chunk_framed() -> None:
    sent = asyncio.run(through(upload_of(ORDERS[0], []), "new"))
    assert sent.endswith(b"0\r\n\r\n") and b"new" in sent


@pytest.mark.parametrize(
    "body", [b"", b"junk", FILE_PART + END, MODEL_FIRST[:-8], b"--B\r\n" + b"x" * 9000, (FILE_PART * 30) + END]
)
def test_a_body_without_a_model_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        asyncio.run(through(upload_of(body, []), "new"))
    assert refused.value.fault.status == 400


OTHER = b"--B\r\nContent-Disposition: form-data; %b\r\n\r\nother\r\n"


@given(
    st.sampled_from(
        [b'name="model"', b"name=model", b'filename="x"; name="model"', b'NAME="model"', b'name="mo\\del"',
         b'name = "model"', b'name="file"; filename="a"; name="model"', b'name="a"\r\nX: y; name="model"']
    ),
    st.lists(st.integers(0, 20_000), max_size=8),
    st.booleans(),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_no_second_model_follows_the_one_that_was_looked_at(name: bytes, cuts: list[int], far: bool) -> None:
    body = MODEL_FIRST + (FILE_PART if far else b"") + OTHER % name + END
    head = b"--B%bContent-Disposition: form-data; " + name
    lenient = body.replace(b"\r\n" + head % b"\r\n", b"\n" + head % b"\n") if far else body
    for sent in (body, lenient):
        with pytest.raises(Refused) as refused:
            asyncio.run(through(upload_of(sent, cuts, len(sent)), "new"))
        assert refused.value.fault.code == "duplicate_field"


@pytest.mark.parametrize(
    "name", [b'name="models"', b'name="file"; filename="model"', b'name="a_model"', b'name="mode"']
)
def test_what_is_only_called_nearly_so_passes(name: bytes) -> None:
    body = MODEL_FIRST + OTHER % name + FILE_PART + END
    assert asyncio.run(through(upload_of(body, [], len(body)), "new")) == body.replace(b"old/id", b"new")


def test_a_body_beyond_the_limit_is_refused_on_the_way() -> None:
    with pytest.raises(Refused) as refused:
        asyncio.run(through(upload_of(ORDERS[0], [200], limit=500), "new"))
    assert refused.value.fault.status == 413


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'multipart/form-data; charset=utf-8; boundary="a b"', b"a b"),
        (b"Multipart/Form-Data;boundary=x", b"x"),
    ],
)
def test_a_boundary_is_read(header: bytes, boundary: bytes) -> None:
    assert boundary_of(header) == boundary


@pytest.mark.parametrize("header", [b"", b"application/json", b"multipart/form-data", b"multipart/mixed; boundary=x"])
def test_what_is_no_form_is_415(header: bytes) -> None:
    with pytest.raises(Refused) as refused:
        boundary_of(header)
    assert refused.value.fault.status == 415
