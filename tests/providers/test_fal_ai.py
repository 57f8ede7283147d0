"""fal: the same first request as huggingface_hub's, and the queue driven by hand to every end that it can have."""

import base64
import json
from typing import Any

import pytest
from huggingface_hub.inference._common import MimeBytes

from providers.fal_ai import EVERY, PLAYS, PROVIDER, QUEUE
from providers.spec import Ask, Blob, Failed, Fetch, Link, Send, Wait
from tests.providers.canned import canned
from tests.providers.compared import JPEG, PNG, WAV, ask_of, ours, tasks_of_the_hub, theirs, theirs_of
from tests.providers.driving import drive, ended, play_of

APP = "https://queue.fal.run/fal-ai/app/requests/r1"
TICKET = {
    "request_id": "r1",
    "status": "IN_QUEUE",
    "queue_position": 3,
    "response_url": APP,
    "status_url": f"{APP}/status",
    "cancel_url": f"{APP}/cancel",
}
VIDEO = {"video": {"url": "https://v3.fal.media/files/a/b.mp4", "content_type": "video/mp4"}}
CANCEL = Send("/fal-ai/app/requests/r1/cancel", method="PUT", origin=QUEUE, safe=True)

TAKING_A_FILE = {task for task in PLAYS if not task.startswith(("text-to", "image-text-to"))}

CALLS: list[tuple[str, Any, dict[str, Any]]] = [
    ("text-to-image", "a cat", {}),
    ("text-to-image", "a cat", {"width": 512, "height": 768, "num_inference_steps": 4, "negative_prompt": "dog"}),
    ("text-to-image", "a cat", {"width": 512, "seed": 7, "scheduler": "x", "loras": [{"path": "p"}]}),
    ("text-to-image", "a cat", {"image_size": "square_hd", "sync_mode": True, "prompt": "another"}),
    ("image-to-image", JPEG, {"prompt": "make it blue", "guidance_scale": 2.5}),
    ("image-to-image", JPEG, {"target_size": {"width": 512, "height": 512}, "image_urls": ["https://example.com/a"]}),
    ("image-segmentation", PNG, {}),
    ("image-segmentation", PNG, {"threshold": 0.5, "sync_mode": False}),
    ("automatic-speech-recognition", WAV, {}),
    ("automatic-speech-recognition", WAV, {"language": "en", "chunk_level": "word"}),
    ("text-to-speech", "hi", {"voice": "v1"}),
    ("text-to-video", "a cat", {"num_frames": 16, "negative_prompt": ["dog"], "seed": 7}),
    ("image-to-video", JPEG, {"prompt": "move", "target_size": {"width": 512, "height": 512}}),
]


@pytest.mark.parametrize(("task", "inputs", "parameters"), CALLS)
def test_the_official_client_would_send_the_same(
    monkeypatch: pytest.MonkeyPatch, task: str, inputs: Any, parameters: dict[str, Any]
) -> None:
    call = ("fal-ai", task, inputs, parameters, "fal-ai/some/app")
    assert ours(*call) == theirs(monkeypatch, *call)


@pytest.mark.parametrize("task", ["text-to-image", "image-to-image", "text-to-video", "image-to-video"])
@pytest.mark.parametrize("provider_id", ["fal-ai/lora", "fal-ai/flux-lora"])
def test_the_official_client_would_send_the_same_for_a_lora(
    monkeypatch: pytest.MonkeyPatch, task: str, provider_id: str
) -> None:
    inputs = JPEG if task.startswith("image") else "a cat"
    call = ("fal-ai", task, inputs, {"prompt": "x", "loras": []}, provider_id, "weights/lora.safetensors")
    assert ours(*call) == theirs(monkeypatch, *call)


def test_every_task_of_the_official_client_is_compared_and_the_others_are_huggingface_jss() -> None:
    assert {task for task, _, _ in CALLS} == tasks_of_the_hub("fal-ai")
    of_js = {"text-to-audio", "audio-to-audio", "image-text-to-image", "image-text-to-video"}
    assert set(PLAYS) - tasks_of_the_hub("fal-ai") == of_js


