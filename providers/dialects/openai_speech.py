"""OpenAI's speech ⇄ text-to-speech. Its answer is the file itself."""

from collections.abc import Mapping
from typing import Final

from providers.dialects.openai_fields import body_of, refuse_all_but, take_choice, take_text, values_of
from providers.spec import TEXT_TO_SPEECH, Ask, Blob, Body, Fetch, Reply, Result, Send

_FORMATS: Final[Mapping[str, str]] = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
_NAMES: Final[Mapping[str, str]] = {mime: name for name, mime in _FORMATS.items()}


class Speech:
    """`/v1/audio/speech`. `voice`, `speed` and `instructions` are parameters under the same names."""

    def read(self, body: Body) -> tuple[Ask, None]:
        values = values_of(body.fields)
        values.pop("model", None)
        refuse_all_but(values, {"stream_format": ("audio",), "stream": (False,)})
        wanted = take_choice(values, "response_format", (*_FORMATS, ""), "")
        text = take_text(values, "input")
        return Ask(TEXT_TO_SPEECH, text, values, accept=_FORMATS.get(wanted, "")), None

    def write(self, result: Result, want: None) -> Blob | Fetch | Send:
        if isinstance(result.value, Blob | Fetch | Send):
            return result.value
        raise TypeError("no audio")

    def gathers(self, want: None) -> bool:
        return False

    def encode(self, ask: Ask) -> Send:
        wanted = {"response_format": _NAMES[ask.accept]} if ask.accept in _NAMES else {}
        return body_of({"input": ask.inputs, **wanted, **ask.parameters, "model": ask.provider_id})

    def decode(self, reply: Reply, ask: Ask) -> Result:
        mime = reply.headers.get("content-type", "")
        if not reply.body or "json" in mime:
            raise ValueError("no audio")
        return Result(Blob(reply.body, mime))

    def media(self, ask: Ask) -> bool:
        return True
