"""Replicate: the same first request as huggingface_hub's, and predictions driven by hand to every end they can have."""

import json
from typing import Any

import pytest
from huggingface_hub.inference._common import MimeBytes

from providers.replicate import EVERY, PLAYS, PROVIDER
from providers.spec import Failed, Fetch, Link, Reply, Send, Wait
from tests.providers.canned import canned
from tests.providers.compared import JPEG, PNG, WAV, ask_of, ours, tasks_of_the_hub, theirs, theirs_of
from tests.providers.driving import drive, ended, play_of

URLS = {
    "get": "https://api.replicate.com/v1/predictions/p1",
    "cancel": "https://api.replicate.com/v1/predictions/p1/cancel",
    "stream": "https://stream.replicate.com/v1/files/x",
}
STARTING = {"id": "p1", "status": "starting", "output": None, "error": None, "urls": URLS}
DONE = {"id": "p1", "status": "succeeded", "output": "https://replicate.delivery/x/out.png"}
LOOK = Send("/v1/predictions/p1", method="GET", safe=True)
WAIT = Wait(EVERY, Send("/v1/predictions/p1/cancel", safe=True))

CALLS: list[tuple[str, Any, dict[str, Any]]] = [
    ("text-to-image", "a cat", {}),
    ("text-to-image", "a cat", {"width": 512, "height": 768, "num_inference_steps": 4, "negative_prompt": "dog"}),
    ("text-to-image", "a cat", {"prompt": "another", "lora_weights": "x"}),
    ("image-to-image", JPEG, {"prompt": "make it blue", "guidance_scale": 2.5}),
    ("image-to-image", JPEG, {"image": "https://example.com/a.png"}),
    ("automatic-speech-recognition", WAV, {}),
    ("automatic-speech-recognition", WAV, {"language": "en"}),
    ("text-to-speech", "hi", {"voice": "v1"}),
    ("text-to-video", "a cat", {"num_frames": 16, "negative_prompt": ["dog"], "seed": 7}),
]
IDS = ["owner/name", "owner/name:0123abcd", "owner/name:a:b"]


@pytest.mark.parametrize("provider_id", IDS)
@pytest.mark.parametrize(("task", "inputs", "parameters"), CALLS)
def test_the_official_client_would_send_the_same(
    monkeypatch: pytest.MonkeyPatch, task: str, inputs: Any, parameters: dict[str, Any], provider_id: str
) -> None:
    call = ("replicate", task, inputs, parameters, provider_id)
    assert ours(*call) == theirs(monkeypatch, *call)


def test_every_task_of_the_official_client_is_compared() -> None:
    assert {task for task, _, _ in CALLS} == tasks_of_the_hub("replicate") == set(PLAYS)


@pytest.mark.parametrize("provider_id", IDS)
def test_the_official_client_would_send_the_same_for_a_lora(monkeypatch: pytest.MonkeyPatch, provider_id: str) -> None:
    call = ("replicate", "text-to-image", "a cat", {"lora_weights": "x"}, provider_id, "lora.safetensors")
    assert ours(*call) == theirs(monkeypatch, *call)


def test_an_image_of_a_lora_is_the_loras_which_the_official_client_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    call = ("replicate", "image-to-image", JPEG, {"prompt": "x"}, "owner/name", "lora.safetensors")
    sent = ours(*call)
    assert sent["body"]["input"].pop("lora_weights") == "https://huggingface.co/org/model"
    assert sent == theirs(monkeypatch, *call)


def test_a_file_is_called_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for task, data, mime in (
        ("image-to-image", PNG, "image/png"),
        ("image-to-image", JPEG, "image/jpeg"),
        ("automatic-speech-recognition", b"fLaC", "audio/flac"),
    ):
        # The helper believes a file's name and calls nameless bytes JPEG or WAV; we look at the bytes.
        assert ours("replicate", task, data, {}) == theirs(monkeypatch, "replicate", task, MimeBytes(data, mime), {})


