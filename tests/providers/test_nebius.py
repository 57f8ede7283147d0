"""Nebius: the request for an image that older releases of huggingface_hub made, and the image out of its answer."""

import base64
from typing import Any

import pytest

from providers.nebius import PROVIDER
from providers.spec import Blob, Fetch
from tests.providers.compared import JPEG, ask_of, ours
from tests.providers.driving import drive, play_of

SIZE = {"width": 512, "height": 768}


@pytest.mark.parametrize(
    ("parameters", "sent"),
    [
        ({}, {"response_format": "b64_json"}),
        ({"guidance_scale": 3.5, **SIZE, "seed": 7}, {"response_format": "b64_json", **SIZE, "seed": 7}),
        ({"response_format": "png"}, {"response_format": "b64_json"}),
        ({"response_format": "url", "num_inference_steps": 4}, {"response_format": "url", "num_inference_steps": 4}),
    ],
)
def test_the_size_is_a_width_and_a_height_and_the_image_comes_in_the_answer_unless_its_url_is_asked_for(
    parameters: dict[str, Any], sent: dict[str, Any]
) -> None:
    assert ours("nebius", "text-to-image", "a cat", parameters) == {
        "method": "POST",
        "url": "https://api.studio.nebius.ai/v1/images/generations",
        "headers": {"authorization": "Bearer KEY"},
        "body": {"prompt": "a cat", "model": "PROVIDER-ID", **sent},
    }


def test_the_image_is_in_the_answer_or_at_its_url() -> None:
    _, result = drive(
        play_of(PROVIDER, ask_of("text-to-image")), [{"data": [{"b64_json": base64.b64encode(JPEG).decode()}]}]
    )
    assert result.value == Blob(JPEG, "image/jpeg")
    _, result = drive(play_of(PROVIDER, ask_of("text-to-image")), [{"data": [{"url": "https://example.com/a.webp"}]}])
    assert result.value == Fetch("https://example.com/a.webp")


@pytest.mark.parametrize("reply", [{}, [], {"data": []}, {"data": [{}]}, {"data": [{"b64_json": "?"}]}])
def test_an_answer_without_an_image_is_none(reply: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        drive(play_of(PROVIDER, ask_of("text-to-image")), [reply])
