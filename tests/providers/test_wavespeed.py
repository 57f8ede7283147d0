"""WaveSpeed: the same first request as huggingface_hub's, and tasks driven by hand to every end that they can have."""

from typing import Any

import pytest
from huggingface_hub.inference._providers import wavespeed as helpers

from providers.spec import Failed, Fetch, Link, Send, Wait
from providers.wavespeed import EVERY, PLAYS, PROVIDER
from tests.providers.canned import canned
from tests.providers.compared import JPEG, PNG, ask_of, ours, tasks_of_the_hub, theirs, theirs_of
from tests.providers.driving import drive, ended, play_of

GET = "https://api.wavespeed.ai/api/v3/predictions/t1/result"
LOOK = Send("/api/v3/predictions/t1/result", method="GET", safe=True)
WAIT = Wait(EVERY, Send("/api/v3/predictions/t1", method="DELETE", safe=True))
FILE = "https://d1q70pf5vjeyhc.cloudfront.net/a.jpeg"


def said(status: str, **more: Any) -> dict[str, Any]:
    task = {"id": "t1", "model": "app", "status": status, "urls": {"get": GET}, "outputs": [], "error": ""}
    return {"code": 200, "message": "success", "data": task | more}


DONE = said("completed", outputs=[FILE, "https://d1q70pf5vjeyhc.cloudfront.net/b.jpeg"])

CALLS: list[tuple[str, Any, dict[str, Any]]] = [
    ("text-to-image", "a cat", {}),
    ("text-to-image", "a cat", {"width": 512, "height": 768, "num_inference_steps": 4, "negative_prompt": "dog"}),
    ("text-to-image", "a cat", {"prompt": "another", "loras": [{"path": "p", "scale": 1}]}),
    ("image-to-image", JPEG, {"prompt": "make it blue", "guidance_scale": 2.5}),
    ("image-to-image", JPEG, {"images": ["https://example.com/a.png"]}),
    ("text-to-video", "a cat", {"num_frames": 16, "negative_prompt": ["dog"], "seed": 7}),
    ("image-to-video", JPEG, {"prompt": "move", "target_size": {"width": 512, "height": 512}}),
]


@pytest.mark.parametrize(("task", "inputs", "parameters"), CALLS)
def test_the_official_client_would_send_the_same(
    monkeypatch: pytest.MonkeyPatch, task: str, inputs: Any, parameters: dict[str, Any]
) -> None:
    call = ("wavespeed", task, inputs, parameters, "wavespeed-ai/wan-2.2/i2v-480p")
    assert ours(*call) == theirs(monkeypatch, *call)


def test_every_task_of_the_official_client_is_compared_and_the_others_are_huggingface_jss() -> None:
    assert {task for task, _, _ in CALLS} == tasks_of_the_hub("wavespeed")
    assert set(PLAYS) - tasks_of_the_hub("wavespeed") == {"image-text-to-image", "image-text-to-video"}


@pytest.mark.parametrize(("task", "inputs", "parameters"), CALLS)
def test_a_lora_is_asked_for_as_huggingface_js_does_which_the_official_client_forgets(
    monkeypatch: pytest.MonkeyPatch, task: str, inputs: Any, parameters: dict[str, Any]
) -> None:
    call = ("wavespeed", task, inputs, parameters, "wavespeed-ai/app", "lora.safetensors")
    sent, expected = ours(*call), theirs(monkeypatch, *call)
    assert sent["body"].pop("loras") == [{"path": "org/model", "scale": 1}]
    expected["body"].pop("loras", None)
    assert sent == expected


