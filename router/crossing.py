"""A call of a task in one shape → the play that asks a candidate for it in another.

The middle is the Hub's form (providers/spec.py, Ask). A candidate that speaks a dialect is asked by that dialect's
codec, one with an API of its own by the adapter's play.
"""

from dataclasses import replace
from typing import Any

import msgspec

from providers import multipart, spec
from providers.dialects import DIALECTS, similarity
from providers.spec import Ask, Blob, Body, Fields, Play, Result, TaskCodec, Unreadable
from router import envelope
from router.call import Call
from router.routing import Candidate


def read(call: Call, form: bytes | None = None) -> tuple[Ask, Any]:
    """What is asked, and what the answer depends on. `form`: an upload's whole body. Raises Unreadable."""
    codec = call.task_codec
    assert codec is not None, "routing chose a crossing"
    if call.stream:
        raise Unreadable("stream", "This model's server does not stream.", 400)
    if form is not None:
        assert call.upload is not None
        body = _form(form, call.upload.boundary)
    elif call.raw:
        body = Body(file=Blob(call.body, call.mime))
    else:
        body = Body(fields=call.fields)
    ask, want = codec.read(replace(body, accept=call.accept, agent=call.agent))
    return replace(ask, task=call.endpoint.task, accept=ask.accept or call.accept), want


def _form(body: bytes, boundary: bytes) -> Body:
    try:
        parts = multipart.parse(body, boundary)
    except ValueError as error:
        raise Unreadable("file", f"The multipart body cannot be read: {error}.", 400) from None
    texts: dict[str, Any] = {}
    files: dict[str, Blob] = {}
    for name, value in parts:
        if isinstance(value, Blob):
            if name in files:
                raise Unreadable(name, f"`{name}` stands in the form twice; one file of it can be taken.", 400)
            files[name] = value
        else:
            before = texts.get(name)
            texts[name] = value if before is None else [*(before if isinstance(before, list) else [before]), value]
    return Body(fields={name: spec.raw(value) for name, value in texts.items()}, files=files)


def play_of(candidate: Candidate, ask: Ask) -> Play:
    """The candidate's side of it, ready to be played."""
    deployment = candidate.deployment
    ask = replace(
        ask,
        provider_id=deployment.provider_id,
        model=deployment.model or deployment.provider_id,
        adapter=deployment.row.adapter,
        adapter_weights=deployment.row.adapter_weights,
    )
    return _as(candidate, ask)


def _as(candidate: Candidate, ask: Ask) -> Play:
    """What is asked, by way of the task that the candidate has (routing.table.KIN)."""
    if ask.task == candidate.task:
        if candidate.adapter.play is not None:
            return (yield from candidate.adapter.play(ask))
        return (yield from _in_dialect(candidate, DIALECTS[candidate.dialect].tasks[candidate.task], ask))
    if ask.task == spec.TEXT_RANKING:
        return similarity.ranked((yield from _as(candidate, similarity.similarity_of(ask))))
    if ask.task == spec.SENTENCE_SIMILARITY:
        return similarity.compared((yield from _as(candidate, similarity.features_of(ask))))
    return (yield from _as(candidate, replace(ask, task=candidate.task)))


def _in_dialect(candidate: Candidate, codec: TaskCodec, ask: Ask) -> Play:
    adapter = candidate.adapter
    send = replace(codec.encode(ask), path=adapter.path)
    if adapter.adapt is not None and send.body is not None and send.mime == "application/json":
        fields: Fields = msgspec.json.decode(send.body, type=dict[str, msgspec.Raw])
        send = replace(send, body=envelope.write(adapter.adapt(fields)))
    if codec.media(ask):
        return Result(send)
    reply = yield send
    return codec.decode(reply, ask)