@pytest.mark.parametrize(
    "provider_id", ["fal-ai/app", "fal-ai/../app/edit", "fal-ai/a b/edit", "//app/edit", "a/b/c?d"]
)
def test_only_a_plain_id_has_an_app_above_it(provider_id: str) -> None:
    step = next(play_of(PROVIDER, ask_of("image-text-to-image", None, {"prompt": "a cat"}, provider_id)))
    assert isinstance(step, Send) and step.path == "/{id}", "a place where what may go there is checked"


@pytest.mark.parametrize("task", ["image-to-image", "image-to-video", "image-segmentation"])
def test_an_image_is_called_what_it_is(monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    for image, mime in ((PNG, "image/png"), (JPEG, "image/jpeg"), (b"GIF89a", "image/gif")):
        # The helper believes a file's name and calls nameless bytes JPEG or PNG; we look at the bytes.
        assert ours("fal-ai", task, image, {}) == theirs(monkeypatch, "fal-ai", task, MimeBytes(image, mime), {})


@pytest.mark.parametrize("task", ["image-to-image", "image-to-video", "image-segmentation"])
def test_an_image_that_the_caller_names_is_fals_to_fetch(monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    url = "https://example.com/cat.png"
    assert ours("fal-ai", task, Link(url), {}) == theirs(monkeypatch, "fal-ai", task, url, {})


@pytest.mark.parametrize("task", sorted(TAKING_A_FILE))
def test_a_task_of_a_file_without_one_is_refused_before_anything_is_sent(task: str) -> None:
    steps, end = ended(play_of(PROVIDER, ask_of(task, "a cat")))
    assert not steps and isinstance(end, Failed) and end.status == 400


def test_a_files_parameter_goes_as_a_url() -> None:
    ask = Ask("image-to-image", Blob(JPEG), {"mask_url": Blob(PNG), "others": [Link("https://example.com/a")]})
    step = next(play_of(PROVIDER, ask))
    assert isinstance(step, Send) and step.body is not None
    assert b'"mask_url":"data:image/png;base64,' in step.body and b'"others":["https://example.com/a"]' in step.body


def test_a_slow_job_is_looked_at_again_and_again_and_can_be_cancelled_all_the_while() -> None:
    play = play_of(PROVIDER, ask_of("text-to-video"))
    states = [{"status": "IN_QUEUE"}, {"status": "IN_PROGRESS", "logs": None}, {"status": "COMPLETED"}]
    steps, result = drive(play, [TICKET, *states, VIDEO])
    look = Send("/fal-ai/app/requests/r1/status", method="GET", origin=QUEUE, safe=True)
    wait = Wait(EVERY, CANCEL)
    fetched = Send("/fal-ai/app/requests/r1", method="GET", origin=QUEUE, safe=True)
    assert steps[1:] == [wait, look, wait, look, wait, look, fetched]
    assert result.value == Fetch("https://v3.fal.media/files/a/b.mp4", "video/mp4")


def test_a_job_of_hours_keeps_nothing_of_its_past() -> None:
    play = play_of(PROVIDER, ask_of("text-to-video"))
    steps, _ = drive(play, [TICKET, *[{"status": "IN_PROGRESS"}] * 20_000, {"status": "COMPLETED"}, VIDEO])
    assert len(steps) == 2 * 20_001 + 2


def test_a_job_that_is_done_when_it_is_asked_for_is_not_waited_for() -> None:
    steps, _ = drive(play_of(PROVIDER, ask_of("text-to-video")), [TICKET | {"status": "COMPLETED"}, VIDEO])
    assert not [step for step in steps if isinstance(step, Wait)]


def test_a_ticket_without_all_its_urls_is_enough() -> None:
    ticket = {name: value for name, value in TICKET.items() if name not in ("status_url", "cancel_url")}
    whole, _ = drive(play_of(PROVIDER, ask_of("text-to-video")), [TICKET, {"status": "COMPLETED"}, VIDEO])
    steps, _ = drive(play_of(PROVIDER, ask_of("text-to-video")), [ticket, {"status": "COMPLETED"}, VIDEO])
    assert steps == whole


@pytest.mark.parametrize(
    "host", ["https://evil.example", "http://169.254.169.254", "https://queue.fal.run@evil.example"]
)
def test_the_key_follows_no_ticket_to_another_host(host: str) -> None:
    ticket = TICKET | {name: f"{host}/fal-ai/{name}" for name in ("response_url", "status_url", "cancel_url")}
    steps, _ = drive(play_of(PROVIDER, ask_of("text-to-video")), [ticket, {"status": "COMPLETED"}, VIDEO])
    sent = [step for step in steps if isinstance(step, Send)]
    sent += [step.undo for step in steps if isinstance(step, Wait) and step.undo is not None]
    assert all(step.origin == QUEUE and step.path.startswith("/") for step in sent)
    assert [step.path for step in sent[1:]] == ["/fal-ai/status_url", "/fal-ai/response_url", "/fal-ai/cancel_url"]


@pytest.mark.parametrize("url", ["", "@evil.example/a", "evil.example/a", 7, None, {"a": 1}])
def test_a_ticket_that_names_no_path_is_no_ticket(url: Any) -> None:
    with pytest.raises(ValueError, match="no URL"):
        drive(play_of(PROVIDER, ask_of("text-to-video")), [TICKET | {"response_url": url}])


def test_a_path_of_a_ticket_holds_nothing_that_means_something_here() -> None:
    odd = "https://queue.fal.run/a/{id}/ü b\r\nx: y/r1?secret=1#f"
    steps, _ = drive(
        play_of(PROVIDER, ask_of("text-to-video")), [TICKET | {"response_url": odd, "status": "COMPLETED"}, VIDEO]
    )
    assert isinstance(steps[1], Send) and steps[1].path == "/a/%7Bid%7D/%C3%BC%20bx:%20y/r1"


def failed(detail: Any, task: str = "text-to-video") -> Failed:
    _, end = ended(play_of(PROVIDER, ask_of(task)), [TICKET, {"status": "COMPLETED"}, {"detail": detail}])
    assert isinstance(end, Failed)
    return end


def error(kind: str) -> dict[str, Any]:
    return {"loc": ["body", "prompt"], "msg": "No.", "type": kind, "url": "https://docs.fal.ai/errors/#x"}


@pytest.mark.parametrize(
    ("detail", "status", "code", "message"),
    [
        ("Request timed out", 502, "job_failed", "Request timed out"),
        ([error("internal_server_error")], 502, "job_failed", "No."),
        ([error("downstream_service_error"), error("image_too_large")], 502, "job_failed", "No.; No."),
        ([error("content_policy_violation")], 400, "content_policy_violation", "No."),
        ([error("image_too_large")], 422, "invalid_request", "No."),
        ({"odd": 1}, 502, "job_failed", "{'odd': 1}"),
        (["odd"], 502, "job_failed", "['odd']"),
    ],
)
def test_a_job_that_failed_is_no_answer_although_it_is_completed(
    detail: Any, status: int, code: str, message: str
) -> None:
    end = failed(detail)
    assert (end.status, end.code, end.message) == (status, code, message)


def test_what_a_state_says_of_a_failure_is_said_where_its_result_says_nothing() -> None:
    state = {"status": "COMPLETED", "error": "Runner disconnected", "error_type": "runner_disconnected"}
    _, end = ended(play_of(PROVIDER, ask_of("text-to-video")), [TICKET, state, {}])
    assert isinstance(end, Failed) and (end.status, end.message) == (502, "Runner disconnected")


def test_a_refusal_at_once_is_one_too() -> None:
    _, end = ended(play_of(PROVIDER, ask_of("text-to-image")), [{"detail": [error("content_policy_violation")]}])
    assert isinstance(end, Failed) and end.code == "content_policy_violation"


def test_a_black_image_is_what_fal_answers_and_so_do_we() -> None:
    image = {"images": [{"url": "https://v3.fal.media/a.png"}], "has_nsfw_concepts": [True]}
    _, result = drive(play_of(PROVIDER, ask_of("text-to-image")), [image])
    assert result.value == Fetch("https://v3.fal.media/a.png")


@pytest.mark.parametrize(
    "reply", [{}, {"images": []}, {"images": [{}]}, {"images": None}, {"images": [{"url": ""}]}, []]
)
def test_an_answer_without_an_image_is_none(reply: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        drive(play_of(PROVIDER, ask_of("text-to-image")), [reply])


def test_an_image_inside_the_answer_is_read_in_place() -> None:
    image = {"images": [{"url": "data:image/png;base64,iVBORw0KGgo=", "content_type": "image/png"}]}
    _, result = drive(play_of(PROVIDER, ask_of("text-to-image", "a cat", {"sync_mode": True})), [image])
    assert result.value == Fetch("data:image/png;base64,iVBORw0KGgo=", "image/png")


def test_the_official_client_reads_the_same_transcription() -> None:
    reply = {"text": "hello", "inferred_languages": ["en"]}
    _, result = drive(play_of(PROVIDER, ask_of("automatic-speech-recognition", WAV)), [reply])
    assert result.value == theirs_of("fal-ai", "automatic-speech-recognition", reply)


def test_segments_are_chunks_and_a_transcription_may_be_called_output() -> None:
    reply = {"output": "hello", "segments": [{"start": 0.0, "end": 1.5, "text": "hello", "speaker": "a"}]}
    _, result = drive(play_of(PROVIDER, ask_of("automatic-speech-recognition", WAV)), [reply])
    assert result.value == {"text": "hello", "chunks": [{"text": "hello", "timestamp": [0.0, 1.5]}]}


MEDIA: list[tuple[str, bool, dict[str, Any]]] = [
    ("text-to-image", False, {"images": [{"url": "{here}/media"}, {"url": "{here}/other"}]}),
    ("image-to-image", True, {"images": [{"url": "{here}/media", "content_type": "image/png"}]}),
    ("image-segmentation", True, {"image": {"url": "{here}/media"}}),
    ("image-segmentation", True, {"image": {"url": "data:image/png;base64," + base64.b64encode(PNG).decode()}}),
    ("text-to-speech", False, {"audio": {"url": "{here}/media"}}),
    ("text-to-video", True, {"video": {"url": "{here}/media"}}),
    ("image-to-video", True, {"video": {"url": "{here}/media"}}),
]


@pytest.mark.parametrize(("task", "queued", "answer"), MEDIA)
def test_the_official_client_gets_the_same_out_of_the_same_answers(
    task: str, queued: bool, answer: dict[str, Any]
) -> None:
    ticket = TICKET | {"status": "COMPLETED"}
    with canned({"/fal-ai/app/requests/r1": answer, "/media": PNG}) as here:
        there = json.loads(json.dumps(answer).replace("{here}", here))
        theirs = theirs_of("fal-ai", task, ticket if queued else there, here)
        script = [ticket, there] if queued else [there]
        script += [PNG] if task == "image-segmentation" else []
        _, result = drive(play_of(PROVIDER, ask_of(task, PNG if task.startswith("image") else "a cat")), script)
        assert result.value == (theirs if task == "image-segmentation" else Fetch(f"{here}/media", mime_in(answer)))
        assert task == "image-segmentation" or theirs == PNG


def mime_in(answer: dict[str, Any]) -> str:
    return "image/png" if "content_type" in json.dumps(answer) else ""


def test_sound_is_given_as_the_hub_gives_it() -> None:
    audio = {"audio": {"url": "https://v3.fal.media/a"}, "text": "clear"}
    play = play_of(PROVIDER, ask_of("audio-to-audio", WAV))
    _, result = drive(play, [TICKET | {"status": "COMPLETED"}, audio, WAV])
    assert result.value == [{"label": "clear", "content-type": "audio/wav", "blob": base64.b64encode(WAV).decode()}]
