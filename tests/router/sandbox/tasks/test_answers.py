"""What the answers say, task by task."""

import json
import wave
from base64 import b64decode
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from router.sandbox import Sandbox
from router.sandbox.pictures import png
from tests.router.sandbox.tasks.asking import answer, value
from tests.router.sandbox.tasks.requests import COLUMNS, PICTURE, PICTURE_64, RECORDING, REQUESTS, STARS, encoded
from tests.router.sandbox.wire import exchange, request, split, with_sandbox


def opened_picture(data: bytes) -> Image.Image:
    picture = Image.open(BytesIO(data))
    picture.load()
    return picture


# ---- labels


def test_scores_add_up_to_one_best_first_unless_each_label_stands_alone() -> None:
    many = [f"label {number}" for number in range(9)]
    asked: Any = {"inputs": "some text", "parameters": {"candidate_labels": many}}
    together = value("zero-shot-classification", asked)
    scores = [each["score"] for each in together]
    assert sum(scores) == pytest.approx(1) and scores == sorted(scores, reverse=True)
    assert {each["label"] for each in together} == set(many)
    asked["parameters"]["multi_label"] = True
    assert sum(each["score"] for each in value("zero-shot-classification", asked)) > 1


def test_a_label_that_stands_in_the_text_wins_and_several_texts_get_a_list_each() -> None:
    labels = {"candidate_labels": ["legal", "refund", "faq"]}
    asked = {"inputs": ["a Refund please", "legal matters"], "parameters": labels}
    assert [each[0]["label"] for each in value("zero-shot-classification", asked)] == ["refund", "legal"]


def test_top_k_cuts_the_list() -> None:
    for task in ("image-classification", "audio-classification", "video-classification"):
        assert len(value(task, {"inputs": PICTURE_64})) == 5
        assert len(value(task, {"inputs": PICTURE_64, "parameters": {"top_k": 2}})) == 2


def test_texts_are_classified_one_by_one_and_pairs_too() -> None:
    one, two = value("text-classification", {"inputs": ["a", "b"]})
    assert {each["label"] for each in one} == {each["label"] for each in two} == {"POSITIVE", "NEGATIVE"}
    [pair] = value("text-classification", {"inputs": {"text": "a", "text_pair": "b"}})
    assert len(pair) == 2 and pair != one


# ---- texts


def test_entities_are_the_words_with_a_capital_where_they_stand() -> None:
    said = "Élan: Sarah Jessica Parker lives in New York"
    found = value("token-classification", {"inputs": said})
    assert [each["word"] for each in found] == ["Sarah Jessica Parker", "New York"]
    assert all(said[each["start"] : each["end"]] == each["word"] for each in found)
    tokens = value("token-classification", {"inputs": said, "parameters": {"aggregation_strategy": "none"}})
    assert [said[each["start"] : each["end"]] for each in tokens] == ["Sarah", "Jessica", "Parker", "New", "York"]
    assert [each["entity"][:2] for each in tokens] == ["B-", "I-", "I-", "B-", "I-"]
    ignored = {"ignore_labels": [found[0]["entity_group"], found[1]["entity_group"]]}
    assert value("token-classification", {"inputs": said, "parameters": ignored}) == []
    assert value("token-classification", {"inputs": [said, "none"]}) == [found, []]


def test_each_mask_is_filled_by_itself() -> None:
    one = value("fill-mask", {"inputs": "The goal of life is [MASK].", "parameters": {"top_k": 2}})
    assert len(one) == 2 and one[0]["score"] > one[1]["score"]
    assert one[0]["sequence"] == f"The goal of life is {one[0]['token_str'].strip()}."
    two = value("fill-mask", {"inputs": "<mask> is <mask>", "parameters": {"targets": ["x"]}})
    assert [[each["sequence"] for each in mask] for mask in two] == [["x is <mask>"], ["<mask> is x"]]
    assert [len(each) for each in value("fill-mask", {"inputs": ["a [MASK]", "b [MASK]"]})] == [5, 5]


