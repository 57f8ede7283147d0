"""Together: the same first request as huggingface_hub's, and jobs driven by hand to every end that they can have."""

import base64
import json
from typing import Any

import pytest
from huggingface_hub.inference._providers import together as helpers

from providers.spec import OWN, Blob, Failed, Fetch, Link, Send, Wait
from providers.together import EVERY, PLAYS, PROVIDER
from tests.providers.canned import canned
from tests.providers.compared import JPEG, PNG, ask_of, ours, tasks_of_the_hub, theirs, theirs_of
from tests.providers.driving import drive, ended, play_of

LOOK = Send("/v2/videos/v1", method="GET", safe=True)
QUEUED = {"id": "v1", "status": "queued"}
DONE = {"id": "v1", "status": "completed", "outputs": {"cost": 0.3, "video_url": "https://api.together.ai/v1.mp4"}}
VIDEO = Fetch("https://api.together.ai/v1.mp4", "video/mp4")
SIZE = {"width": 512, "height": 768}

CALLS: list[tuple[str, Any, dict[str, Any]]] = [
    ("text-to-image", "a cat", {}),
    ("text-to-image", "a cat", {**SIZE, "num_inference_steps": 4, "guidance_scale": 3.5, "negative_prompt": "dog"}),
    ("text-to-image", "a cat", {"seed": 7, "response_format": "url", "prompt": "another", "model": "another"}),
    ("image-to-image", JPEG, {}),
    ("image-to-image", JPEG, {"prompt": "make it blue", "guidance_scale": 2.5, "num_inference_steps": 4}),
    ("text-to-video", "a cat", {"num_frames": 16, "seed": 7, "num_inference_steps": 4, "target_size": SIZE}),
    ("image-to-video", PNG, {}),
    ("image-to-video", PNG, {"prompt": "move", "target_size": {"width": 512}, "seconds": "5"}),
    ("image-to-video", PNG, {"frame_images": [{"input_image": "https://example.com/a.png", "frame": "last"}]}),
]


@pytest.mark.parametrize(("task", "inputs", "parameters"), CALLS)
def test_the_official_client_would_send_the_same(
    monkeypatch: pytest.MonkeyPatch, task: str, inputs: Any, parameters: dict[str, Any]
) -> None:
    call = ("together", task, inputs, parameters, "org/Some-Model")
    assert ours(*call) == theirs(monkeypatch, *call)


def test_every_task_that_is_not_in_openais_shape_is_compared() -> None:
    assert {task for task, _, _ in CALLS} == set(PLAYS)
    assert tasks_of_the_hub("together") <= PROVIDER.tasks()
    assert not any((task, "openai") in PROVIDER.adapters for task in PLAYS)


