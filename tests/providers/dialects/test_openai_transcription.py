from typing import Any

import msgspec
import pytest
from openai.types.audio import Transcription as OpenAITranscription
from openai.types.audio import TranscriptionVerbose

from providers import multipart
from providers.dialects.openai_transcription import Transcription, Want
from providers.spec import SPEECH_RECOGNITION, Ask, Blob, Body, Failed, Link, Reply, Result, Send, Unreadable, raw
from router.failures import UNUSABLE

CODEC = Transcription()
AUDIO = Blob(b"fLaC....", "audio/flac")
SAID = Result(
    {
        "text": "Hello there. Bye.",
        "chunks": [
            {"text": " Hello there.", "timestamp": [0.0, 1.25]},
            {"text": " Bye.", "timestamp": [3661.5, None]},
        ],
    }
)


def form(**fields: Any) -> Body:
    fields = {name.replace("granularities", "granularities[]"): raw(value) for name, value in fields.items()}
    return Body(fields=fields, files={"file": AUDIO})


def parts_of(send: Send) -> list[multipart.Part]:
    return multipart.parse(send.body or b"", send.mime.partition("boundary=")[2].encode())


def test_a_form_is_read_and_its_texts_stay_text() -> None:
    ask, want = CODEC.read(form(model="m", language="en", prompt="1984", temperature="0.2", vad_filter="true"))
    assert ask == Ask(
        SPEECH_RECOGNITION, AUDIO, {"language": "en", "prompt": "1984", "temperature": 0.2, "vad_filter": True}
    )
    assert want == Want("json", "en", False)


@pytest.mark.parametrize("kind", ["verbose_json", "srt", "vtt"])
def test_what_tells_times_asks_for_them(kind: str) -> None:
    assert CODEC.read(form(response_format=kind))[0].parameters == {"return_timestamps": True}
    words = CODEC.read(form(response_format=kind, timestamp_granularities="word"))
    assert words[0].parameters == {"return_timestamps": "word"}
    assert words[1].words


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "diarized_json"}, "response_format"),
        ({"timestamp_granularities": ["word", "segment"]}, "timestamp_granularities[]"),
        ({"timestamp_granularities": "page"}, "timestamp_granularities[]"),
        ({"temperature": "warm"}, "temperature"),
        ({"stream": "true"}, "stream"),
        ({"language": ["en", "de"]}, "language"),
        ({"chunking_strategy": "{}"}, "chunking_strategy"),
    ],
)
def test_what_no_other_api_can_do_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Unreadable) as refused:
        CODEC.read(form(**fields))
    assert refused.value.param == param


def test_one_file_called_file_is_wanted() -> None:
    with pytest.raises(Unreadable, match="`file` must be an audio file"):
        CODEC.read(Body())
    with pytest.raises(Unreadable, match="`image` is not supported"):
        CODEC.read(Body(files={"file": AUDIO, "image": AUDIO}))


def test_the_official_client_reads_json() -> None:
    parsed = OpenAITranscription.model_validate(msgspec.json.decode(CODEC.write(SAID, Want()).body), strict=True)
    assert parsed.text == "Hello there. Bye."


def test_the_official_client_reads_segments_and_words() -> None:
    answer = msgspec.json.decode(CODEC.write(SAID, Want("verbose_json", "en")).body)
    parsed = TranscriptionVerbose.model_validate(answer, strict=True)
    assert parsed.segments is not None and parsed.words is None
    assert [(each.id, each.start, each.end) for each in parsed.segments] == [(0, 0.0, 1.25), (1, 3661.5, 3661.5)]
    assert (parsed.language, parsed.duration, parsed.text) == ("en", 3661.5, "Hello there. Bye.")
    words = TranscriptionVerbose.model_validate_json(CODEC.write(SAID, Want("verbose_json", words=True)).body).words
    assert words is not None and [each.word for each in words] == ["Hello there.", "Bye."]


def test_text_is_plain() -> None:
    written = CODEC.write(SAID, Want("text"))
    assert (written.body, written.mime) == (b"Hello there. Bye.\n", "text/plain; charset=utf-8")


def test_subtitles_are_what_players_read() -> None:
    srt = CODEC.write(SAID, Want("srt"))
    assert srt.mime == "application/x-subrip; charset=utf-8"
    assert srt.body.decode() == (
        "1\n00:00:00,000 --> 00:00:01,250\nHello there.\n\n2\n01:01:01,500 --> 01:01:01,500\nBye.\n"
    )
    vtt = CODEC.write(SAID, Want("vtt"))
    assert vtt.mime == "text/vtt; charset=utf-8"
    assert vtt.body.decode() == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\nHello there.\n\n01:01:01.500 --> 01:01:01.500\nBye.\n"
    )


