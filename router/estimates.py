"""Tokens that nobody has told: what a call may come to, before it is made; what it came to where no upstream says so.

Four bytes are a token, as near as can be had without the model's own tokeniser, which is not asked: it would take
longer than everything else here. What is counted this way is marked so, and gives way to whatever an upstream says.
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from providers import spec
from providers.dialects.generate_request import DEFAULT_MAX_NEW_TOKENS
from providers.spec import Fields
from router import units
from router.call import Call
from router.routing import Candidate
from router.story import Story
from router.told import MOST, Usage, Written
from router.usage import both, of_head

DEFAULT: Final = 4096  # tokens that an answer may have where nothing says how many
PICTURE: Final = 1024  # tokens that a picture in a prompt comes to
SAMPLE: Final = 64  # events of a stream that are looked into, where it must be
WORD: Final = 24  # bytes of text that one token may be
LAST: Final = 4  # events that an answer may end in without any text: its end, its usage

WRITES: Final = frozenset({spec.CONVERSATIONAL, spec.TEXT_GENERATION, spec.RESPONSES})
READS: Final = WRITES | {spec.FEATURE_EXTRACTION, spec.SENTENCE_SIMILARITY, spec.TEXT_RANKING, spec.MODERATION}
_PROMPTS: Final = frozenset({
    "messages", "prompt", "inputs", "input", "system", "instructions", "tools", "functions", "response_format",
    "suffix", "query", "documents", "texts", "text",
})  # fmt: skip
_LIMITS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_new_tokens")
_HUB: Final = ("max_new_tokens", "max_length", "max_tokens")
_SAID: Final = frozenset({
    "content", "text", "generated_text", "reasoning_content", "reasoning", "thinking", "arguments", "response",
    "refusal",
})  # fmt: skip
_STREAMED: Final = _SAID - {"generated_text"}  # which a stream says at its end, once more

_file = re.compile(rb"data:[\w.+-]{1,64}/[\w.+-]{1,64};base64,[A-Za-z0-9+/=_-]*")
_int: Final[msgspec.json.Decoder[int]] = msgspec.json.Decoder(int)
_any = msgspec.json.Decoder().decode
_object: Final[msgspec.json.Decoder[Fields]] = msgspec.json.Decoder(Fields)
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def estimate_input(call: Call) -> int:
    """The prompt's tokens. A picture that is sent along counts as one, not by its size."""
    if call.endpoint.task not in READS:
        return 0
    size = pictures = 0
    for name, value in call.fields.items():
        if name in _PROMPTS:
            size += len(value)
            if len(value) > 256 and b";base64," in (text := bytes(value)):
                for found in _file.finditer(text):
                    size -= found.end() - found.start()
                    pictures += 1
    return (size + 3) // 4 + pictures * PICTURE


def most_output(call: Call, candidate: Candidate) -> int:
    """The most tokens that the answer may have: as the call says, else all that the model has room for."""
    if call.endpoint.task not in WRITES:
        return 0
    dialect = call.endpoint.dialect.name
    most, times = _said(call)
    context = candidate.deployment.context
    if most is None and dialect != "openai" and candidate.dialect != dialect:
        most = DEFAULT_MAX_NEW_TOKENS  # which is asked for in its place
    if most is None:
        most = context or max(DEFAULT, _loose(call.fields, _LIMITS))
    elif context is not None and most > context:
        most = context
    return min(most * times, MOST)


def says_most(call: Call) -> bool:
    """Whether the call itself says how much it wants at most."""
    return call.endpoint.task not in WRITES or _said(call)[0] is not None


def _said(call: Call) -> tuple[int | None, int]:
    """The most tokens of one answer, and how many answers."""
    fields, dialect = call.fields, call.endpoint.dialect.name
    if dialect == "openai":
        return _most_of(fields, _LIMITS), max(_loose(fields, ("n", "best_of")), 1) * _prompts(fields)
    if dialect == "ollama":
        return _most_of(_inner(fields, "options"), ("num_predict",)), 1
    asked = _inner(fields, "parameters")
    return _most_of(asked, _HUB), max(_loose(asked, ("best_of", "num_return_sequences")), 1)


def _most_of(fields: Mapping[str, msgspec.Raw], names: tuple[str, ...]) -> int | None:
    """The greatest count of these: which of two an upstream heeds is not known here. What else stands there is the
    upstream's to refuse.
    """
    found = None
    for name in names:
        if name in fields:
            try:
                value = _int.decode(fields[name])
            except _UNREADABLE:
                continue
            if value > 0 and (found is None or value > found):
                found = min(value, MOST)
    return found


