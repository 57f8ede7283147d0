"""OpenAI's transcriptions ⇄ automatic speech recognition: a form in; JSON, text or subtitles out.

The Hub's `return_timestamps` is what asks for pieces with their times; here a `response_format` that has them does.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from providers import media, multipart
from providers.dialects.openai_fields import (
    JSON,
    file_of,
    filename,
    form_parts,
    form_values,
    refuse_all_but,
    refused,
    take_choice,
    take_text,
    values_of,
)
from providers.spec import SPEECH_RECOGNITION, Ask, Blob, Body, Failed, Reply, Result, Send, Written

GRANULARITIES: Final = "timestamp_granularities[]"
TIMED: Final = ("verbose_json", "srt", "vtt")


@dataclass(frozen=True, slots=True)
class Want:
    """`words`: the pieces of verbose_json are words, not segments."""

    format: str = "json"
    language: str = ""
    words: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    start: float
    end: float
    text: str


class Transcription:
    """`/v1/audio/transcriptions`."""

    def read(self, body: Body) -> tuple[Ask, Want]:
        values = values_of(body.fields)
        values.pop("model", None)
        for name in body.files:
            if name != "file":
                raise refused(name, "is not supported")
        if "file" not in body.files:
            raise refused("file", "must be an audio file")
        texts = {name: take_text(values, name) for name in ("language", "prompt") if values.get(name)}
        values = form_values(values)
        refuse_all_but(values, _ONLY_OPENAI)
        kind = take_choice(values, "response_format", _WRITERS, "json")
        words = _words(values.pop(GRANULARITIES, None) or values.pop("timestamp_granularities", None))
        if type(values.get("temperature", 0)) not in (int, float):
            raise refused("temperature", "must be a number")
        parameters = texts | values
        if kind in TIMED:
            parameters["return_timestamps"] = "word" if words else True
        return Ask(SPEECH_RECOGNITION, body.files["file"], parameters), Want(kind, texts.get("language", ""), words)

    def write(self, result: Result, want: Want) -> Written:
        return _WRITERS[want.format](result, want)

    def gathers(self, want: Want) -> bool:
        return False

    def encode(self, ask: Ask) -> Send:
        audio = file_of(ask)
        audio = Blob(audio.data, media.mime_of(audio))
        fields = {**_timed(ask.parameters), "model": ask.provider_id}
        body, mime = multipart.write([("file", audio), *form_parts(fields)], filename("audio", audio, "wav"))
        return Send("", body, mime=mime)

    def decode(self, reply: Reply, ask: Ask) -> Result:
        if ask.parameters.get("response_format") in ("text", "srt", "vtt"):
            return Result({"text": reply.body.decode()})
        answer = reply.json()
        text = answer["text"]
        if not isinstance(text, str):
            raise TypeError("a text that is none")
        pieces = answer.get("words") if ask.parameters.get("return_timestamps") == "word" else None
        pieces = pieces or answer.get("segments")
        if not isinstance(pieces, list):
            return Result({"text": text}, _used(answer))
        return Result({"text": text, "chunks": [_chunk(piece) for piece in pieces]}, _used(answer))

    def media(self, ask: Ask) -> bool:
        return False


_ONLY_OPENAI: Final[Mapping[str, tuple[Any, ...]]] = {
    "stream": (False,),
    "chunking_strategy": ("auto",),
    "include": ([],),
    "include[]": ([],),
    "keywords[]": (),
    "languages[]": (),
    "known_speaker_names[]": (),
    "known_speaker_references[]": (),
}


def _words(granularities: Any) -> bool:
    asked = granularities if isinstance(granularities, list) else [granularities or "segment"]
    if asked == ["word"] or asked == ["segment"]:
        return asked == ["word"]
    raise refused(GRANULARITIES, "must be word or segment, and one of them")


def _timed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """`return_timestamps` in OpenAI's words, unless the caller chose a `response_format` of the provider's."""
    fields = dict(parameters)
    asked = fields.pop("return_timestamps", None)
    if not asked or "response_format" in fields:
        return fields
    return {**fields, "response_format": "verbose_json", GRANULARITIES: ["word" if asked == "word" else "segment"]}


def _used(answer: dict[str, Any]) -> dict[str, Any] | None:
    """Where only the verbose answer says how long the sound is, in the words of the plain one."""
    length = answer.get("duration")
    if answer.get("usage") is None and type(length) in (int, float):
        return {"type": "duration", "seconds": length}
    return answer.get("usage")


def _chunk(piece: dict[str, Any]) -> dict[str, Any]:
    text = piece["word"] if "word" in piece else piece.get("text")
    return {"text": text, "timestamp": [piece.get("start"), piece.get("end")]}


def pieces_of(value: dict[str, Any]) -> list[Piece]:
    """The chunks, with the times that models leave open (the end of the last one) closed by what is nearest."""
    chunks = value.get("chunks") or ()
    pieces: list[Piece] = []
    for number, chunk in enumerate(chunks):
        start, end = chunk["timestamp"]
        start = (pieces[-1].end if pieces else 0.0) if start is None else float(start)
        if end is None:
            following = chunks[number + 1]["timestamp"][0] if number + 1 < len(chunks) else None
            end = start if following is None else following
        pieces.append(Piece(start, float(end), chunk["text"]))
    return pieces


def _json(result: Result, want: Want) -> Written:
    usage = {} if result.usage is None else {"usage": result.usage}
    return Written(JSON.encode({"text": result.value["text"], **usage}))


def _verbose_json(result: Result, want: Want) -> Written:
    pieces = pieces_of(result.value)
    answer = {
        "task": "transcribe",
        "language": want.language,
        "duration": max((piece.end for piece in pieces), default=0.0),
        "text": result.value["text"],
    }
    if want.words:
        answer["words"] = [{"word": piece.text.strip(), "start": piece.start, "end": piece.end} for piece in pieces]
    else:
        answer["segments"] = [
            {"id": number, "start": piece.start, "end": piece.end, "text": piece.text, **_UNTOLD}
            for number, piece in enumerate(pieces)
        ]
    return Written(JSON.encode(answer))


# What Whisper tells of a segment beside its text; no other API does, and the clients' types insist on all of it.
_UNTOLD: Final[Mapping[str, Any]] = {
    "seek": 0,
    "tokens": [],
    "temperature": 0.0,
    "avg_logprob": 0.0,
    "compression_ratio": 0.0,
    "no_speech_prob": 0.0,
}


def _text(result: Result, want: Want) -> Written:
    return Written(f"{result.value['text']}\n".encode(), "text/plain; charset=utf-8")


def _srt(result: Result, want: Want) -> Written:
    cues = (f"{number}\n{_span(piece, ',')}\n" for number, piece in enumerate(_cues(result), 1))
    return Written("\n".join(cues).encode(), "application/x-subrip; charset=utf-8")


def _vtt(result: Result, want: Want) -> Written:
    cues = (f"\n{_span(piece, '.')}\n" for piece in _cues(result))
    return Written("".join(["WEBVTT\n", *cues]).encode(), "text/vtt; charset=utf-8")


def _cues(result: Result) -> list[Piece]:
    """Raises Failed where there is text and nobody knows when it was said."""
    pieces = pieces_of(result.value)
    if not pieces and result.value["text"].strip():
        raise Failed(502, "The model gave no timestamps, of which subtitles are made.", "no_timestamps")
    return pieces


def _span(piece: Piece, point: str) -> str:
    return f"{_clock(piece.start, point)} --> {_clock(piece.end, point)}\n{piece.text.strip()}"


def _clock(seconds: float, point: str) -> str:
    thousandths = round(seconds * 1000) if math.isfinite(seconds) else 0
    minutes, rest = divmod(max(thousandths, 0), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"


_WRITERS: Final[Mapping[str, Callable[[Result, Want], Written]]] = {
    "json": _json,
    "text": _text,
    "srt": _srt,
    "vtt": _vtt,
    "verbose_json": _verbose_json,
}
