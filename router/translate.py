"""A call → the body that a candidate must receive, and the candidate's full answer → the caller's.

Where both ends speak the same dialect nothing is translated: top-level values stay the bytes that came, with `model`
exchanged and, for streams, `stream_options.include_usage` asked for. Elsewhere text generation goes through its
canonical form, OpenAI's completions (providers/dialects), and on to chat where the provider has no completions.
"""

from typing import Any, Final

import msgspec

from providers import spec
from providers.dialects import openai
from providers.spec import Fields, raw
from router import envelope, splice
from router.call import Call, Prepared
from router.routing import Candidate

_COUNTED: Final = frozenset({spec.CONVERSATIONAL, spec.TEXT_GENERATION})  # tasks whose streams can carry usage
_OURS: Final = ("options", "model")  # of HF and TGI bodies: read by the router, no part of the upstream's API


def prepare(call: Call, candidate: Candidate, so_far: splice.Told | None = None) -> Prepared:
    """`so_far`: what the caller has of the answer, whose rest is asked for. Raises providers.spec.Unreadable where the
    call cannot be put into the candidate's shape.
    """
    endpoint = call.endpoint
    if candidate.dialect != endpoint.dialect.name or candidate.task != endpoint.task:
        return _cross(call, candidate, so_far)
    if call.raw:
        return Prepared(call.body)
    fields = call.fields
    if endpoint.dialect.name != "openai":
        fields = spec.without(fields, *_OURS)
    elif call.named or candidate.deployment.provider_id != call.model:
        fields = {**fields, "model": raw(candidate.deployment.provider_id)}
    if "suffix" in fields:
        fields = _filled_in(fields, candidate)
    if so_far is not None:
        fields = splice.continued(fields, candidate, so_far)
    if endpoint.task == spec.RESPONSES and "stream" not in fields:
        fields = {**fields, "stream": raw(False)}  # transformers serve streams unless it is told not to
    if candidate.adapter.adapt is not None:
        fields = candidate.adapter.adapt(fields)
    asked = call.stream and not call.wants_usage and candidate.provider.usage_option and endpoint.task in _COUNTED
    if asked and candidate.dialect == "openai":
        fields = _asking_usage(fields)
    body = call.body if fields is call.fields else envelope.write(fields)
    return Prepared(body, asked_usage=asked)


def _filled_in(fields: Fields, candidate: Candidate) -> Fields:
    """`prompt` and `suffix` → one prompt in the model's own marks, where the deployment says what those are."""
    fim, before, after = candidate.deployment.fim, spec.value_of(fields, "prompt"), spec.value_of(fields, "suffix")
    if fim is None or not after or not (isinstance(before, str) and isinstance(after, str)):
        return fields
    return {**spec.without(fields, "suffix"), "prompt": raw(fim.prompt(before, after))}


def _asking_usage(fields: Fields) -> Fields:
    options = spec.value_of(fields, "stream_options")
    return {**fields, "stream_options": raw({**(options if isinstance(options, dict) else {}), "include_usage": True})}


def _cross(call: Call, candidate: Candidate, so_far: splice.Told | None) -> Prepared:
    codec = call.codec
    want: Any = None
    if codec is not None:
        fields = call.fields if call.endpoint.stream is None else {**call.fields, "stream": raw(call.stream)}
        body, want = codec.read(fields)
    else:
        body = {name: spec.value_of(call.fields, name) for name in call.fields}
    if candidate.task == spec.CONVERSATIONAL:
        body = openai.chat_of(body)
    body = {**body, "model": candidate.deployment.provider_id, "stream": call.stream}
    fields = {name: raw(value) for name, value in body.items()}
    if "suffix" in fields:
        fields = _filled_in(fields, candidate)
    if so_far is not None:
        fields = splice.continued(fields, candidate, so_far)
    if candidate.adapter.adapt is not None:
        fields = candidate.adapter.adapt(fields)
    asked = call.stream and not call.wants_usage and candidate.provider.usage_option
    if asked:
        fields = _asking_usage(fields)
    return Prepared(envelope.write(fields), True, want, asked)


def answer(call: Call, candidate: Candidate, prepared: Prepared, body: bytes) -> bytes:
    """A full JSON answer in the caller's dialect. Raises LookupError or ValueError where it is none."""
    if not prepared.crossed:
        return body
    reply = msgspec.json.decode(body)
    if candidate.task == spec.CONVERSATIONAL:
        reply = openai.completion_of(reply)
    codec = call.codec
    return msgspec.json.encode(reply) if codec is None else codec.write(reply, prepared.want)
