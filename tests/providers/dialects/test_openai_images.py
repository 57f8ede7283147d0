import base64
from typing import Any

import msgspec
import pytest
from openai.types import ImagesResponse

from providers import multipart
from providers.dialects.openai_images import Edits, Images
from providers.spec import (
    IMAGE_TO_IMAGE,
    TEXT_TO_IMAGE,
    Ask,
    Blob,
    Body,
    Fetch,
    Link,
    Reply,
    Result,
    Send,
    Unreadable,
    raw,
)

IMAGES, EDITS = Images(), Edits()
PNG = Blob(b"\x89PNG\r\n\x1a\n....", "image/png")


def body(**fields: object) -> Body:
    return Body(fields={name: raw(value) for name, value in fields.items()})


def form(image: Blob = PNG, **fields: str) -> Body:
    return Body(fields={name: raw(value) for name, value in fields.items()}, files={"image": image})


def sent(send: Send) -> Any:
    return msgspec.json.decode(send.body or b"")


def parts_of(send: Send) -> dict[str, str | Blob]:
    return dict(multipart.parse(send.body or b"", send.mime.partition("boundary=")[2].encode()))


def test_a_size_is_a_width_and_a_height_and_extra_fields_pass() -> None:
    ask, want = IMAGES.read(
        body(model="m", prompt="A cat", n=1, size="512x768", seed=7, negative_prompt="dog", quality="auto", style=None)
    )
    assert ask == Ask(
        TEXT_TO_IMAGE, "A cat", {"seed": 7, "negative_prompt": "dog", "width": 512, "height": 768}, accept=""
    )
    assert IMAGES.gathers(want)


def test_an_automatic_size_asks_for_none() -> None:
    assert IMAGES.read(body(prompt="A cat", size="auto"))[0].parameters == {}


def test_an_output_format_is_the_media_type_wanted() -> None:
    assert IMAGES.read(body(prompt="A cat", output_format="webp"))[0].accept == "image/webp"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", None), ("prompt", ""), ("prompt", ["a"]),
        ("n", 2), ("n", "two"), ("size", "big"), ("size", "0x5"), ("size", 5), ("size", "9999999x1"),
        ("response_format", "png"), ("output_format", "gif"), ("quality", "hd"), ("style", "vivid"),
        ("background", "transparent"), ("user", "u"), ("stream", True), ("mask", "x"), ("output_compression", 50),
    ],
)  # fmt: skip
def test_what_no_other_api_can_do_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(Unreadable) as refused:
        IMAGES.read(body(**{"prompt": "A cat", name: value}))
    assert (refused.value.param, refused.value.status) == (name, 400)


@pytest.mark.parametrize(
    ("asked", "value", "expected"),
    [
        ("b64_json", PNG, {"b64_json": base64.b64encode(PNG.data).decode()}),
        ("url", PNG, {"url": f"data:image/png;base64,{base64.b64encode(PNG.data).decode()}"}),
        ("url", Fetch("https://cdn.example/a.png"), {"url": "https://cdn.example/a.png"}),
    ],
)
def test_the_official_client_reads_the_image(asked: str, value: object, expected: dict[str, str]) -> None:
    _, want = IMAGES.read(body(prompt="A cat", response_format=asked))
    assert IMAGES.gathers(want) is (asked == "b64_json")
    parsed = ImagesResponse.model_validate(msgspec.json.decode(IMAGES.write(Result(value), want).body), strict=True)
    assert parsed.data is not None
    assert [image.model_dump(exclude_none=True) for image in parsed.data] == [expected]


def test_an_image_behind_a_key_is_not_handed_out_by_url() -> None:
    _, want = IMAGES.read(body(prompt="A cat", response_format="url"))
    with pytest.raises(TypeError):
        IMAGES.write(Result(Send("/files/1", method="GET")), want)


def test_what_was_read_is_sent_again() -> None:
    ask, _ = IMAGES.read(body(model="m", prompt="A cat", size="512x768", seed=7, output_format="jpeg"))
    assert sent(IMAGES.encode(Ask(ask.task, ask.inputs, ask.parameters, "ID", accept=ask.accept))) == {
        "model": "ID", "prompt": "A cat", "size": "512x768", "seed": 7, "output_format": "jpeg",
        "response_format": "b64_json",
    }  # fmt: skip


