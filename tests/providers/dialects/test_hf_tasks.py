import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import referencing

from providers.dialects.hf_tasks import CODECS, FILES, MEDIA, TASKS
from providers.dialects.huggingface import DIALECT
from providers.spec import TEXT_GENERATION, Ask, Blob, Body, Fetch, Reply, Result, Send, Unreadable, Written
from tests.providers.dialects.hub_tasks import AUDIO, EXAMPLES, IMAGE, MP4, PNG, SCORED, VIDEO, WAV, Example, b64

SPECS = Path(__file__).parents[2] / "data" / "tasks"
COMMON = json.loads((SPECS / "common-definitions.json").read_text())
REGISTRY: referencing.Registry[Any] = referencing.Registry().with_resource(
    COMMON["$id"], referencing.Resource.from_contents(COMMON)
)
# Slips in the specifications: names in camel case that no server answers; what every client sends is a `query`.
SLIPS = {"tokenStr": "token_str", "generatedText": "generated_text"}
each_task = pytest.mark.parametrize(("task", "example"), EXAMPLES.items(), ids=list(EXAMPLES))
each_specified = pytest.mark.parametrize("task", [task for task in TASKS if (SPECS / task).is_dir()])


def body(value: dict[str, Any], accept: str = "") -> Body:
    return Body({name: msgspec.Raw(json.dumps(each).encode()) for name, each in value.items()}, accept=accept)


def read(task: str, value: dict[str, Any], accept: str = "") -> Ask:
    return CODECS[task].read(body(value, accept))[0]


def specified(task: str, side: str) -> jsonschema.Draft7Validator:
    schema = json.loads((SPECS / task / f"{side}.json").read_text())
    items = schema.get("items", schema)
    items["required"] = [SLIPS.get(name, name) for name in items.get("required", [])]
    return jsonschema.Draft7Validator(schema, registry=REGISTRY)


def reply(value: Any, mime: str = "application/json") -> Reply:
    return Reply(200, {"content-type": mime}, value if isinstance(value, bytes) else json.dumps(value).encode())


def written(task: str, value: Any, request: Body) -> Any:
    _, want = CODECS[task].read(request)
    answer = CODECS[task].write(Result(value), want)
    assert isinstance(answer, Written) and answer.mime == "application/json"
    return json.loads(answer.body)


def test_the_dialect_has_every_task_and_there_is_an_example_of_each() -> None:
    assert set(TASKS) == set(EXAMPLES) == set(DIALECT.tasks) - {TEXT_GENERATION} and len(TASKS) == len(set(TASKS)) == 36


def test_the_tasks_that_answer_with_a_file_are_those_that_make_images_videos_or_sound() -> None:
    assert {
        "text-to-image", "image-to-image", "image-text-to-image", "text-to-video", "image-to-video",
        "image-text-to-video", "text-to-speech", "text-to-audio",
    } == MEDIA  # fmt: skip
    assert {task for task in TASKS if CODECS[task].media(Ask(task, None))} == MEDIA


def test_the_tasks_that_take_a_file_as_their_body_need_nothing_beside_it() -> None:
    assert {
        "audio-classification", "audio-to-audio", "automatic-speech-recognition", "depth-estimation",
        "image-classification", "image-segmentation", "image-text-to-image", "image-text-to-video", "image-to-image",
        "image-to-text", "image-to-video", "mask-generation", "object-detection", "video-classification",
    } == FILES  # fmt: skip


@each_task
def test_a_call_is_read(task: str, example: Example) -> None:
    assert read(task, example.body) == Ask(task, example.inputs, example.parameters)


@each_task
def test_an_answer_is_written(task: str, example: Example) -> None:
    codec = CODECS[task]
    _, want = codec.read(body(example.body))
    answer = codec.write(Result(example.value), want)
    if task in MEDIA:
        assert answer == example.value
    else:
        assert isinstance(answer, Written)
        assert json.loads(answer.body) == (example.value if example.written is None else example.written)
    assert not codec.gathers(want)


@each_task
def test_what_is_sent_upstream_is_read_again_as_the_same_call(task: str, example: Example) -> None:
    codec = CODECS[task]
    ask, _ = codec.read(body(example.body))
    send = codec.encode(ask)
    assert send.body is not None and (send.path, send.method) == ("", "POST")
    if send.mime == "application/json":
        assert read(task, json.loads(send.body)) == ask
    else:
        assert codec.read(Body(file=Blob(send.body, send.mime)))[0] == ask


@each_task
def test_what_is_written_is_decoded_again_as_the_same_answer(task: str, example: Example) -> None:
    codec = CODECS[task]
    ask, want = codec.read(body(example.body))
    answer = codec.write(Result(example.value), want)
    if isinstance(answer, Written):
        assert codec.decode(Reply(200, {"content-type": answer.mime}, answer.body), ask) == Result(example.value)
    else:
        assert isinstance(answer, Blob)
        assert codec.decode(reply(answer.data, answer.mime), ask) == Result(example.value)


@each_specified
def test_a_call_is_as_the_hub_specifies_it(task: str) -> None:
    example = EXAMPLES[task]
    sent = dict(example.body)
    if task == "table-question-answering":
        sent["inputs"] = {"question": sent["inputs"]["query"], "table": sent["inputs"]["table"]}
    specified(task, "input").validate(sent)
    assert read(task, sent) == Ask(task, example.inputs, example.parameters)


@each_specified
def test_a_canonical_answer_is_as_the_hub_specifies_it(task: str) -> None:
    if task not in MEDIA:
        specified(task, "output").validate(EXAMPLES[task].value)


