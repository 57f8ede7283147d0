"""What a passage comes to as a Call, what an upstream's own ids are known as, and what is read of answers going by."""

import asyncio
import json
from typing import Any

import pytest

import providers
from router import metering, naming
from router.bounds import LimitSettings
from router.call import Call
from router.endpoints import PASSED_THROUGH
from router.estimates import estimate_input, most_output
from router.identity import Identity
from router.metering import Events, Kept, Meter
from router.naming import Known, Register
from router.routing import Deployment, DeploymentSettings, Place, RouteSettings, Row, Table, build
from router.story import Story
from router.units import asked
from router.upstream.answer import Answer

FORM = (
    b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper\r\n'
    b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n%b\r\n--b--\r\n'
)
WAV = (
    b"RIFF" + (36 + 32000).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little") + b"\1\0\1\0"
    + (16000).to_bytes(4, "little") + (32000).to_bytes(4, "little") + b"\2\0\x10\0data"
    + (32000).to_bytes(4, "little") + bytes(32000)
)  # fmt: skip


def known(task: str = "*", named: str = "vendor/m", **more: Any) -> Known:
    return Known(Deployment("up", named, Row(named), **more), ("org/m",), (), task)


def story() -> Story:
    return Story("r", PASSED_THROUGH, 0.0)


def call(path: str, body: Any, at: Known | None = None, mime: str = "application/json") -> Call:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return metering.asked(story(), Identity("alice"), path, data, mime, at or known(), 0.0)


def meter(made: Call, at: Known | None = None) -> tuple[Meter, Story]:
    provider = providers.find("together")
    assert provider is not None
    told = story()
    told.intended = True
    plan = metering.planned(made, [(Place("up", provider, False), at or known())])
    return Meter(made, plan.attempts[0], told), told


class Nowhere:
    def abort(self) -> None: ...
    def resume(self) -> None: ...


def answer(kind: bytes) -> Answer:
    loop = asyncio.new_event_loop()
    loop.close()
    found = Answer(Nowhere(), loop, 0.0, 0.0)
    found.fields = {b"content-type": kind}
    return found


@pytest.mark.parametrize(
    ("path", "body", "task", "stream"),
    [
        ("/v1/chat/completions", {"messages": [], "stream": True}, "conversational", True),
        ("/openai/v1/chat/completions/", {"messages": []}, "conversational", False),
        ("/v1/completions", {"prompt": "a"}, "text-generation", False),
        ("/v1/images/generations", {"prompt": "a"}, "text-to-image", False),
        ("/vendor/m", {"prompt": "a"}, "text-to-video", False),
        ("/anything", {"messages": []}, "text-to-video", False),
        ("/hf/pipeline/text-classification", {"inputs": "a"}, "text-classification", False),
        ("/models/m/generate_stream", {"inputs": "a"}, "text-generation", True),
    ],
)
def test_the_place_says_what_it_is_for_then_the_model_s_row(path: str, body: Any, task: str, stream: bool) -> None:
    made = call(path, body, known("text-to-video"))
    assert (made.endpoint.task, made.stream) == (task, stream)


def test_what_nobody_says_the_task_of_is_taken_for_text() -> None:
    assert call("/x", {"messages": []}).endpoint.task == "conversational"
    assert call("/x", {"question": "why?"}).endpoint.task == "text-generation"
    assert estimate_input(call("/x", {"question": "x" * 400})) > 100


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({"messages": [], "max_tokens": 7}, 7),
        ({"messages": [], "max_completion_tokens": 8, "n": 3}, 24),
        ({"inputs": "a", "parameters": {"max_new_tokens": 9}}, 9),
        ({"messages": []}, 4096),
    ],
)
def test_the_most_that_is_asked_for_is_read_by_the_names_in_use(body: Any, most: int) -> None:
    made = call("/v1/chat/completions", body)
    provider = providers.find("together")
    assert provider is not None
    [candidate] = metering.planned(made, [(Place("up", provider, False), known())]).attempts
    assert most_output(made, candidate) == most


@pytest.mark.parametrize(
    ("path", "body", "task", "pieces"),
    [
        ("/v1/models/vendor/m/predictions", {"input": {"prompt": "a", "num_outputs": 4}}, "text-to-image", (4, None)),
        ("/vendor/m", {"prompt": "a", "num_images": 3}, "text-to-image", (3, None)),
        ("/vendor/m", {"prompt": "a"}, "text-to-image", (1, None)),
        ("/v1/audio/speech", {"input": "hello", "model": "vendor/m"}, "*", (None, 5)),
        ("/vendor/m", {"text": "hello!"}, "text-to-speech", (None, 6)),
    ],
)
def test_pieces_are_counted_as_they_are_asked_for(
    path: str, body: Any, task: str, pieces: tuple[int | None, int | None]
) -> None:
    found = asked(call(path, body, known(task)))
    assert (found.images, found.characters) == pieces


def test_a_sound_is_as_long_as_it_is_alone_or_in_a_form() -> None:
    form = call("/v1/audio/transcriptions", FORM % WAV, mime="multipart/form-data; boundary=b")
    alone = call("/vendor/m", WAV, known("automatic-speech-recognition"), "audio/wav")
    assert asked(form).seconds == asked(alone).seconds == 1.0


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        (b"POST", "/v1/chat/completions", b"{}", True),
        (b"POST", "/v1/predictions/1/cancel", b"", False),
        (b"POST", "/v1/predictions/1/cancel", b'{"prompt":"a"}', True),
        (b"GET", "/v1/predictions/1", b"", False),
        (b"DELETE", "/v1/files/1", b"", False),
        (b"PUT", "/app/requests/1/cancel", b"", False),
    ],
)
def test_only_what_makes_something_is_paid_for(method: bytes, path: str, body: bytes, expected: bool) -> None:
    assert metering.billable(method, path, body) is expected


