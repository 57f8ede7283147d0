"""Z.ai: the same first request as huggingface_hub's, jobs driven to every end, and errors that come with 200."""

import json
from typing import Any

import pytest
from huggingface_hub.inference._providers import zai_org as helpers

from providers.spec import Failed, Fetch, Link, Send, Wait
from providers.zai_org import EVERY, PROVIDER
from tests.providers.canned import canned
from tests.providers.compared import JPEG, PNG, ask_of, ours, tasks_of_the_hub, theirs, theirs_of
from tests.providers.driving import drive, ended, play_of

LOOK = Send("/api/paas/v4/async-result/j1", method="GET", safe=True)
BEGUN = {"id": "j1", "request_id": "r1", "model": "glm-image", "task_status": "PROCESSING"}
DONE = BEGUN | {"task_status": "SUCCESS", "image_result": [{"url": "https://mfile.z.ai/a.png"}]}
IMAGE = Fetch("https://mfile.z.ai/a.png")


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"width": 512, "height": 768, "num_inference_steps": 4, "guidance_scale": 3.5, "negative_prompt": "dog"},
        {"seed": 7, "size": "1024x1024", "quality": "hd", "prompt": "another"},
    ],
)
def test_the_official_client_would_send_the_same(monkeypatch: pytest.MonkeyPatch, parameters: dict[str, Any]) -> None:
    call = ("zai-org", "text-to-image", "a cat", parameters, "glm-image")
    assert ours(*call) == theirs(monkeypatch, *call)


def test_half_a_size_is_z_ais_to_refuse_where_the_official_client_drops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    call = ("zai-org", "text-to-image", "a cat", {"width": 512})
    sent, expected = ours(*call), theirs(monkeypatch, *call)
    assert sent["body"].pop("width") == 512
    assert sent == expected


def test_it_has_every_task_of_the_official_client_and_one_of_huggingface_jss() -> None:
    assert PROVIDER.tasks() - tasks_of_the_hub("zai-org") == {"image-to-text"}
    assert tasks_of_the_hub("zai-org") <= PROVIDER.tasks()


def test_the_official_client_gets_the_same_image_out_of_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, "_POLLING_INTERVAL", 0)
    done = DONE | {"image_result": [{"url": "{here}/media"}]}
    with canned({"/app/api/paas/v4/async-result/j1": done, "/media": PNG}) as here:
        assert theirs_of("zai-org", "text-to-image", BEGUN, here) == PNG
        there = json.loads(json.dumps(done).replace("{here}", here))
        _, result = drive(play_of(PROVIDER, ask_of("text-to-image")), [BEGUN, there])
        assert result.value == Fetch(f"{here}/media")


def test_a_slow_job_is_looked_at_again_and_again() -> None:
    steps, result = drive(play_of(PROVIDER, ask_of("text-to-image")), [BEGUN, BEGUN, BEGUN, DONE])
    assert steps[1:] == [Wait(EVERY), LOOK] * 3
    assert result.value == IMAGE


def test_a_job_that_is_done_at_once_is_not_asked_for_again() -> None:
    steps, result = drive(play_of(PROVIDER, ask_of("text-to-image")), [DONE])
    assert len(steps) == 1 and result.value == IMAGE


def test_an_id_stays_below_the_path_of_jobs() -> None:
    steps, _ = drive(play_of(PROVIDER, ask_of("text-to-image")), [BEGUN | {"id": "../{id}?a"}, DONE])
    assert isinstance(steps[2], Send) and steps[2].path == "/api/paas/v4/async-result/..%2F%7Bid%7D%3Fa"


@pytest.mark.parametrize("at_once", [True, False])
def test_a_job_that_failed_fails(at_once: bool) -> None:
    job = BEGUN | {"task_status": "FAIL"}
    _, end = ended(play_of(PROVIDER, ask_of("text-to-image")), [job] if at_once else [BEGUN, job])
    assert isinstance(end, Failed) and (end.status, end.code) == (502, "job_failed")


def test_a_job_that_is_forgotten_before_its_end_is_an_error_in_its_words() -> None:
    _, end = ended(play_of(PROVIDER, ask_of("text-to-image")), [BEGUN, BEGUN, {"error": {"message": "Task expired"}}])
    assert isinstance(end, Failed) and (end.status, end.code, end.message) == (502, "job_failed", "Task expired")


@pytest.mark.parametrize("task", ["text-to-image", "image-to-text"])
@pytest.mark.parametrize(
    ("number", "status", "code"),
    [
        ("1113", 429, "insufficient_quota"),
        (1113, 429, "insufficient_quota"),
        ("1302", 429, "rate_limit_exceeded"),
        ("1214", 400, "invalid_request"),
        ("1301", 400, "content_policy_violation"),
        ("1001", 401, "invalid_api_key"),
        ("1112", 403, "permission_denied"),
        ("1211", 404, "model_not_found"),
        ("500", 502, "job_failed"),
        (None, 502, "job_failed"),
    ],
)
def test_an_error_with_200_is_the_error_that_its_number_means(task: str, number: Any, status: int, code: str) -> None:
    reply = {"error": {"code": number, "message": "No."}}
    _, end = ended(play_of(PROVIDER, ask_of(task, PNG if task == "image-to-text" else "a cat")), [reply])
    assert isinstance(end, Failed)
    assert (end.status, end.code, end.message) == (status, code, "No.")


@pytest.mark.parametrize(
    "reply", [{}, [], {"id": "j1"}, {"task_status": "SUCCESS"}, DONE | {"image_result": []}, {"error": "odd"}]
)
def test_an_answer_without_a_job_or_an_image_is_none(reply: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        drive(play_of(PROVIDER, ask_of("text-to-image")), [reply])


def test_a_document_goes_as_it_is_and_comes_back_as_markdown() -> None:
    for image, url in (
        (PNG, "data:image/png;base64,iVBORw0KGgowMDAw"),
        (b"odd", "data:image/png;base64,b2Rk"),
        (b"%PDF-1.7", "data:application/pdf;base64,JVBERi0xLjc="),
        (Link("https://example.com/a.pdf"), "https://example.com/a.pdf"),
    ):
        assert ours("zai-org", "image-to-text", image, {"end_page_id": 3}, "glm-ocr") == {
            "method": "POST",
            "url": "https://api.z.ai/api/paas/v4/layout_parsing",
            "headers": {
                "authorization": "Bearer KEY",
                "accept-language": "en-US,en",
                "x-source-channel": "hugging_face",
            },
            "body": {"model": "glm-ocr", "file": url, "end_page_id": 3},
        }
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    reply = {"id": "t1", "md_results": "# Title", "layout_details": [], "usage": usage}
    _, result = drive(play_of(PROVIDER, ask_of("image-to-text", JPEG)), [reply])
    assert result.value == {"generated_text": "# Title"} and result.usage == usage


def test_a_text_is_no_document() -> None:
    steps, end = ended(play_of(PROVIDER, ask_of("image-to-text", "a cat")))
    assert not steps and isinstance(end, Failed) and end.status == 400


@pytest.mark.parametrize("reply", [{}, [], {"md_results": None}, {"md_results": ["a"]}])
def test_an_answer_without_a_text_is_none(reply: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        drive(play_of(PROVIDER, ask_of("image-to-text", PNG)), [reply])