@pytest.mark.parametrize("task", ["image-to-image", "image-to-video"])
def test_an_image_is_called_what_it_is(monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    sent, expected = ours("wavespeed", task, PNG, {}), theirs(monkeypatch, "wavespeed", task, PNG, {})
    assert sent["body"].pop("image") == "data:image/png;base64,iVBORw0KGgowMDAw"
    assert expected["body"].pop("image") == "data:image/jpeg;base64,iVBORw0KGgowMDAw", "the helper calls all JPEG"
    assert sent == expected


@pytest.mark.parametrize("task", ["image-to-image", "image-to-video"])
def test_an_image_that_the_caller_names_is_wavespeeds_to_fetch(monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    url = "https://example.com/cat.png"
    assert ours("wavespeed", task, Link(url), {}) == theirs(monkeypatch, "wavespeed", task, url, {})


@pytest.mark.parametrize("task", ["image-to-image", "image-to-video"])
def test_a_task_of_an_image_without_one_is_refused_before_anything_is_sent(task: str) -> None:
    steps, end = ended(play_of(PROVIDER, ask_of(task, "a cat")))
    assert not steps and isinstance(end, Failed) and end.status == 400


def test_a_slow_task_is_looked_at_again_and_again_and_can_be_deleted_all_the_while() -> None:
    script = [said("created"), said("created"), said("processing"), DONE]
    steps, result = drive(play_of(PROVIDER, ask_of("text-to-video")), script)
    assert steps[1:] == [WAIT, LOOK, WAIT, LOOK, WAIT, LOOK]
    assert result.value == Fetch(FILE)


def test_a_task_that_is_done_at_once_is_not_asked_for_again() -> None:
    steps, result = drive(play_of(PROVIDER, ask_of("text-to-image")), [DONE])
    assert len(steps) == 1 and result.value == Fetch(FILE)


def test_what_is_taken_for_unsafe_but_made_is_an_answer() -> None:
    reply = said("completed", outputs=[FILE], has_nsfw_contents=[True])
    _, result = drive(play_of(PROVIDER, ask_of("text-to-image")), [reply])
    assert result.value == Fetch(FILE)


@pytest.mark.parametrize("host", ["https://evil.example", "http://169.254.169.254", ""])
def test_the_key_follows_no_task_to_another_host(host: str) -> None:
    ticket = said("created", urls={"get": f"{host}/api/v3/predictions/t1/result"})
    steps, _ = drive(play_of(PROVIDER, ask_of("text-to-image")), [ticket, DONE])
    assert steps[1:] == [WAIT, LOOK]


def test_a_task_without_an_id_is_looked_after_all_the_same() -> None:
    ticket = {"code": 200, "data": {"status": "created", "urls": {"get": GET}}}
    steps, _ = drive(play_of(PROVIDER, ask_of("text-to-image")), [ticket, DONE])
    assert steps[1:] == [Wait(EVERY), LOOK]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("end", "status", "code", "message"),
    [
        (said("failed", error="Out of memory"), 502, "job_failed", "Out of memory"),
        (said("failed"), 502, "job_failed", "The task ended as failed."),
        (said("deleted"), 502, "job_failed", "The task ended as deleted."),
        (
            said("failed", error="Content flagged as potentially sensitive."),
            400,
            "content_policy_violation",
            "Content flagged as potentially sensitive.",
        ),
        ({"code": 401, "message": "Invalid API key"}, 401, "", "Invalid API key"),
        ({"code": 429, "message": "Too many"}, 429, "", "Too many"),
        ({"code": 1001}, 502, "", "code 1001"),
        ({"code": "E1"}, 502, "", "code E1"),
    ],
)
def test_a_task_that_failed_says_why(at_once: bool, end: dict[str, Any], status: int, code: str, message: str) -> None:
    script = [end] if at_once else [said("created"), end]
    _, failed = ended(play_of(PROVIDER, ask_of("text-to-image")), script)
    assert isinstance(failed, Failed)
    assert (failed.status, failed.code, failed.message) == (status, code, message)


@pytest.mark.parametrize(
    "reply",
    [
        {},
        [],
        {"code": 200},
        {"code": 200, "data": None},
        said("completed"),
        said("completed", outputs=[None]),
        said("completed", outputs=None),
        said("created", urls={}),
        said("created", urls={"get": "@evil.example"}),
    ],
)
def test_an_answer_without_a_file_or_a_way_to_it_is_none(reply: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        drive(play_of(PROVIDER, ask_of("text-to-image")), [reply])


@pytest.mark.parametrize("task", sorted(tasks_of_the_hub("wavespeed")))
def test_the_official_client_gets_the_same_file_out_of_the_same_answers(
    monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.setattr(helpers, "_POLLING_INTERVAL", 0)
    done = said("completed", outputs=["{here}/media", "{here}/other"])
    with canned({"/api/v3/predictions/t1/result": done, "/media": PNG}) as here:
        assert theirs_of("wavespeed", task, said("created"), here) == PNG
        inputs = JPEG if task.startswith("image") else "a cat"
        script = [said("created"), said("completed", outputs=[f"{here}/media", f"{here}/other"])]
        _, result = drive(play_of(PROVIDER, ask_of(task, inputs)), script)
        assert result.value == Fetch(f"{here}/media")
