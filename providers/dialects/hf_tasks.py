"""Every task of the Hub in the Hub's own shape, one row each: what it takes, and what it answers.

Read: JSON with `inputs` and `parameters`, and what old clients left at the root; or the file or the text itself.
Written: the JSON that both official clients can read, or the file. Encoded: what huggingface_hub sends to hf-inference,
which is the file itself where there are no parameters. Decoded: the answers of hf-inference, of the Inference toolkit
and of text-embeddings-inference.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

import msgspec

from providers import media
from providers.dialects import hf_answers as answers
from providers.dialects import hf_inputs as inputs
from providers.dialects import hf_media
from providers.dialects.hf_answers import Shape, Want
from providers.dialects.hf_inputs import Inputs, file, text
from providers.spec import (
    AUDIO_TO_AUDIO,
    FEATURE_EXTRACTION,
    IMAGE_SEGMENTATION,
    IMAGE_TO_IMAGE,
    IMAGE_TO_TEXT,
    IMAGE_TO_VIDEO,
    SENTENCE_SIMILARITY,
    SPEECH_RECOGNITION,
    TEXT_RANKING,
    TEXT_TO_AUDIO,
    TEXT_TO_IMAGE,
    TEXT_TO_SPEECH,
    TEXT_TO_VIDEO,
    Ask,
    Blob,
    Body,
    Fetch,
    Reply,
    Result,
    Send,
    Task,
    TaskCodec,
    Unreadable,
    Written,
)


@dataclass(frozen=True, slots=True)
class Row:
    """One task. `takes`: its `inputs`. `answer`: its JSON; None where the answer is a file, of type `mime` if nobody
    says otherwise. `many`: a list of inputs is as many calls in one. `labels`: it needs `candidate_labels`. `roots`:
    parameters that clients leave at the root, where `flat` sends them. `defaults`: what the Hub's API does unasked.
    """

    task: Task
    takes: Inputs
    answer: Shape | None = None
    mime: str = ""
    many: bool = False
    labels: bool = False
    optional: bool = False
    flat: bool = False
    roots: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)


_QUESTION: Final = {"question": text, "context": text}
_TABLE: Final = {"query": inputs.text_or_texts, "table": inputs.mapping}
_IMAGE_QUESTION: Final = {"image": file, "question": text}
_SENTENCES: Final = {"source_sentence": text, "sentences": inputs.texts}
_QUERY: Final = {"query": text, "texts": inputs.texts}
_RECORDS: Final = {"data": inputs.mapping}
_EMBEDDING: Final = ("normalize", "prompt_name", "truncate", "truncation_direction", "dimensions", "encoding_format")
_RANKING: Final = ("raw_scores", "return_text", "return_documents", "truncate", "truncation_direction")

# fmt: off
ROWS: Final = (
    # text
    Row("text-classification", inputs.text_or_pair, answers.NESTED_LABELS, many=True),
    Row("token-classification", text, answers.ENTITIES, many=True, defaults={"aggregation_strategy": "simple"}),
    Row("fill-mask", text, answers.LABELS, many=True),
    Row("question-answering", _QUESTION, answers.ANSWERS, many=True),
    Row("table-question-answering", _TABLE, answers.TABLES),
    Row(answers.ZERO_SHOT, text, answers.ZERO_SHOT_LABELS, many=True, labels=True),
    Row("summarization", text, answers.TEXTS, many=True),
    Row("translation", text, answers.TEXTS, many=True),
    Row("text2text-generation", text, answers.TEXTS, many=True),
    Row(FEATURE_EXTRACTION, inputs.text_or_texts, answers.VECTORS, roots=_EMBEDDING, flat=True),
    Row(SENTENCE_SIMILARITY, _SENTENCES, answers.NUMBERS),
    Row(TEXT_RANKING, _QUERY, answers.RANKING, roots=_RANKING),
    # images and video
    Row("image-classification", file, answers.LABELS),
    Row("zero-shot-image-classification", file, answers.LABELS, labels=True),
    Row("object-detection", file, answers.LABELS),
    Row("zero-shot-object-detection", file, answers.LABELS, labels=True),
    Row(IMAGE_SEGMENTATION, file, answers.LABELS),
    Row("mask-generation", file, answers.ANYTHING),
    Row("depth-estimation", file, answers.DEPTH),
    Row("video-classification", file, answers.LABELS),
    Row(IMAGE_TO_TEXT, file, answers.CAPTION),
    Row("visual-question-answering", _IMAGE_QUESTION, answers.LABELS),
    Row("document-question-answering", _IMAGE_QUESTION, answers.LABELS),
    Row(TEXT_TO_IMAGE, text, mime="image/jpeg"),
    Row(IMAGE_TO_IMAGE, file, mime="image/jpeg"),
    Row("image-text-to-image", file, mime="image/jpeg", optional=True),
    Row(TEXT_TO_VIDEO, text, mime="video/mp4"),
    Row(IMAGE_TO_VIDEO, file, mime="video/mp4"),
    Row("image-text-to-video", file, mime="video/mp4", optional=True),
    # audio
    Row(SPEECH_RECOGNITION, file, answers.TRANSCRIPT),
    Row("audio-classification", file, answers.LABELS),
    Row(AUDIO_TO_AUDIO, file, answers.SOUNDS),
    Row(TEXT_TO_SPEECH, text, mime="audio/flac"),
    Row(TEXT_TO_AUDIO, text, mime="audio/flac"),
    # tables
    Row("tabular-classification", _RECORDS, answers.ANYTHING),
    Row("tabular-regression", _RECORDS, answers.ANYTHING),
)
# fmt: on

TASKS: Final[tuple[Task, ...]] = tuple(row.task for row in ROWS)
MEDIA: Final = frozenset(row.task for row in ROWS if row.answer is None)
"""Whose answer is the file itself."""
FILES: Final = frozenset(row.task for row in ROWS if row.takes is file and not row.labels)
"""Which may be asked with the file itself as the body."""
LOADS: Final = frozenset(row.task for row in ROWS if row.takes in (file, _IMAGE_QUESTION))
"""Which take a file in their `inputs`."""


@dataclass(frozen=True, slots=True)
class Codec:
    row: Row

    def read(self, body: Body) -> tuple[Ask, Want]:
        row = self.row
        body = _unwrapped(body)
        parameters = {**row.defaults, **inputs.parameters_of(body.fields, row.roots)}
        found = inputs.read(body, row.takes, row.many, row.optional)
        if row.labels:
            given = parameters.get("candidate_labels")
            parameters["candidate_labels"] = inputs.labels("parameters.candidate_labels", given)
        ask = Ask(row.task, found, parameters, accept=_accepted(body.accept, row.mime))
        return ask, answers.want_of(ask, self._many(ask), body.agent)

    def _many(self, ask: Ask) -> bool:
        if self.row.answer is answers.TABLES:
            return isinstance(ask.inputs["query"], list)
        return self.row.many and isinstance(ask.inputs, list)

    def write(self, result: Result, want: Want) -> Written | Blob | Fetch | Send:
        value = result.value
        if self.row.answer is not None:
            return Written(msgspec.json.encode(self.row.answer.write(value, want)))
        if isinstance(value, Blob):
            return replace(value, mime=media.mime_of(value, self.row.mime))
        if isinstance(value, Fetch):
            return replace(value, mime=value.mime or self.row.mime)
        if isinstance(value, Send):
            return value
        raise TypeError("no file")

    def gathers(self, want: Want) -> bool:
        return False

    def encode(self, ask: Ask) -> Send:
        accept = _accepted(ask.accept, self.row.mime)
        headers = {"accept": accept} if accept else {}
        if isinstance(ask.inputs, Blob) and not ask.parameters:
            return Send("", ask.inputs.data, mime=media.mime_of(ask.inputs), headers=headers)
        body: dict[str, Any] = {} if ask.inputs is None else {"inputs": inputs.wire(ask.inputs)}
        body |= ask.parameters if self.row.flat else {"parameters": inputs.wire(ask.parameters)}
        return Send("", msgspec.json.encode(body), headers=headers)

    def decode(self, reply: Reply, ask: Ask) -> Result:
        shape = self.row.answer
        mime = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        is_file = mime.startswith(("image/", "video/", "audio/"))
        if shape is None:
            if mime == "application/json":
                return Result(hf_media.of_json(reply.json(), self.row.mime))
            return Result(Blob(reply.body, media.mime_of(Blob(reply.body, mime), self.row.mime)))
        if is_file and shape.file is not None:
            return Result(shape.file(mime, media.to_base64(Blob(reply.body))))
        value = reply.json()
        if isinstance(value, dict) and "error" in value:
            raise ValueError("an error that calls itself a success")
        return Result(answers.canonical(shape, value, ask, self.row.many and isinstance(ask.inputs, list)))

    def media(self, ask: Ask) -> bool:
        return self.row.answer is None


CODECS: Final[Mapping[Task, TaskCodec]] = MappingProxyType({row.task: Codec(row) for row in ROWS})


def _unwrapped(body: Body) -> Body:
    """A JSON object that was sent under another name: curl's -d calls everything a form."""
    if body.file is None or body.file.data.lstrip()[:1] != b"{":
        return body
    try:
        fields = msgspec.json.decode(body.file.data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body
    except RecursionError:
        raise Unreadable("inputs", "`inputs` is nested too deep", status=400) from None
    return replace(body, fields=fields, file=None)


def _accepted(accept: str, mime: str) -> str:
    """The type of file that the caller asks for by name; of a task that answers JSON, none."""
    kind = mime.partition("/")[0]
    for each in accept.split(",") if kind else ():
        asked = each.partition(";")[0].strip().lower()
        if asked.startswith(f"{kind}/") and not asked.endswith("*"):
            return asked
    return ""