def test_a_key_is_judged_only_where_models_are() -> None:
    at = known(named="app/fast")
    assert metering.is_models("/app/fast", at) and metering.is_models("/v1/models/app/fast/predictions", at)
    assert metering.is_models("/v1/embeddings", at)
    assert not metering.is_models("/x/app/fast", at) and not metering.is_models("/v1/organization", at)
    nobodys = Known(Deployment("up", "v1/organization", Row("v1/organization")))
    assert not metering.is_models("/v1/organization", nobodys)


def table(models: dict[str, Any]) -> Table:
    provider = providers.find("together")
    assert provider is not None
    settings = {name: RouteSettings.model_validate(each) for name, each in models.items()}
    rows = {"together": {"org/row": Row("Vendor/Row", "conversational", context=8000, price={"input": 1.0})}}
    return build([Place("up", provider, False), Place("other", provider, False)], settings, rows)


def at(provider_id: str, **more: Any) -> dict[str, Any]:
    return DeploymentSettings(upstream="up", provider_id=provider_id, **more).model_dump(exclude_defaults=True)


def test_an_upstream_s_id_is_known_by_all_names_and_in_any_case() -> None:
    limits = LimitSettings.model_validate({"requests": "5/minute"})
    made = table({
        "one": {"deployments": [at("v/m")]},
        "two": {"deployments": [at("V/M", price={"input": 2.0})], "limits": {"requests": "5/minute"}},
        "wild/*": {"deployments": [{"upstream": "up"}], "limits": {"requests": "5/minute"}},
    })  # fmt: skip
    register = Register()
    found = register.find(made, "up", "v/M")
    assert found.names == ("one", "two") and found.deployment.price["input"] == 2.0
    assert [each.of for each in found.bounds] == ["two"] and limits.requests is not None
    row = register.find(made, "up", "vendor/row")
    assert (row.names, row.task, row.deployment.context) == (("org/row",), "conversational", 8000)
    wild = register.find(made, "up", "wild/x")
    assert wild.names == () and [each.of for each in wild.bounds] == ["wild/*"]
    assert register.find(made, "up", "nobody's") is register.find(made, "up", "nobody's")
    assert register.find(made, "other", "v/m").names == ()


def test_the_name_that_its_provider_reads_comes_first() -> None:
    fal, replicate = providers.find("fal-ai"), providers.find("replicate")
    assert fal is not None and replicate is not None
    body = b'{"model":"cheap","prompt":"a"}'
    assert naming.models(body, b"", "/app/dear", fal, ["app/dear"]) == ["app/dear", "cheap"]
    both = b'{"model":"a/cheap","version":"b/dear:0123"}'
    assert naming.models(both, b"", "/v1/predictions", replicate, []) == ["b/dear", "a/cheap"]


def test_usage_is_read_from_a_stream_however_it_is_cut_and_nothing_is_changed() -> None:
    usage = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}'
    said = b'data: {"choices":[{"delta":{"content":"a"}}]}\r\n\r\n: hm\n\ndata: ' + usage + b"\n\ndata: [DONE]"
    for size in (1, 2, 7, 1000):
        made, told = meter(call("/v1/chat/completions", {"messages": [], "stream": True}))
        passing = made.stream()
        pieces = [said[start : start + size] for start in range(0, len(said), size)]
        assert b"".join(passing.feed(each) for each in pieces) + passing.close(True) == said
        record = told.record
        assert (record.input_tokens, record.output_tokens, record.estimated) == (3, 4, False)


def test_an_error_in_a_stream_and_an_answer_beyond_all_size_are_noted_for_what_they_are() -> None:
    made, told = meter(call("/v1/chat/completions", {"messages": [{"content": "x" * 40}], "stream": True}))
    passing: Events | Kept = made.stream()
    passing.feed(b'data: {"choices":[{"delta":{"content":"four"}}]}\n\ndata: {"error":{"message":"no"}}\n\n')
    passing.close(True)
    assert (told.record.outcome, told.record.broken, told.record.estimated) == ("broken", "upstream_error", True)
    assert told.record.output_tokens >= 1 and told.record.input_tokens > 10

    made, told = meter(call("/v1/embeddings", {"input": "x" * 38}, known()))
    passing = Kept(made, answer(b"application/json"))
    piece = bytes(1 << 20)
    assert all(passing.feed(piece) is piece for _ in range(20))
    passing.close(True)
    assert (told.record.input_tokens, told.record.estimated) == (10, True)


def test_who_leaves_has_used_what_was_asked_and_a_refusal_nothing() -> None:
    made, told = meter(call("/vendor/m", {"prompt": "a", "num_images": 2}, known("text-to-image")))
    made.left()
    made.left()
    assert (told.record.images, told.record.estimated) == (2, True)
    made, told = meter(call("/v1/chat/completions", {"messages": [{"content": "hello"}]}))
    made.failed()
    made.left()
    assert told.record.input_tokens == 0