def test_subtitles_are_not_made_up() -> None:
    with pytest.raises(Failed, match="no timestamps"):
        CODEC.write(Result({"text": "Hi"}), Want("srt"))
    assert CODEC.write(Result({"text": ""}), Want("vtt")).body == b"WEBVTT\n"


def test_a_piece_without_an_end_ends_where_the_next_begins() -> None:
    chunks = [{"text": "a", "timestamp": [None, None]}, {"text": "b", "timestamp": [2, 3]}]
    assert b"00:00:00.000 --> 00:00:02.000" in CODEC.write(Result({"text": "ab", "chunks": chunks}), Want("vtt")).body


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({}, []),
        (
            {"language": "en", "temperature": "0.5", "response_format": "text"},
            [("language", "en"), ("temperature", "0.5")],
        ),
        (
            {"response_format": "verbose_json", "timestamp_granularities": "word"},
            [("response_format", "verbose_json"), ("timestamp_granularities[]", "word")],
        ),
    ],
)
def test_what_was_read_is_sent_again(fields: dict[str, Any], sent: list[tuple[str, str]]) -> None:
    ask, _ = CODEC.read(form(model="m", **fields))
    send = CODEC.encode(Ask(ask.task, ask.inputs, ask.parameters, "ID"))
    assert b'filename="audio.flac"' in (send.body or b"")
    assert parts_of(send) == [("file", AUDIO), *sent, ("model", "ID")]


def test_a_form_has_no_place_for_a_url() -> None:
    with pytest.raises(Unreadable) as refused:
        CODEC.encode(Ask(SPEECH_RECOGNITION, Link("https://a.example/a.mp3")))
    assert refused.value.param == "inputs"


def test_an_answer_is_its_text_and_its_pieces() -> None:
    said = {
        "text": "Hi you", "segments": [{"text": "Hi you", "start": 0.0, "end": 1.0}],
        "words": [{"word": "Hi", "start": 0, "end": 0.5}], "usage": {"type": "duration", "seconds": 1},
    }  # fmt: skip
    reply = Reply(200, {}, msgspec.json.encode(said))
    usage = {"type": "duration", "seconds": 1}
    segments = CODEC.decode(reply, Ask(SPEECH_RECOGNITION, AUDIO))
    assert segments == Result({"text": "Hi you", "chunks": [{"text": "Hi you", "timestamp": [0.0, 1.0]}]}, usage)
    words = CODEC.decode(reply, Ask(SPEECH_RECOGNITION, AUDIO, {"return_timestamps": "word"}))
    assert words == Result({"text": "Hi you", "chunks": [{"text": "Hi", "timestamp": [0, 0.5]}]}, usage)
    assert CODEC.decode(Reply(200, {}, b'{"text":"Hi"}'), Ask(SPEECH_RECOGNITION, AUDIO)) == Result({"text": "Hi"})


def test_a_format_of_the_providers_own_is_sent_and_read() -> None:
    ask = Ask(SPEECH_RECOGNITION, AUDIO, {"response_format": "srt", "return_timestamps": True}, "ID")
    assert ("response_format", "srt") in parts_of(CODEC.encode(ask))
    assert CODEC.decode(Reply(200, {}, b"1\n"), ask) == Result({"text": "1\n"})


@pytest.mark.parametrize("said", [b"Hi", b"[]", b"{}", b'{"text":5}', b'{"text":"Hi","segments":[1]}'])
def test_an_answer_that_is_none_raises_what_the_door_expects(said: bytes) -> None:
    with pytest.raises((ValueError, LookupError, TypeError)):
        CODEC.decode(Reply(200, {}, said), Ask(SPEECH_RECOGNITION, AUDIO))


@pytest.mark.parametrize("kind", ["srt", "verbose_json"])
def test_a_moment_beyond_all_numbers_is_an_answer_that_cannot_be_used(kind: str) -> None:
    said = Result({"text": "x", "chunks": [{"text": "x", "timestamp": [0.0, 10**400]}]})
    _, want = CODEC.read(form(response_format=kind))
    with pytest.raises(UNUSABLE):
        CODEC.write(said, want)