def test_a_summary_is_the_first_sentence_and_a_translation_the_text() -> None:
    assert value("summarization", {"inputs": ["One is 1.5. Two.", "no end"]}) == [
        {"summary_text": "One is 1.5."},
        {"summary_text": "no end"},
    ]
    assert value("translation", {"inputs": "hello"}) == [{"translation_text": "hello"}]


# ---- questions


def test_an_answer_stands_in_the_context_where_it_says() -> None:
    context = "It rains in Oslo. My name is Clara and I live in Berkeley."
    asked: Any = {"inputs": {"question": "What's my name?", "context": context}}
    best = value("question-answering", asked)
    assert best["answer"] == "Clara" == context[best["start"] : best["end"]]
    several = value("question-answering", asked | {"parameters": {"top_k": 3}})
    assert several[0] == best and len(several) == 3
    assert all(context[each["start"] : each["end"]] == each["answer"] for each in several)
    assert value("question-answering", {"inputs": [asked["inputs"]] * 2}) == [best, best]


def test_a_cell_is_found_by_its_row_and_column() -> None:
    query = "How many stars does the transformers repository have?"
    found = value("table-question-answering", {"inputs": {"query": query, "table": STARS}})
    assert found == {"answer": "36542", "coordinates": [[0, 1]], "cells": ["36542"], "aggregator": "NONE"}
    both = value("table-question-answering", {"inputs": {"query": ["stars of datasets", query], "table": STARS}})
    assert [each["answer"] for each in both] == ["4512", "36542"]


# ---- vectors


def test_a_text_has_the_vector_that_the_openai_path_gives_it() -> None:
    async def run(sandbox: Sandbox) -> tuple[Any, Any]:
        ours = await exchange(sandbox, request("/pipeline/feature-extraction", {"inputs": ["one", "two"]}))
        theirs = await exchange(sandbox, request("/v1/embeddings", {"model": "m", "input": ["one", "two"]}))
        return json.loads(split(ours)[2]), json.loads(split(theirs)[2])

    ours, theirs = with_sandbox(run)
    assert ours == [each["embedding"] for each in theirs["data"]]
    assert [sum(number * number for number in vector) for vector in ours] == [pytest.approx(1)] * 2
    assert value("feature-extraction", {"inputs": "one"}) == ours[:1]


def test_vectors_have_the_dimensions_asked_for_at_the_top_or_below_parameters() -> None:
    for asked in ({"dimensions": 8}, {"parameters": {"dimensions": 8}}):
        [vector] = value("feature-extraction", {"inputs": "one", **asked})
        assert len(vector) == 8
    [packed] = value("feature-extraction", {"inputs": "one", "dimensions": 8, "encoding_format": "base64"})
    assert len(b64decode(packed)) == 32


def test_the_same_sentence_is_the_most_similar() -> None:
    same, other = value("sentence-similarity", REQUESTS["sentence-similarity"])
    assert same == pytest.approx(1) and -0.5 < other < 0.5


def test_texts_are_ranked_by_the_words_they_share_with_the_query() -> None:
    asked: Any = {"inputs": {"query": "red car", "texts": ["a tree", "a red car", "red"]}}
    assert value("text-ranking", asked) == [
        {"index": 1, "score": 1.0},
        {"index": 2, "score": 0.5},
        {"index": 0, "score": 0.0},
    ]
    asked["inputs"]["return_text"] = True
    assert value("text-ranking", asked | {"parameters": {"top_n": 1}}) == [
        {"index": 1, "score": 1.0, "text": "a red car"}
    ]


# ---- pictures


@pytest.mark.parametrize("kind", ["PNG", "GIF", "JPEG"])
def test_masks_boxes_and_depths_are_as_large_as_the_picture(kind: str) -> None:
    file = BytesIO()
    Image.new("RGB", (33, 21)).save(file, kind)
    masks = [opened_picture(b64decode(each["mask"])) for each in value("image-segmentation", file.getvalue())]
    assert [(mask.mode, mask.size) for mask in masks] == [("L", (33, 21))] * 2
    covered = zip(*(mask.tobytes() for mask in masks), strict=True)
    assert {tuple(sorted(pixel)) for pixel in covered} == {(0, 255)}
    for found in value("object-detection", file.getvalue()):
        box = found["box"]
        assert 0 <= box["xmin"] < box["xmax"] <= 33 and 0 <= box["ymin"] < box["ymax"] <= 21
    depth = opened_picture(b64decode(value("depth-estimation", file.getvalue())["depth"]))
    assert (depth.mode, depth.size) == ("L", (33, 21)) and depth.getpixel((0, 0)) == 0
    assert value("image-to-text", file.getvalue()) == [{"generated_text": "a picture of 33 by 21 pixels"}]


