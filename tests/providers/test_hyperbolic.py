"""Hyperbolic: the request for an image that older releases of huggingface_hub made, and the image out of its answer."""

import base64
from typing import Any

import pytest

from providers.hyperbolic import PROVIDER
from providers.spec import Blob
from tests.providers.compared import PNG, ask_of, ours
from tests.providers.driving import drive, play_of


@pytest.mark.parametrize(
    ("parameters", "sent"),
    [
        ({}, {"width": 512, "height": 512}),
        ({"width": 1024}, {"width": 1024, "height": 512}),
        (
            {"width": 256, "height": 768, "num_inference_steps": 4, "guidance_scale": 3.5, "seed": 7},
            {"width": 256, "height": 768, "steps": 4, "cfg_scale": 3.5, "seed": 7},
        ),
    ],
)
def test_a_size_is_always_given_and_the_names_are_hyperbolics(parameters: dict[str, Any], sent: dict[str, Any]) -> None:
    assert ours("hyperbolic", "text-to-image", "a cat", parameters) == {
        "method": "POST",
        "url": "https://api.hyperbolic.xyz/v1/images/generations",
        "headers": {"authorization": "Bearer KEY"},
        "body": {"prompt": "a cat", "model_name": "PROVIDER-ID", **sent},
    }


def test_the_image_is_in_the_answer() -> None:
    reply = {"images": [{"index": 0, "image": base64.b64encode(PNG).decode(), "random_seed": 7}]}
    _, result = drive(play_of(PROVIDER, ask_of("text-to-image")), [reply])
    assert result.value == Blob(PNG, "image/png")


@pytest.mark.parametrize("reply", [{}, [], {"images": []}, {"images": [{}]}, {"images": [{"image": "?"}]}])
def test_an_answer_without_an_image_is_none(reply: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        drive(play_of(PROVIDER, ask_of("text-to-image")), [reply])


@pytest.mark.parametrize("name", ["hyperbolic", "nebius", "nscale", "together", "zai-org"])
def test_no_parameter_of_a_caller_chooses_another_model(name: str) -> None:
    plain = ours(name, "text-to-image", "a cat", {})["body"]
    wished = ours(name, "text-to-image", "a cat", {"model": "dear", "model_name": "dear"})["body"]
    field = next(each for each, value in plain.items() if value == "PROVIDER-ID")
    assert wished[field] == "PROVIDER-ID"