def _loose(fields: Mapping[str, msgspec.Raw], names: tuple[str, ...]) -> int:
    """The same as lenient upstreams read it, to whom `"5"` and `5.0` are 5; 0 where there is none."""
    found = 0.0
    for name in names:
        if name in fields:
            with contextlib.suppress(ValueError):
                found = max(found, min(float(bytes(fields[name]).strip(b'"')), MOST))
    return int(found)


def _inner(fields: Fields, name: str) -> Mapping[str, msgspec.Raw]:
    try:
        return _object.decode(fields[name]) if name in fields else {}
    except _UNREADABLE:
        return {}


def _prompts(fields: Fields) -> int:
    """Completions may be asked for several prompts at once: a list of texts, or of lists of tokens."""
    prompt = fields.get("prompt")
    if prompt is None or not bytes(prompt).startswith(b"["):
        return 1
    try:
        found = msgspec.json.decode(prompt, type=list[msgspec.Raw])
    except _UNREADABLE:
        return 1
    return max(1, len(found)) if found and bytes(found[0])[:1] in (b'"', b"[") else 1


def streamed(story: Story, call: Call, payloads: Sequence[bytes], whole: bool) -> None:
    """A stream has ended, `whole` or not: what was not told is counted here, and marked so. `payloads`: of its last
    events, as many as there are.
    """
    record, events = story.record, story.events
    told = story.wrote and (not events or (whole and (record.output_tokens > 0 or events <= LAST)))
    if not told and call.endpoint.task in WRITES:
        record.output_tokens += tokens_of(payloads, events)
        record.estimated = True
    if not story.read and call.endpoint.task in READS:
        record.input_tokens = estimate_input(call)
        record.estimated = True


def tokens_of(payloads: Sequence[bytes], events: int) -> int:
    """The last so many events as tokens. Where not all of them are here, or they are very many, the last ones speak for
    all.
    """
    sample = min(SAMPLE, len(payloads), events)
    if not sample:
        return events
    found = sum(tokens_in(payload) for payload in islice(reversed(payloads), sample))
    return found if sample == events else round(found * events / sample)


def tokens_in(payload: bytes) -> int:
    """Of one event: most servers send each token by itself, and a long word is one; what is longer goes by its size."""
    size = _of_chunk(payload)
    if size < 0:
        size = _said_by(payload)
    return (size + 3) // 4 if size > WORD else 1 if size else 0


_chunk: Final = msgspec.json.Decoder(Written).decode


def _of_chunk(payload: bytes) -> int:
    """Bytes of text in a chunk of a chat that says no more than usual; -1: all of it must be looked into."""
    try:
        choices = _chunk(payload).choices
    except _UNREADABLE:
        return -1
    said = [text for each in choices for text in (each.delta.content, each.delta.reasoning_content) if text]
    return sum([len(text) if text.isascii() else len(text.encode()) for text in said])


def _said_by(payload: bytes) -> int:
    """Bytes of text in one event. What the events of /v1/responses say at their end was all said before."""
    try:
        event = _any(payload)
    except _UNREADABLE:
        return 0
    kind = event.get("type") if isinstance(event, dict) else None
    if isinstance(kind, str) and kind.startswith("response."):
        return len(event["delta"].encode()) if isinstance(event.get("delta"), str) else 0
    return _texts(event, _STREAMED)


def completed(
    call: Call, candidate: Candidate, used: Usage | None, head: Mapping[bytes, bytes], body: bytes
) -> Usage | None:
    """What a whole answer used: as it says itself, as its head says, else as it looks from here."""
    task = call.endpoint.task
    if candidate.task in units.TASKS:
        return used
    if used is None or used.input is None or used.output is None:
        used = both(used, of_head(head))
    if task in READS and (used is None or used.input is None):
        used = both(used, Usage(input=estimate_input(call), estimated=True))
    if task in WRITES and (used is None or used.output is None):
        used = both(used, Usage(output=output_of(body), estimated=True))
    return used


def output_of(body: bytes) -> int:
    """The tokens of a whole answer's texts."""
    try:
        return (_texts(_any(body), _SAID) + 3) // 4
    except _UNREADABLE:
        return 0


def _texts(value: Any, names: frozenset[str]) -> int:
    """Bytes of what was said, wherever in the answer that is."""
    if isinstance(value, list):
        return sum([_texts(each, names) for each in value])
    if not isinstance(value, dict):
        return 0
    said = 0
    for name, each in value.items():
        if isinstance(each, str):
            if name in names:
                said += len(each.encode())
        elif isinstance(each, _NESTED):
            said += _texts(each, names)
    if isinstance(value.get("reasoning_content"), str) and isinstance(value.get("reasoning"), str):
        said -= len(value["reasoning"].encode())  # by both its names
    return said


_NESTED: Final = (dict, list)