def test_png_goes_unsaid_and_half_a_size_stays_what_it_is() -> None:
    ask = Ask(TEXT_TO_IMAGE, "A cat", {"width": 512}, "ID", accept="image/png")
    assert sent(IMAGES.encode(ask)) == {
        "prompt": "A cat", "response_format": "b64_json", "width": 512, "model": "ID",
    }  # fmt: skip


@pytest.mark.parametrize("model", ["gpt-image-1", "chatgpt-image-latest"])
def test_models_that_refuse_to_be_told_of_base64_are_not(model: str) -> None:
    ask = Ask(TEXT_TO_IMAGE, "A cat", provider_id=model)
    assert sent(IMAGES.encode(ask)) == {"prompt": "A cat", "model": model}
    assert "response_format" not in parts_of(EDITS.encode(Ask(IMAGE_TO_IMAGE, PNG, {"prompt": "p"}, model)))


def test_an_answer_is_a_file_or_where_it_is() -> None:
    ask = Ask(TEXT_TO_IMAGE, "A cat")
    data = base64.b64encode(PNG.data).decode()
    assert IMAGES.decode(Reply(200, {}, b'{"data":[{"b64_json":"%s"}]}' % data.encode()), ask) == Result(PNG)
    url = b'{"data":[{"b64_json":null,"url":"https://cdn.example/a"}],"usage":{"total_tokens":1}}'
    assert IMAGES.decode(Reply(200, {}, url), ask) == Result(Fetch("https://cdn.example/a"), {"total_tokens": 1})


@pytest.mark.parametrize("said", [b"", b"[]", b"{}", b'{"data":[]}', b'{"data":[{}]}', b'{"data":[{"b64_json":"?"}]}'])
def test_an_answer_without_an_image_raises_what_the_door_expects(said: bytes) -> None:
    with pytest.raises((ValueError, LookupError, TypeError)):
        IMAGES.decode(Reply(200, {}, said), Ask(TEXT_TO_IMAGE, "A cat"))


def test_an_edit_is_a_form_with_a_file_whose_numbers_are_numbers() -> None:
    ask, _ = EDITS.read(form(model="m", prompt="1984", n="1", size="512x768", guidance_scale="7.5", style=""))
    assert ask == Ask(
        IMAGE_TO_IMAGE,
        PNG,
        {"prompt": "1984", "guidance_scale": 7.5, "target_size": {"width": 512, "height": 768}},
    )


def test_an_edit_in_json_names_its_image() -> None:
    assert EDITS.read(body(prompt="p", image="https://a.example/a.png"))[0].inputs == Link("https://a.example/a.png")
    assert EDITS.read(body(prompt="p", image=base64.b64encode(PNG.data).decode()))[0].inputs == PNG


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (body(prompt="p"), "image"),
        (body(prompt="p", image="?"), "image"),
        (form(), "prompt"),
        (Body(fields={"prompt": raw("p")}, files={"image": PNG, "mask": PNG}), "mask"),
        (Body(fields={"prompt": raw("p")}, files={"image": PNG, "image[]": PNG}), "image[]"),
        (form(prompt="p", n="2"), "n"),
    ],
)
def test_an_edit_that_cannot_be_made_is_refused_by_name(asked: Body, param: str) -> None:
    with pytest.raises(Unreadable) as refused:
        EDITS.read(asked)
    assert refused.value.param == param


def test_an_edit_is_sent_as_a_form_again() -> None:
    ask, _ = EDITS.read(form(model="m", prompt="p", size="512x768", seed="7"))
    send = EDITS.encode(Ask(ask.task, ask.inputs, ask.parameters, "ID"))
    assert b'filename="image.png"' in (send.body or b"")
    assert parts_of(send) == {
        "image": PNG, "prompt": "p", "response_format": "b64_json", "seed": "7", "size": "512x768", "model": "ID",
    }  # fmt: skip


def test_a_form_has_no_place_for_a_url() -> None:
    with pytest.raises(Unreadable) as refused:
        EDITS.encode(Ask(IMAGE_TO_IMAGE, Link("https://a.example/a.png"), {"prompt": "p"}))
    assert refused.value.param == "inputs"