@pytest.mark.parametrize("task", ["image-to-image", "automatic-speech-recognition"])
def test_a_file_that_the_caller_names_is_replicates_to_fetch(monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    url = "https://example.com/cat.png"
    assert ours("replicate", task, Link(url), {}) == theirs(monkeypatch, "replicate", task, url, {})


@pytest.mark.parametrize("task", ["image-to-image", "automatic-speech-recognition"])
def test_a_task_of_a_file_without_one_is_refused_before_anything_is_sent(task: str) -> None:
    steps, end = ended(play_of(PROVIDER, ask_of(task, "a cat")))
    assert not steps and isinstance(end, Failed) and end.status == 400


def test_a_prediction_within_the_minute_is_one_request() -> None:
    steps, result = drive(play_of(PROVIDER, ask_of("text-to-image")), [Reply(201, {}, json.dumps(DONE).encode())])
    assert len(steps) == 1
    assert result.value == Fetch("https://replicate.delivery/x/out.png")


def test_a_cold_model_is_waited_for_beyond_the_minute_and_can_be_cancelled_all_the_while() -> None:
    processing = STARTING | {"status": "processing"}
    steps, result = drive(play_of(PROVIDER, ask_of("text-to-video")), [STARTING, STARTING, processing, DONE])
    assert steps[1:] == [WAIT, LOOK, WAIT, LOOK, WAIT, LOOK]
    assert result.value == Fetch("https://replicate.delivery/x/out.png")


@pytest.mark.parametrize("output", [DONE["output"], [DONE["output"]], [DONE["output"], "https://replicate.delivery/2"]])
def test_a_file_that_is_there_is_not_waited_for(output: Any) -> None:
    processing = STARTING | {"status": "processing", "output": output}
    steps, result = drive(play_of(PROVIDER, ask_of("text-to-image")), [processing])
    assert len(steps) == 1 and result.value == Fetch("https://replicate.delivery/x/out.png")


@pytest.mark.parametrize("output", [[], "", None])
def test_an_output_of_nothing_is_waited_for_while_the_prediction_runs(output: Any) -> None:
    processing = STARTING | {"status": "processing", "output": output}
    steps, _ = drive(play_of(PROVIDER, ask_of("text-to-image")), [processing, DONE])
    assert steps[1:] == [WAIT, LOOK]


def test_a_text_that_comes_in_pieces_is_waited_for_to_its_end() -> None:
    first = STARTING | {"status": "processing", "output": ["hello"]}
    last = STARTING | {"status": "succeeded", "output": ["hello", " world"]}
    _, result = drive(play_of(PROVIDER, ask_of("automatic-speech-recognition", WAV)), [first, last])
    assert result.value == {"text": "hello world"}


@pytest.mark.parametrize(
    "host", ["https://evil.example", "http://169.254.169.254", "https://api.replicate.com@evil.example"]
)
def test_the_key_follows_no_prediction_to_another_host(host: str) -> None:
    urls = {"get": f"{host}/v1/predictions/p1", "cancel": f"{host}/v1/predictions/p1/cancel"}
    steps, _ = drive(play_of(PROVIDER, ask_of("text-to-image")), [STARTING | {"urls": urls}, DONE])
    assert steps[1:] == [WAIT, LOOK]


@pytest.mark.parametrize("urls", [{}, {"get": None}, {"get": "@evil.example"}, None, []])
def test_a_prediction_that_cannot_be_asked_after_is_no_answer(urls: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        drive(play_of(PROVIDER, ask_of("text-to-image")), [STARTING | {"urls": urls}])


def test_a_prediction_that_cannot_be_cancelled_is_looked_after_all_the_same() -> None:
    steps, _ = drive(play_of(PROVIDER, ask_of("text-to-image")), [STARTING | {"urls": {"get": URLS["get"]}}, DONE])
    assert steps[1:] == [Wait(EVERY), LOOK]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("end", "status", "code", "message"),
    [
        ({"status": "failed", "error": "CUDA out of memory"}, 502, "job_failed", "CUDA out of memory"),
        ({"status": "failed", "error": None}, 502, "job_failed", "The prediction ended as failed."),
        ({"status": "canceled"}, 502, "job_failed", "The prediction ended as canceled."),
        ({"status": "aborted", "error": ""}, 502, "job_failed", "The prediction ended as aborted."),
        (
            {"status": "failed", "error": "NSFW content detected. Try a different prompt."},
            400,
            "content_policy_violation",
            "NSFW content detected. Try a different prompt.",
        ),
    ],
)
def test_a_prediction_that_failed_says_why(
    at_once: bool, end: dict[str, Any], status: int, code: str, message: str
) -> None:
    script = [STARTING | end] if at_once else [STARTING, STARTING | end]
    _, failed = ended(play_of(PROVIDER, ask_of("text-to-image")), script)
    assert isinstance(failed, Failed)
    assert (failed.status, failed.code, failed.message) == (status, code, message)


@pytest.mark.parametrize("output", [None, [], "", {}, 7, [7], {"a": 7}])
def test_a_prediction_that_succeeded_with_nothing_is_no_image(output: Any) -> None:
    with pytest.raises(ValueError, match="no URL"):
        drive(play_of(PROVIDER, ask_of("text-to-image")), [DONE | {"output": output}])


def test_a_file_may_stand_in_an_object() -> None:
    output = {"seed": 7, "prompt_npz": None, "audio_out": "https://replicate.delivery/x/a.wav"}
    _, result = drive(play_of(PROVIDER, ask_of("text-to-speech")), [DONE | {"output": output}])
    assert result.value == Fetch("https://replicate.delivery/x/a.wav")


@pytest.mark.parametrize("task", ["text-to-image", "image-to-image", "text-to-speech", "text-to-video"])
@pytest.mark.parametrize("output", ["{here}/media", ["{here}/media", "{here}/other"]])
def test_the_official_client_gets_the_same_file_out_of_the_same_answer(task: str, output: Any) -> None:
    with canned({"/media": PNG}) as here:
        reply = json.loads(json.dumps(DONE | {"output": output}).replace("{here}", here))
        assert theirs_of("replicate", task, reply) == PNG
        _, result = drive(play_of(PROVIDER, ask_of(task, JPEG if task.startswith("image") else "a cat")), [reply])
        assert result.value == Fetch(f"{here}/media")


@pytest.mark.parametrize(
    "output",
    [
        "hello",
        ["hello"],
        {"transcription": "hello"},
        {"translation": "hello", "transcription": "bonjour"},
        {"translation": None, "transcription": "hello"},
        [{"transcription": "hello"}],
        {"txt_file": "{here}/text", "transcription": "unused"},
    ],
)
def test_the_official_client_reads_the_same_transcription(output: Any) -> None:
    with canned({"/text": b"hello from a file"}) as here:
        reply = json.loads(json.dumps(DONE | {"output": output}).replace("{here}", here))
        script = [reply] + ([b"hello from a file"] if "txt_file" in output else [])
        _, result = drive(play_of(PROVIDER, ask_of("automatic-speech-recognition", WAV)), script)
        assert result.value == theirs_of("replicate", "automatic-speech-recognition", reply)


def test_a_transcription_has_its_pieces_with_their_times() -> None:
    chunks = [{"text": "hello", "timestamp": [0.0, 1.5]}]
    for output in (
        {"text": "hello", "chunks": chunks},
        {"transcription": "hello", "segments": [{"start": 0.0, "end": 1.5, "text": "hello", "id": 0}]},
    ):
        _, result = drive(play_of(PROVIDER, ask_of("automatic-speech-recognition", WAV)), [DONE | {"output": output}])
        assert result.value == {"text": "hello", "chunks": chunks}


@pytest.mark.parametrize("output", [None, {}, {"transcription": None}, 7, [{"a": 1}], [7]])
def test_an_output_without_text_is_no_transcription(output: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        drive(play_of(PROVIDER, ask_of("automatic-speech-recognition", WAV)), [DONE | {"output": output}])


def test_silence_is_an_empty_transcription() -> None:
    _, result = drive(play_of(PROVIDER, ask_of("automatic-speech-recognition", WAV)), [DONE | {"output": ""}])
    assert result.value == {"text": ""}
