"""The beginning of a 2xx answer: its first event, or the whole of a JSON body, which says whether it is one.

Until that is in hand nothing was said to the caller, and another try is possible.
"""

from providers import sse
from router import estimates, failures, translate, units, usage
from router.call import Call, Prepared
from router.failures import Failure
from router.retry import Outcome
from router.routing import Candidate
from router.served import FULL_LIMIT, Served
from router.upstream.answer import Answer


async def read(call: Call, candidate: Candidate, prepared: Prepared, answer: Answer) -> Served | Failure:
    """A 2xx head is no answer yet: the first event, or the whole of a JSON body, says whether it is one."""
    kind = answer.fields.get(b"content-type", b"").lower()
    if kind.startswith(b"text/event-stream"):
        return await _first_event(call, candidate, prepared, answer)
    if kind.startswith(b"text/html"):  # somebody's page, never an answer
        answer.close()
        return Failure(candidate, Outcome(0, 0.0, "bad_response"))
    said = call.endpoint.media and call.endpoint.raw and b"json" in kind  # an error, or a file as base64
    if (call.endpoint.media and not said) or (call.upload is not None and kind and b"json" not in kind):
        if call.stream or (prepared.crossed and kind):
            answer.close()
            return Failure(candidate, Outcome(0, 0.0, "bad_response"))
        used = units.units_of(call, candidate)
        return Served(candidate, prepared, answer, "bytes", await answer.chunk(), used=used)
    body = await answer.read(FULL_LIMIT)
    try:
        reply = usage.of_reply(body)
        if reply is not None and reply.error is not None:
            return failures.of_error_body(candidate, answer.headers, body)
        used = reply.usage if reply is not None else None
        if used is None or used.input is None or used.output is None:
            used = estimates.completed(call, candidate, used, answer.fields, body)
        if candidate.task in units.TASKS:
            used = usage.both(used, units.units_of(call, candidate, body))
        body = translate.answer(call, candidate, prepared, body)
    except failures.UNUSABLE:
        return Failure(candidate, Outcome(0, 0.0, "bad_response"))
    return Served(candidate, prepared, answer, "full", body, used=used)


async def _first_event(call: Call, candidate: Candidate, prepared: Prepared, answer: Answer) -> Served | Failure:
    """Read until a block with a payload has come; comments before it are kept for the caller."""
    splitter = sse.Splitter()
    blocks: list[bytes] = []
    while data := await answer.chunk():
        blocks += splitter.feed(data)
        payload = next((each for each in map(sse.data, blocks) if each is not None), None)
        if payload is None and not splitter.torn:
            continue
        if payload is not None and b'"error"' in payload:
            failure = failures.of_error_event(candidate, answer.headers, payload)
            if failure is not None:
                answer.close()
                return failure
        if not call.stream and call.upload is None:
            answer.close()
            return Failure(candidate, Outcome(0, 0.0, "bad_response"))
        return Served(candidate, prepared, answer, "events", blocks=blocks, splitter=splitter)
    rest = splitter.rest()
    if rest and (failure := failures.of_error_event(candidate, answer.headers, sse.data(rest + b"\n\n") or b"")):
        return failure
    return Failure(candidate, Outcome(0, 0.0, "bad_response"))
