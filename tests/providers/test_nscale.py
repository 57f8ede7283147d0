"""Nscale: the same request for an image as huggingface_hub's, and the same image out of the same answer."""

import base64
from typing import Any

import pytest

from providers.nscale import PROVIDER
from providers.spec import Blob
from tests.providers.compared import JPEG, ask_of, ours, tasks_of_the_hub, theirs, theirs_of
from tests.providers.driving import drive, play_of


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"width": 512, "height": 768, "guidance_scale": 3.5, "negative_prompt": "dog", "seed": 7},
        {"num_inference_steps": 4, "cfg_scale": 2, "scheduler": "x"},
        {"width": 512},
        {"size": "256x256", "prompt": "another", "response_format": "b64_json"},
    ],
)
def test_the_official_client_would_send_the_same(monkeypatch: pytest.MonkeyPatch, parameters: dict[str, Any]) -> None:
    call = ("nscale", "text-to-image", "a cat", parameters)
    assert ours(*call) == theirs(monkeypatch, *call)


def test_it_has_every_task_of_the_official_client() -> None:
    assert tasks_of_the_hub("nscale") <= PROVIDER.tasks()


def test_the_official_client_gets_the_same_image_out_of_the_same_answer() -> None:
    reply = {"created": 1, "data": [{"b64_json": base64.b64encode(JPEG).decode()}]}
    _, result = drive(play_of(PROVIDER, ask_of("text-to-image")), [reply])
    assert result.value == Blob(JPEG, "image/jpeg") and theirs_of("nscale", "text-to-image", reply) == JPEG


@pytest.mark.parametrize("reply", [{}, [], {"data": []}, {"data": [{}]}, {"data": [{"b64_json": "?"}]}])
def test_an_answer_without_an_image_is_none(reply: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        drive(play_of(PROVIDER, ask_of("text-to-image")), [reply])
