"""One request, step by step: the file to read first.

identify → read → find → plan → walk → relay, and one Record at the end, whatever the end was. Each verb is one file;
this one holds only their order, and the caller's leaving, which cancels whatever step is running.
"""

import asyncio
import os
import random
import re
from time import monotonic
from typing import Final

from providers import spec
from providers.spec import Fault, Unreadable
from router import endpoints, envelope, failures, relay, routing
from router.attempts import Walker
from router.call import Call, Endpoint
from router.caller import Caller
from router.errors import Refused, bad_request, not_found, too_large
from router.health import Resting
from router.keys import Identity, Keyring
from router.limits import Running
from router.recorder import Recorder
from router.routing import Found, Plan, Table
from router.secrets import Scrubber
from router.settings import duration
from router.story import Story
from router.uploads import Upload, boundary_of

Fields = dict[bytes, bytes]  # of the head; of a name that stands there twice, the last

TOTAL: Final = 600.0  # seconds for a call, whatever its upstreams allow
_REQUEST_ID: Final = re.compile(rb"[\w.-]{1,64}").fullmatch


class Pipeline:
    """Serves what `endpoints` names. `table` is replaced whole when models are discovered."""

    def __init__(
        self,
        *,
        table: Table,
        keyring: Keyring,
        walker: Walker,
        recorder: Recorder,
        resting: Resting,
        limits: Running,
        max_body: int,
        max_upload: int,
        default_models: dict[str, str],
        scrubber: Scrubber,
    ) -> None:
        self.table = table
        self._keyring = keyring
        self._walker = walker
        self._recorder = recorder
        self._resting = resting
        self._limits = limits
        self._max_body = max_body
        self._max_upload = max_upload
        self._default_models = default_models
        self._scrubber = scrubber
        self._dice = random.Random()  # noqa: S311 - weights, not secrets
        self._prefix = os.urandom(6).hex()
        self._counter = 0
        self._running = 0  # requests
        self._leaving: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # known once it runs; asking for it costs a system call

    def open(self) -> None:
        self._loop = asyncio.get_running_loop()

    async def emptied(self) -> None:
        """No request comes here any more; come back when the last has ended."""
        self._leaving = asyncio.Event()
        if self._running:
            await self._leaving.wait()

    async def serve(self, caller: Caller, endpoint: Endpoint, model: str) -> None:
        fields = caller.fields
        story = Story(self._request_id(fields), endpoint, monotonic())
        story.task = asyncio.current_task(self._loop)
        caller.on_gone = story.leave
        record = story.record
        metrics = self._recorder.metrics
        metrics.inflight += 1
        self._running += 1
        call: Call | None = None
        plan: Plan | None = None
        admitted: Identity | None = None
        try:
            identity = self._keyring.identify(caller.headers, fields)
            record.tenant = identity.tenant
            if identity.concurrency is not None:
                self._limits.admit(identity)
                admitted = identity
            call = await self._read(story, identity, fields, caller, model)
            found = self._find(call)
            record.model, record.stream = found.label, call.stream
            plan = self._plan(found)
            served = await self._walker.walk(call, plan, story)
            await relay.answer(caller, call, served, story, plan, self._walker, self._scrubber)
        except Refused as refused:
            await relay.refuse(caller, story, refused.fault, self._scrubber)
        except Unreadable as unreadable:
            fault = Fault(unreadable.status, "invalid_request", unreadable.message, unreadable.param)
            await relay.refuse(caller, story, fault, self._scrubber)
        except asyncio.CancelledError:
            record.outcome = "client_gone" if story.gone else "broken"
            record.status = record.status or 499
            if not story.gone:
                if not story.first:
                    await relay.refuse(caller, story, _STOPPING, self._scrubber)
                record.outcome, record.broken = "broken", "shutdown"
                raise
            if story.task is not None:
                story.task.uncancel()
        except EOFError:
            record.outcome, record.status = "client_gone", 499
        finally:
            story.task = None  # the task holds this frame: a ring that only the collector would undo
            caller.on_gone = None
            if call is not None and call.upload is not None:
                call.upload.close()
            if admitted is not None:
                self._limits.release(admitted)
            metrics.inflight -= 1
            self._running -= 1
            if self._leaving is not None and not self._running:
                self._leaving.set()
            self._recorder.record(story.close(monotonic()), plan)

    def _request_id(self, fields: Fields) -> str:
        given = fields.get(b"x-request-id")
        if given is not None and _REQUEST_ID(given) and not _holds_a_key(given, fields):
            return given.decode()
        self._counter += 1
        return f"{self._prefix}-{self._counter:x}"

    async def _read(self, story: Story, identity: Identity, head: Fields, caller: Caller, model: str) -> Call:
        """Body and head → Call. Raises Refused naming the field."""
        endpoint = story.endpoint
        if b"content-encoding" in head and head[b"content-encoding"].lower() != b"identity":
            raise Refused(Fault(415, "unsupported_media_type", "Compressed request bodies are not accepted."))
        length = int(head[b"content-length"]) if b"content-length" in head else None
        if endpoint.upload:
            return await self._read_upload(story, identity, head, caller, length)
        limit = self._max_body
        if length is not None and length > limit:
            raise too_large(limit)
        body = await caller.body(limit)
        if len(body) > limit:
            raise too_large(limit)
        fields = envelope.read(body, endpoint.bare)
        written = model or envelope.text(fields, "model", "")
        named = bool(model)
        if not named and (written in _NO_MODEL or written.startswith(("http://", "https://"))):
            written = self._default_models.get(endpoint.task, "")
            named = True
        if not written:
            raise bad_request("The field 'model' is required.", "model", "missing_field")
        return Call(
            id=story.record.id,
            endpoint=endpoint,
            model=checked(written),
            stream=_streams(endpoint, fields),
            fields=fields,
            body=body,
            identity=identity,
            deadline=story.started + (_patience(head) if b"x-router-max-wait" in head else TOTAL),
            named=named,
            wants_usage="stream_options" in fields and _wants_usage(fields),
            replay=endpoint.task not in endpoints.PAID_MEDIA,
            wait=(b"x-wait-for-model" in head and head[b"x-wait-for-model"].lower() in (b"true", b"1"))
            or ("options" in fields and _waits(fields)),
            splice=b"x-router-splice" not in head or head[b"x-router-splice"].lower() not in (b"0", b"false"),
        )

    async def _read_upload(
        self, story: Story, identity: Identity, head: Fields, caller: Caller, length: int | None
    ) -> Call:
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
            return Call(
                id=story.record.id,
                endpoint=story.endpoint,
                model=checked(upload.model),
                stream=False,
                fields={},
                body=b"",
                identity=identity,
                deadline=story.started + TOTAL,
                upload=upload,
                replay=story.endpoint.task not in endpoints.PAID_MEDIA,
            )
        except BaseException:
            upload.close()
            raise

    def _find(self, call: Call) -> Found:
        """The model's route seen from this call; 404 where nobody knows it or this caller may not have it."""
        found = self.table.find(call.model, call.endpoint.task, call.endpoint.dialect.name)
        if found is None or not call.identity.allows(found.plan.route.model):
            raise not_found(f"Model {call.model} does not exist", "model", "model_not_found")
        if not found.plan.attempts:
            others = sorted(
                place.name for place in self.table.places.values() if call.endpoint.task in place.provider.tasks()
            )
            fault = failures.nothing_to_try(call, found.plan)
            served = f" Upstreams that serve {call.endpoint.task}: {', '.join(others) or 'none'}."
            raise Refused(Fault(404, fault.code, fault.message + served, "model", attempts=fault.attempts))
        return found

    def _plan(self, found: Found) -> Plan:
        if found.plan.route.policy == "ordered" and self._resting.calm:
            return found.plan
        resting = self._resting.resting(monotonic())
        walker = self._walker
        return routing.plan(found.plan, dice=self._dice, resting=resting, speed=walker.speeds.of, busy=walker.busy)


def _patience(head: Fields) -> float:
    """Seconds that the caller is willing to wait, at most."""
    try:
        return min(TOTAL, duration(head[b"x-router-max-wait"].decode("latin-1")))
    except ValueError as error:
        raise bad_request(f"The header 'x-router-max-wait': {error}.", "x-router-max-wait") from None


def _holds_a_key(given: bytes, fields: Fields) -> bool:
    """Whether an id, which is answered and logged, has the caller's own key in it."""
    return any(fields[name].split()[-1:] and fields[name].split()[-1] in given for name in _KEYS if name in fields)


_KEYS: Final = (b"authorization", b"x-api-key", b"api-key")
_STOPPING: Final = Fault(503, "shutting_down", "The server is shutting down; ask again.", retry_after=1.0)
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


def _waits(fields: spec.Fields) -> bool:
    options = spec.read_value(fields, "options")
    return isinstance(options, dict) and options.get("wait_for_model") is True
