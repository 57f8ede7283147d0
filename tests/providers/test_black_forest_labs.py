"""Black Forest Labs: tasks driven by hand to every end that they can have, and a key that stays with its regions."""

from typing import Any

import pytest

from providers.black_forest_labs import EVERY, PROVIDER, REGIONS
from providers.spec import Failed, Fetch, Send, Wait
from tests.providers.compared import ask_of, ours
from tests.providers.driving import drive, ended, on_the_wire, play_of

BEGUN = {"id": "t1", "polling_url": "https://api.eu2.bfl.ai/v1/get_result?id=t1"}
LOOK = Send("/v1/get_result?id=t1", method="GET", origin="https://api.eu2.bfl.ai", safe=True)
PENDING = {"id": "t1", "status": "Pending", "result": None, "progress": 0.5}
DONE = {"id": "t1", "status": "Ready", "result": {"sample": "https://delivery-eu1.bfl.ai/a.jpeg?sig=x", "seed": 7}}
IMAGE = Fetch("https://delivery-eu1.bfl.ai/a.jpeg?sig=x")


@pytest.mark.parametrize(
    ("parameters", "sent"),
    [
        ({}, {}),
        (
            {"width": 512, "height": 768, "num_inference_steps": 4, "guidance_scale": 3.5, "seed": 7},
            {"width": 512, "height": 768, "steps": 4, "guidance": 3.5, "seed": 7},
        ),
    ],
)
def test_an_image_is_asked_for_in_its_own_words(parameters: dict[str, Any], sent: dict[str, Any]) -> None:
    assert ours("black-forest-labs", "text-to-image", "a cat", parameters, "flux-dev") == {
        "method": "POST",
        "url": "https://api.us1.bfl.ai/v1/flux-dev",
        "headers": {"x-key": "KEY"},
        "body": {"prompt": "a cat", **sent},
    }


def test_a_slow_task_is_looked_at_again_and_again_in_its_region() -> None:
    queued = PENDING | {"status": "Queued"}
    steps, result = drive(play_of(PROVIDER, ask_of("text-to-image")), [BEGUN, queued, PENDING, PENDING, DONE])
    assert steps[1:] == [Wait(EVERY), LOOK] * 4
    assert result.value == IMAGE
    assert on_the_wire(PROVIDER, LOOK, "flux-dev") == {
        "method": "GET",
        "url": "https://api.eu2.bfl.ai/v1/get_result?id=t1",
        "headers": {"x-key": "KEY"},
        "body": None,
    }


@pytest.mark.parametrize("region", REGIONS)
def test_every_region_of_bfl_is_asked_where_it_says(region: str) -> None:
    steps, _ = drive(
        play_of(PROVIDER, ask_of("text-to-image")), [{"polling_url": f"{region}/v1/get_result?id=t1"}, DONE]
    )
    assert isinstance(steps[2], Send) and steps[2].origin == region and region in PROVIDER.origins


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/v1/get_result?id=t1",
        "https://api.bfl.ai.evil.example/v1/get_result?id=t1",
        "https://api.bfl.ai@evil.example/v1/get_result?id=t1",
        "https://evil.example#@api.bfl.ai/v1/get_result",
        "https://api.bfl.ai:8443/v1/get_result?id=t1",
        "http://api.bfl.ai/v1/get_result?id=t1",
        "http://169.254.169.254/v1/get_result?id=t1",
        "//api.bfl.ai/v1/get_result?id=t1",
        "/v1/get_result?id=t1",
        "api.bfl.ai",
        "",
        None,
        7,
        {"a": 1},
    ],
)
def test_the_key_follows_no_task_to_another_host(url: Any) -> None:
    with pytest.raises(ValueError, match="URL"):
        drive(play_of(PROVIDER, ask_of("text-to-image")), [{"id": "t1", "polling_url": url}])


def test_a_polling_url_holds_nothing_that_means_something_here() -> None:
    url = "https://api.bfl.ai/v1/{id}/get result?id={id}&a=%20 b\r\nx-key: y#f"
    steps, _ = drive(play_of(PROVIDER, ask_of("text-to-image")), [{"polling_url": url}, DONE])
    assert isinstance(steps[2], Send)
    assert steps[2].path == "/v1/%7Bid%7D/get%20result?id=%7Bid%7D&a=%20%20bx-key%3A%20y"


@pytest.mark.parametrize(
    ("task", "status", "code", "message"),
    [
        ({"status": "Request Moderated"}, 400, "content_policy_violation", "Request Moderated"),
        (
            {"status": "Request Moderated", "details": {"Moderation Reasons": ["Derivative Works", "Violence"]}},
            400,
            "content_policy_violation",
            "Request Moderated: Derivative Works, Violence",
        ),
        ({"status": "Content Moderated", "details": {}}, 400, "content_policy_violation", "Content Moderated"),
        ({"status": "Task not found", "id": "t1"}, 502, "job_failed", "Task not found"),
        ({"status": "Error", "details": "Out of memory"}, 502, "job_failed", "Error: Out of memory"),
        ({"status": "Error", "details": None}, 502, "job_failed", "Error"),
        ({"status": "Failed"}, 502, "job_failed", "Failed"),
    ],
)
def test_a_task_that_was_refused_or_failed_or_has_expired_fails(
    task: dict[str, Any], status: int, code: str, message: str
) -> None:
    _, end = ended(play_of(PROVIDER, ask_of("text-to-image")), [BEGUN, PENDING, task])
    assert isinstance(end, Failed)
    assert (end.status, end.code, end.message) == (status, code, message)


@pytest.mark.parametrize(
    "reply", [{}, [], {"status": "Ready"}, {"status": "Ready", "result": {"sample": ""}}, {"a": 1}]
)
def test_an_answer_without_an_image_is_none(reply: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        drive(play_of(PROVIDER, ask_of("text-to-image")), [BEGUN, reply])


@pytest.mark.parametrize("reply", [{}, [], {"id": "t1"}, "odd"])
def test_an_answer_without_a_task_is_none(reply: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        drive(play_of(PROVIDER, ask_of("text-to-image")), [reply])
