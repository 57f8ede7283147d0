"""Novita: the same request for a video as huggingface_hub's, and the same video out of the same answer."""

import json
from typing import Any

import pytest

from providers.novita import PROVIDER
from providers.spec import Fetch
from tests.providers.canned import canned
from tests.providers.compared import PNG, ask_of, ours, tasks_of_the_hub, theirs, theirs_of
from tests.providers.driving import drive, play_of


@pytest.mark.parametrize(
    "parameters", [{}, {"num_frames": 16, "seed": 7, "num_inference_steps": 4, "negative_prompt": ["dog"]}]
)
def test_the_official_client_would_send_the_same(monkeypatch: pytest.MonkeyPatch, parameters: dict[str, Any]) -> None:
    call = ("novita", "text-to-video", "a cat", parameters, "wan-t2v")
    assert ours(*call) == theirs(monkeypatch, *call)


def test_it_has_every_task_of_the_official_client() -> None:
    assert tasks_of_the_hub("novita") <= PROVIDER.tasks()


def test_the_official_client_gets_the_same_video_out_of_the_same_answer() -> None:
    reply = {"video": {"video_url": "{here}/media", "video_url_ttl": "0"}}
    with canned({"/media": PNG}) as here:
        there = json.loads(json.dumps(reply).replace("{here}", here))
        _, result = drive(play_of(PROVIDER, ask_of("text-to-video")), [there])
        assert result.value == Fetch(f"{here}/media", "video/mp4")
        assert theirs_of("novita", "text-to-video", there) == PNG


@pytest.mark.parametrize("reply", [{}, [], {"video": None}, {"video": {}}, {"video": {"video_url": ""}}])
def test_an_answer_without_a_video_is_none(reply: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        drive(play_of(PROVIDER, ask_of("text-to-video")), [reply])