@pytest.mark.parametrize(
    "model", ["black-forest-labs/FLUX.1-kontext-pro", "black-forest-labs/FLUX.2-dev", "org/kontext", "google/gemini-3"]
)
def test_an_image_stands_in_the_field_that_its_model_reads(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    call = ("together", "image-to-image", JPEG, {"prompt": "make it blue"}, model)
    assert ours(*call) == theirs(monkeypatch, *call)
    assert ("image_url" in ours(*call)["body"]) is ("FLUX.1" in model)


def test_the_size_of_an_image_is_two_fields_too_where_the_official_client_sends_a_field_that_nobody_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = ("together", "image-to-image", JPEG, {"target_size": SIZE})
    sent, expected = ours(*call), theirs(monkeypatch, *call)
    assert expected["body"].pop("target_size") == {name: sent["body"].pop(name) for name in SIZE} == SIZE
    assert sent == expected


@pytest.mark.parametrize("task", ["image-to-image", "image-to-video"])
def test_an_image_that_the_caller_names_is_togethers_to_fetch(monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    url = "https://example.com/cat.png"
    assert ours("together", task, Link(url), {}) == theirs(monkeypatch, "together", task, url, {})


@pytest.mark.parametrize("task", ["image-to-image", "image-to-video"])
def test_a_task_of_an_image_without_one_is_refused_before_anything_is_sent(task: str) -> None:
    steps, end = ended(play_of(PROVIDER, ask_of(task, "a cat")))
    assert not steps and isinstance(end, Failed) and end.status == 400


@pytest.mark.parametrize("task", ["text-to-image", "image-to-image"])
def test_the_official_client_gets_the_same_image_out_of_the_same_answer(task: str) -> None:
    reply = {"id": "i1", "data": [{"index": 0, "b64_json": base64.b64encode(JPEG).decode()}]}
    _, result = drive(play_of(PROVIDER, ask_of(task, JPEG if task == "image-to-image" else "a cat")), [reply])
    assert result.value == Blob(JPEG, "image/jpeg") and theirs_of("together", task, reply) == JPEG


def test_an_image_that_was_asked_for_by_url_is_passed_on() -> None:
    play = play_of(PROVIDER, ask_of("text-to-image", "a cat", {"response_format": "url"}))
    _, result = drive(play, [{"data": [{"url": "https://api.together.ai/i1.jpg"}]}])
    assert result.value == Fetch("https://api.together.ai/i1.jpg")


@pytest.mark.parametrize("task", ["text-to-video", "image-to-video"])
def test_the_official_client_gets_the_same_video_out_of_the_same_answers(
    monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.setattr(helpers, "_VIDEO_POLLING_INTERVAL", 0)
    done = {"id": "v1", "status": "completed", "outputs": {"video_url": "{here}/media"}}
    with canned({"/app/v1": done, "/media": PNG}) as here:
        assert theirs_of("together", task, QUEUED, here) == PNG
        script = [QUEUED, json.loads(json.dumps(done).replace("{here}", here))]
        _, result = drive(play_of(PROVIDER, ask_of(task, PNG if task == "image-to-video" else "a cat")), script)
        assert result.value == Fetch(f"{here}/media", "video/mp4")


def test_a_slow_job_is_looked_at_again_and_again() -> None:
    script = [QUEUED, QUEUED, {"id": "v1"}, {"id": "v1", "status": "in_progress"}, DONE]
    steps, result = drive(play_of(PROVIDER, ask_of("text-to-video")), script)
    assert steps[1:] == [Wait(EVERY), LOOK] * 4
    assert result.value == VIDEO


def test_a_job_that_is_done_at_once_is_not_asked_for_again() -> None:
    steps, result = drive(play_of(PROVIDER, ask_of("text-to-video")), [DONE])
    assert len(steps) == 1 and result.value == VIDEO


def test_an_id_stays_below_the_path_of_jobs() -> None:
    steps, _ = drive(play_of(PROVIDER, ask_of("text-to-video")), [{"id": "../{id}?a\r\nb"}, DONE])
    assert isinstance(steps[2], Send) and steps[2].path == "/v2/videos/..%2F%7Bid%7D%3Fa%0D%0Ab"


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("job", "status", "code", "message"),
    [
        ({"status": "failed", "error": {"message": "Out of memory"}}, 502, "job_failed", "Out of memory"),
        ({"status": "failed", "error": "Out of memory"}, 502, "job_failed", "Out of memory"),
        ({"status": "failed", "error": None}, 502, "job_failed", "The job is failed."),
        ({"status": "cancelled"}, 502, "job_failed", "The job is cancelled."),
        (
            {"status": "failed", "error": {"message": "The prompt was flagged as NSFW."}},
            400,
            "content_policy_violation",
            "The prompt was flagged as NSFW.",
        ),
    ],
)
def test_a_job_that_failed_fails(at_once: bool, job: dict[str, Any], status: int, code: str, message: str) -> None:
    _, end = ended(play_of(PROVIDER, ask_of("text-to-video")), [job] if at_once else [QUEUED, job])
    assert isinstance(end, Failed)
    assert (end.status, end.code, end.message) == (status, code, message)


@pytest.mark.parametrize(
    "reply", [{}, [], {"id": 7}, {"id": "v1", "status": "completed"}, {"status": "completed", "outputs": {}}, "odd"]
)
def test_an_answer_without_a_job_or_a_video_is_none(reply: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        drive(play_of(PROVIDER, ask_of("text-to-video")), [reply])


@pytest.mark.parametrize("reply", [{}, [], {"data": []}, {"data": [{}]}, {"data": [{"b64_json": "?"}]}])
def test_an_answer_without_an_image_is_none(reply: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        drive(play_of(PROVIDER, ask_of("text-to-image")), [reply])


def test_the_tasks_in_openais_shape_are_relayed() -> None:
    assert {task for task, dialect in PROVIDER.adapters if dialect != OWN} == {
        "conversational",
        "text-generation",
        "feature-extraction",
        "text-to-speech",
        "automatic-speech-recognition",
        "speech-translation",
        "text-ranking",
    }