@pytest.mark.parametrize("file", [b"\xff\xd8", b"\xff\xd8\xff\xe0\0\0", b"\x89PNG\r\n\x1a\n", b"GIF89a\0", b"what"])
def test_a_picture_that_says_no_size_is_as_large_as_those_drawn_here(file: bytes) -> None:
    assert value("image-to-text", file) == [{"generated_text": "a picture of 64 by 64 pixels"}]


def test_a_threshold_leaves_out_what_is_less_likely() -> None:
    for task in ("object-detection", "image-segmentation"):
        assert value(task, {"inputs": PICTURE_64, "parameters": {"threshold": 1}}) == []
    labels = {"candidate_labels": ["dog", "cat", "bird"]}
    found = value("zero-shot-object-detection", {"inputs": PICTURE_64, "parameters": labels})
    assert len(found) == 2 and {each["label"] for each in found} < set(labels["candidate_labels"])


def test_a_picture_is_the_one_that_the_openai_path_draws() -> None:
    async def run(sandbox: Sandbox) -> tuple[bytes, bytes]:
        asked = {"inputs": "a cat", "parameters": {"width": 96, "height": 64}}
        ours = await exchange(sandbox, request("/pipeline/text-to-image", asked))
        theirs = await exchange(sandbox, request("/v1/images/generations", {"prompt": "a cat", "size": "96x64"}))
        return split(ours)[2], b64decode(json.loads(split(theirs)[2])["data"][0]["b64_json"])

    ours, theirs = with_sandbox(run)
    assert ours == theirs and opened_picture(ours).size == (96, 64)
    assert answer("text-to-image", {"inputs": "a cat", "parameters": {"seed": 7}})[2] != png("a cat 0", 64, 64)


def test_a_changed_picture_keeps_its_size_unless_another_is_asked_for() -> None:
    for task in ("image-to-image", "image-text-to-image"):
        asked: Any = {"inputs": PICTURE_64, "parameters": {"prompt": "blue"}}
        assert opened_picture(answer(task, asked)[2]).size == (80, 60)
        asked["parameters"]["target_size"] = {"width": 32, "height": 16}
        assert opened_picture(answer(task, asked)[2]).size == (32, 16)
    assert opened_picture(answer("image-to-image", PICTURE)[2]).size == (80, 60)


# ---- films and sound


def test_a_film_has_as_many_frames_as_asked_for_one_after_the_other() -> None:
    film = answer("text-to-video", {"inputs": "a cat", "parameters": {"num_frames": 3, "width": 32, "height": 16}})[2]
    at = film.index(b"stsz") + 4
    count = int.from_bytes(film[at + 8 : at + 12])
    sizes = [int.from_bytes(film[at + 12 + 4 * each : at + 16 + 4 * each]) for each in range(count)]
    begin = int.from_bytes(film[film.index(b"stco") + 12 :][:4])
    frames = []
    for size in sizes:
        frames.append(film[begin : begin + size])
        begin += size
    assert frames == [png(f"a cat 0 {each}", 32, 16) for each in range(3)]


def test_the_boxes_of_a_film_fill_it() -> None:
    film, at, names = answer("image-to-video", PICTURE)[2], 0, []
    while at < len(film):
        names.append(film[at + 4 : at + 8])
        at += int.from_bytes(film[at : at + 4])
    assert (at, names) == (len(film), [b"ftyp", b"mdat", b"moov"])


