"""Body and head of a request → its Call, with the field at fault named where there is none.

A Hub-shaped path may leave the task open: then the table says what the model is for, and where that leaves it open
too, the body does. A body is JSON or, for tasks that take a file, the file itself.
"""

import re
from collections.abc import Callable
from typing import Final

from providers import spec
from providers.dialects import hf_answers, hf_guess, hf_tasks
from providers.spec import ANY_TASK, Fault, Task
from router import endpoints, envelope
from router.call import Call, Endpoint
from router.caller import Caller
from router.errors import Refused, bad_request, not_found, too_large
from router.keys import Identity
from router.settings import duration
from router.story import Story
from router.uploads import Upload, boundary_of

Fields = dict[bytes, bytes]  # of the head; of a name that stands there twice, the last

TOTAL: Final = 600.0  # seconds for a call, whatever its upstreams allow
TaskOf = Callable[[str], Task]


class Reader:
    """The bounds of what comes in, and the models of paths that name none."""

    def __init__(self, max_body: int, max_upload: int, default_models: dict[str, str]) -> None:
        self._max_body = max_body
        self._max_upload = max_upload
        self._default_models = default_models

    async def read(
        self, story: Story, identity: Identity, head: Fields, caller: Caller, model: str, task_of: TaskOf
    ) -> Call:
        """Body and head → Call. Raises Refused naming the field."""
        endpoint = story.endpoint
        if b"content-encoding" in head and head[b"content-encoding"].lower() != b"identity":
            raise Refused(Fault(415, "unsupported_media_type", "Compressed request bodies are not accepted."))
        if endpoint.upload:
            return await self._read_upload(story, identity, head, caller)
        limit = self._max_body
        if b"content-length" in head and int(head[b"content-length"]) > limit:
            raise too_large(limit)
        body = await caller.body(limit)
        if len(body) > limit:
            raise too_large(limit)
        raw = endpoint.raw and _is_file(body, head)
        fields = {} if raw else envelope.read(body, endpoint.bare)
        written = model or envelope.text(fields, "model", "")
        named = bool(model)
        if not named and (written in _NO_MODEL or written.startswith(("http://", "https://"))):
            written = self._default_models.get(endpoint.task, "")
            named = True
        if not written:
            raise bad_request("The field 'model' is required.", "model", "missing_field")
        if not endpoint.task:
            endpoint = endpoints.of_task(_task(task_of(written), fields, body if raw else None, head))
            story.become(endpoint)
        if endpoint.task == spec.RESPONSES and envelope.flag(fields, "background"):
            raise bad_request("'background' is not served: what it comes to would be told to nobody.", "background")
        if raw and endpoint.task not in hf_tasks.FILES:
            raw, fields = False, _text(body, head)
        model, stream = checked(written), _streams(endpoint, fields)
        deadline = story.started + _patience(head)
        call = Call(story.record.id, endpoint, model, stream, fields, body, identity, deadline)
        call.named = named
        call.replay = endpoint.task not in endpoints.PAID_MEDIA
        if "stream_options" in fields:
            call.wants_usage = _wants_usage(fields)
        if b"x-wait-for-model" in head:
            call.wait = head[b"x-wait-for-model"].lower() in (b"true", b"1")
        if b"x-router-splice" in head:
            call.splice = head[b"x-router-splice"].lower() not in (b"0", b"false")
        if b"x-use-cache" in head:
            call.use_cache = head[b"x-use-cache"].lower() not in (b"0", b"false")
        if endpoint.raw:
            _of_the_hub(call, raw, head)
        return call

    async def _read_upload(self, story: Story, identity: Identity, head: Fields, caller: Caller) -> Call:
        length = int(head[b"content-length"]) if b"content-length" in head else None
        if length is not None and length > self._max_upload:
            raise too_large(self._max_upload)

        async def more() -> bytes:
            while not caller.whole():
                piece = await caller.piece()
                if piece is None:
                    raise EOFError
                if piece:
                    return piece
            return b""

        upload = Upload(more, boundary_of(head.get(b"content-type", b"")), length, self._max_upload)
        try:
            await upload.find_model()
            model = checked(upload.model)
            deadline = story.started + _patience(head)
            call = Call(story.record.id, story.endpoint, model, False, {}, b"", identity, deadline, upload)
            call.replay = story.endpoint.task not in endpoints.PAID_MEDIA
            return call
        except BaseException:
            upload.close()
            raise