@pytest.mark.parametrize("task", sorted(FILES))
def test_a_file_may_be_the_body_and_is_sent_on_as_it_came(task: str) -> None:
    file = {"audio": AUDIO, "automatic": AUDIO, "video": VIDEO}.get(task.partition("-")[0], IMAGE)
    ask, _ = CODECS[task].read(Body(file=file, accept="*/*"))
    assert (ask.inputs, ask.parameters) == (file, {})
    assert CODECS[task].encode(ask) == Send("", file.data, mime=file.mime)


@pytest.mark.parametrize("said", ["", "application/octet-stream", "application/x-www-form-urlencoded"])
def test_a_file_of_no_type_is_known_by_its_first_bytes(said: str) -> None:
    ask, _ = CODECS["image-classification"].read(Body(file=Blob(PNG, said)))
    assert ask.inputs == IMAGE


def test_a_file_with_parameters_goes_up_as_base64() -> None:
    send = CODECS["object-detection"].encode(Ask("object-detection", IMAGE, {"threshold": 0.5}))
    assert send.mime == "application/json"
    assert json.loads(send.body or b"") == {"inputs": b64(PNG), "parameters": {"threshold": 0.5}}


def test_a_link_is_handed_on_as_it_is() -> None:
    ask = read("object-detection", {"inputs": "https://example.com/cat.png"})
    assert json.loads(CODECS["object-detection"].encode(ask).body or b"")["inputs"] == "https://example.com/cat.png"


@pytest.mark.parametrize(
    ("task", "accept", "asked"),
    [
        ("text-to-image", "image/png", "image/png"),
        ("image-to-image", "text/html, image/WEBP;q=0.8, */*", "image/webp"),
        ("text-to-image", "*/*", ""),
        ("text-to-image", "image/*", ""),
        ("text-to-image", "application/json", ""),
        ("text-to-image", "audio/flac", ""),
        ("text-to-speech", "audio/wav", "audio/wav"),
        ("text-classification", "image/png", ""),
    ],
)
def test_the_type_of_file_is_asked_for_upstream_where_the_caller_names_one(task: str, accept: str, asked: str) -> None:
    ask = read(task, {"inputs": b64(PNG)}, accept=accept)
    assert ask.accept == asked
    headers = {"accept": asked} if asked else {}
    assert CODECS[task].encode(ask).headers == headers
    assert CODECS[task].encode(replace(ask, accept=accept)).headers == headers


@pytest.mark.parametrize("step", [Fetch("https://cdn.test/a"), Send("/files/a", method="GET")])
def test_a_file_that_lies_elsewhere_is_handed_on(step: Fetch | Send) -> None:
    answer = CODECS["text-to-video"].write(Result(step), None)
    assert answer == (Fetch("https://cdn.test/a", "video/mp4") if isinstance(step, Fetch) else step)


def test_a_file_of_unknown_type_is_taken_for_what_the_task_makes() -> None:
    assert CODECS["text-to-speech"].write(Result(Blob(b"?")), None) == Blob(b"?", "audio/flac")
    assert CODECS["text-to-speech"].write(Result(Blob(WAV)), None) == AUDIO


def test_no_file_is_no_answer() -> None:
    with pytest.raises(TypeError):
        CODECS["text-to-image"].write(Result({"image": "a"}), None)


def test_an_upstreams_file_in_json_is_taken_out() -> None:
    ask = Ask("text-to-image", "a cat")
    assert CODECS["text-to-image"].decode(reply(b64(PNG)), ask) == Result(IMAGE)


def test_an_upstreams_file_may_stand_for_json() -> None:
    assert CODECS["depth-estimation"].decode(reply(PNG, "image/png"), Ask("depth-estimation", IMAGE)).value == {
        "depth": b64(PNG)
    }
    found = CODECS["audio-to-audio"].decode(reply(WAV, "audio/wav"), Ask("audio-to-audio", AUDIO)).value
    assert found == EXAMPLES["audio-to-audio"].value


def test_an_upstreams_film_of_unknown_type_is_known_by_its_first_bytes() -> None:
    assert CODECS["text-to-video"].decode(Reply(200, {}, MP4), Ask("text-to-video", "a")).value == VIDEO


@pytest.mark.parametrize("task", sorted(set(TASKS) - MEDIA))
def test_an_error_that_calls_itself_a_success_is_no_answer(task: str) -> None:
    with pytest.raises((ValueError, LookupError, TypeError)):
        CODECS[task].decode(reply({"error": "out of memory"}), Ask(task, EXAMPLES[task].inputs))


@pytest.mark.parametrize("task", ["text-classification", "summarization", "question-answering", "fill-mask"])
def test_a_list_of_inputs_is_answered_with_a_list_of_answers(task: str) -> None:
    example = EXAMPLES[task]
    one = example.body["inputs"]
    request = body({"inputs": [one, one]})
    ask, _ = CODECS[task].read(request)
    assert ask.inputs == [example.inputs, example.inputs]
    several = written(task, [example.value, example.value], request)
    assert CODECS[task].decode(reply(several), ask).value == [example.value, example.value]


def test_what_nobody_can_read_is_refused_by_name() -> None:
    with pytest.raises(Unreadable) as refused:
        read("text-classification", {"inputs": 5})
    assert (refused.value.param, refused.value.status) == ("inputs", 400)


def test_labels_come_scored_to_a_list_of_texts_too() -> None:
    request = body({"inputs": ["a"]})
    ask, _ = CODECS["text-classification"].read(request)
    assert CODECS["text-classification"].decode(reply([SCORED]), ask).value == [SCORED]
    assert CODECS["text-classification"].decode(reply(SCORED), ask).value == [SCORED]
    assert CODECS["text-classification"].decode(reply(SCORED[:1]), ask).value == [SCORED[:1]]