def test_speech_is_wav_or_where_it_is_asked_for_flac_of_the_same_samples() -> None:
    spoken = answer("text-to-speech", {"inputs": "one two three"})[2]
    with wave.open(BytesIO(spoken)) as sound:
        samples = sound.readframes(10**9)
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 24_000)
    _, headers, packed = answer("text-to-speech", {"inputs": "one two three"}, accept="audio/flac")
    assert headers["content-type"] == "audio/flac" and packed[:4] == b"fLaC"
    assert int.from_bytes(packed[18:26]) & (1 << 36) - 1 == len(samples) // 2
    head = packed.index(b"\xff\xf8") + 9  # of one frame, whose samples follow as they are, most significant byte first
    assert packed[head : head + len(samples)] == b"".join(
        samples[at : at + 2][::-1] for at in range(0, len(samples), 2)
    )


def test_a_recording_is_counted_and_in_pieces_only_where_asked_for() -> None:
    said = f"heard {len(RECORDING)} bytes"
    assert value("automatic-speech-recognition", RECORDING) == {"text": said}

    def chunks(return_timestamps: Any) -> Any:
        asked = {"inputs": encoded(RECORDING), "parameters": {"return_timestamps": return_timestamps}}
        return value("automatic-speech-recognition", asked)["chunks"]

    assert chunks(True) == [{"text": said, "timestamp": [0, 1]}]
    assert "".join(each["text"] for each in chunks("word")) == said
    assert [each["timestamp"][1] for each in chunks("word")] == pytest.approx([1 / 3, 2 / 3, 1])


def test_sound_goes_in_and_comes_out() -> None:
    [found] = value("audio-to-audio", RECORDING)
    assert (found["content-type"], b64decode(found["blob"])) == ("audio/wav", RECORDING)


# ---- tables


def test_each_row_of_a_table_gets_a_figure() -> None:
    classes = value("tabular-classification", {"table": COLUMNS})
    assert len(classes) == 3 and all(3 <= each <= 8 for each in classes)
    figures = value("tabular-regression", {"table": {"a": [1, 1, 2]}})
    assert figures[0] == figures[1] != figures[2]


# ---- faults


def test_faults_work_on_these_paths_too_named_by_header_or_model() -> None:
    for how in ({"x_sandbox_fault": "503-loading"}, {"x_sandbox_model": "sandbox/503-loading"}):
        status, _, body = answer("text-to-image", {"inputs": "a"}, **how)
        assert status == 503 and json.loads(body)["estimated_time"] == 20.0
        assert json.loads(body)["error"] == "Model sandbox/503-loading is currently loading"


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("429", 429),
        ("500", 500),
        ("500-once", 500),
        ("503", 503),
        ("error-event", 500),
        ("unauthorized", 401),
        ("no-credit", 402),
        ("forbidden", 403),
        ("model-not-found", 404),
        ("context-length", 400),
        ("content-filter", 400),
        ("nonesuch", 404),
    ],
)
def test_a_refusing_fault_is_said_in_one_string_as_the_hub_does(fault: str, status: int) -> None:
    got, headers, body = answer("fill-mask", {"inputs": "a [MASK]"}, x_sandbox_model=f"sandbox/{fault}")
    assert got == status and isinstance(json.loads(body)["error"], str)
    assert headers.get("retry-after") == ("2" if fault == "429" else None)


def test_faults_of_the_wire_befall_media_as_they_do_texts() -> None:
    asked = {"inputs": "a cat"}
    _, headers, body = answer("text-to-image", asked, x_sandbox_fault="cut")
    assert len(body) == int(headers["content-length"]) * 2 // 5
    with pytest.raises(ConnectionResetError):
        answer("text-to-image", asked, x_sandbox_fault="reset")
    status, headers, body = answer("text-to-image", asked, x_sandbox_fault="malformed")
    assert (status, headers["content-type"]) == (200, "application/json")
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(body)
    assert answer("text-to-image", asked, x_sandbox_fault="slow", x_sandbox_delay="1ms")[0] == 200


def test_a_fault_that_passes_is_over_at_the_second_call() -> None:
    async def run(sandbox: Sandbox) -> list[int]:
        sent = request("/pipeline/fill-mask", {"inputs": "a [MASK]"}, x_sandbox_model="sandbox/500-once")
        return [split(await exchange(sandbox, sent))[0] for _ in range(2)]

    assert with_sandbox(run) == [500, 200]