def _of_the_hub(call: Call, raw: bool, head: Fields) -> None:
    """What only a Hub-shaped request says, by its head and its `options`."""
    agent = head.get(b"user-agent", b"").decode("latin-1")
    options = spec.read_value(call.fields, "options") if "options" in call.fields else None
    options = options if isinstance(options, dict) else {}
    call.stream = call.stream and not raw
    call.wait = call.wait or options.get("wait_for_model") is True or agent.startswith(_IMPATIENT)
    call.use_cache = call.use_cache and options.get("use_cache") is not False
    call.raw = raw
    call.mime = head.get(b"content-type", b"").decode("latin-1") if raw else ""
    call.accept = _accepted(head) if call.endpoint.media else ""
    call.agent = agent
    call.reshaped = hf_answers.reshapes(call.endpoint.task, agent)


def _patience(head: Fields) -> float:
    """Seconds that the caller is willing to wait, at most."""
    if b"x-router-max-wait" not in head:
        return TOTAL
    try:
        return min(TOTAL, duration(head[b"x-router-max-wait"].decode("latin-1")))
    except ValueError as error:
        raise bad_request(f"The header 'x-router-max-wait': {error}.", "x-router-max-wait") from None


_NO_MODEL: Final = frozenset({"", "dummy", "tgi"})  # what clients write that have nothing to say


def checked(model: str) -> str:
    """An id may be anything printable of bounded length; the strict pattern guards what goes into a URL path."""
    if len(model) > 512 or not model.isprintable() or (".." in model and ".." in model.split("/")):
        raise not_found("The model id is not one.", "model", "model_not_found")
    return model


def _streams(endpoint: Endpoint, fields: spec.Fields) -> bool:
    if endpoint.stream is not None:
        return endpoint.stream
    if "stream" not in fields:
        return endpoint.dialect.name == "ollama"
    return envelope.flag(fields, "stream")


def _wants_usage(fields: spec.Fields) -> bool:
    options = spec.read_value(fields, "stream_options")
    if options is not None and not isinstance(options, dict):
        raise bad_request("The field 'stream_options' must be an object.", "stream_options", "invalid_type")
    return options is not None and options.get("include_usage") is True


def _is_file(body: bytes, head: Fields) -> bool:
    """Whether a Hub-shaped body is a file rather than JSON. Clients send JSON as what curl says unasked, and files
    without saying anything.
    """
    begins = body[:64].lstrip()[:1]
    return bool(begins) and begins not in b'{["' and b"json" not in head.get(b"content-type", b"").lower()


def _text(body: bytes, head: Fields) -> spec.Fields:
    """A body that is just text stands for `inputs`, where it is called so; else it was meant to be JSON."""
    if not head.get(b"content-type", b"").lower().startswith(b"text/"):
        return envelope.read(body)
    try:
        return {"inputs": spec.raw(body.decode())}
    except UnicodeDecodeError:
        raise bad_request("The request body is not valid UTF-8.", "inputs", "invalid_json") from None


_IMPATIENT: Final = "@huggingface/inference"  # asks again at once at every 503, without a pause or an end


def _accepted(head: Fields) -> str:
    """The media type that a file is wanted in; empty for none in particular."""
    found = _MEDIA_TYPE(head.get(b"accept", b""))
    return found[0].decode("ascii").lower() if found else ""


_MEDIA_TYPE: Final = re.compile(rb"(?:image|audio|video)/[\w.+-]{1,32}", re.ASCII).match


def _task(known: Task, fields: spec.Fields, file: bytes | None, head: Fields) -> Task:
    """What a Hub-shaped call is for: as the table says; where it says nothing, by what the body and head look like."""
    if known == spec.CONVERSATIONAL:
        return spec.TEXT_GENERATION  # `inputs` of a chat model: the text to go on from
    if known != ANY_TASK:
        return known
    return hf_guess.task(fields, file, _accepted(head))
