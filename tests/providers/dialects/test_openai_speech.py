import msgspec
import pytest

from providers.dialects.openai_speech import Speech
from providers.spec import TEXT_TO_SPEECH, Ask, Blob, Body, Fetch, Reply, Result, Send, Unreadable, raw

CODEC = Speech()


def body(**fields: object) -> Body:
    return Body(fields={name: raw(value) for name, value in fields.items()})


def test_text_and_voice_are_read_and_the_format_is_the_media_type_wanted() -> None:
    ask, _ = CODEC.read(body(model="m", input="Hi", voice="af", speed=1.5, response_format="opus"))
    assert ask == Ask(TEXT_TO_SPEECH, "Hi", {"voice": "af", "speed": 1.5}, accept="audio/ogg")


@pytest.mark.parametrize(
    ("name", "value"), [("input", None), ("input", 5), ("response_format", "midi"), ("stream_format", "sse")]
)
def test_what_no_other_api_can_do_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(Unreadable) as refused:
        CODEC.read(body(**{"input": "Hi", name: value}))
    assert refused.value.param == name


@pytest.mark.parametrize("wanted", ["mp3", "opus", "aac", "flac", "wav", "pcm"])
def test_what_was_read_is_sent_again(wanted: str) -> None:
    ask, _ = CODEC.read(body(model="m", input="Hi", voice="af", response_format=wanted))
    send = CODEC.encode(Ask(ask.task, ask.inputs, ask.parameters, "ID", accept=ask.accept))
    assert msgspec.json.decode(send.body or b"") == {
        "input": "Hi", "voice": "af", "response_format": wanted, "model": "ID",
    }  # fmt: skip


def test_a_format_that_nobody_named_is_left_to_the_provider() -> None:
    send = CODEC.encode(Ask(TEXT_TO_SPEECH, "Hi", {"voice": "af"}, "ID", accept="*/*"))
    assert msgspec.json.decode(send.body or b"") == {"input": "Hi", "voice": "af", "model": "ID"}


@pytest.mark.parametrize("file", [Blob(b"RIFF", "audio/wav"), Fetch("https://a.example/a.mp3"), Send("/file")])
def test_the_answer_is_the_file_itself(file: Blob | Fetch | Send) -> None:
    assert CODEC.write(Result(file), None) is file
    assert CODEC.media(Ask(TEXT_TO_SPEECH, "Hi"))


def test_json_is_no_audio() -> None:
    ask = Ask(TEXT_TO_SPEECH, "Hi")
    assert CODEC.decode(Reply(200, {"content-type": "audio/mpeg"}, b"ID3"), ask) == Result(Blob(b"ID3", "audio/mpeg"))
    with pytest.raises(ValueError, match="no audio"):
        CODEC.decode(Reply(200, {"content-type": "application/json"}, b"{}"), ask)
    with pytest.raises(TypeError, match="no audio"):
        CODEC.write(Result({"text": "Hi"}), None)
