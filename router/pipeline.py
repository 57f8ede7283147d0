"""One request, step by step: the file to read first.

identify → read → find → plan → walk → relay, and one Record at the end, whatever the end was. Each verb is one file;
this one holds only their order, and the caller's leaving, which cancels whatever step is running.
"""

import asyncio
import os
import random
import re
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Final

from providers import spec
from providers.spec import Fault, Unreadable
from router import endpoints, envelope, failures, relay, routing
from router.attempts import Walker
from router.call import Call, Endpoint
from router.errors import Refused, bad_request, not_found, too_large
from router.health import Resting
from router.keys import Identity, Keyring
from router.recorder import Recorder
from router.routing import Found, Plan, Table
from router.secrets import Scrubber
from router.story import Story
from router.uploads import Upload, boundary_of

Receive = Callable[[], Awaitable[Any]]
Headers = dict[bytes, bytes]

TOTAL: Final = 600.0  # seconds for a call, whatever its upstreams allow
_REQUEST_ID: Final = re.compile(rb"[\w.-]{1,64}").fullmatch
_READ: Final = frozenset(
    {b"content-length", b"content-type", b"content-encoding", b"x-request-id", b"x-wait-for-model"}
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]").search


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
        self._max_body = max_body
        self._max_upload = max_upload
        self._default_models = default_models
        self._scrubber = scrubber
        self._dice = random.Random()  # noqa: S311 - weights, not secrets
        self._prefix = os.urandom(6).hex()
        self._counter = 0
        self._loop: asyncio.AbstractEventLoop | None = None  # known once it runs; asking for it costs a system call

    def open(self) -> None:
        self._loop = asyncio.get_running_loop()

    async def serve(self, scope: Any, receive: Receive, send: relay.Send, endpoint: Endpoint, model: str) -> None:
        headers = {name: value for name, value in scope["headers"] if name in _READ}
        story = Story(self._request_id(headers), endpoint, monotonic())
        story.task = asyncio.current_task(self._loop)
        connection = scope.get("router.connection")
        if connection is not None:
            connection.on_gone = story.leave
        metrics = self._recorder.metrics
        metrics.inflight += 1
        call: Call | None = None
        watcher: asyncio.Task[None] | None = None
        try:
            identity = self._keyring.identify(scope["headers"])
            story.tenant = identity.tenant
            call = await self._read(story, identity, headers, receive, model)
            if connection is None and call.upload is None:
                watcher = asyncio.create_task(_watch(receive, story))
            found = self._find(call)
            story.model, story.stream = found.label, call.stream
            served = await self._walker.walk(call, self._plan(call, found), story)
            await relay.answer(send, call, served, story, monotonic(), found.route.echo_model, self._scrubber)
        except Refused as refused:
            await relay.refuse(send, story, refused.fault, monotonic(), self._scrubber)
        except Unreadable as unreadable:
            fault = Fault(unreadable.status, "invalid_request", unreadable.message, unreadable.param)
            await relay.refuse(send, story, fault, monotonic(), self._scrubber)
        except asyncio.CancelledError:
            story.outcome = "client_gone" if story.gone else "broken"
            story.status = story.status or 499
            if not story.gone:
                story.broken = "shutdown"
                raise
            if story.task is not None:
                story.task.uncancel()
        except EOFError:
            story.outcome, story.status = "client_gone", 499
        finally:
            story.task = None  # the task holds this frame: a ring that only the collector would undo
            if connection is not None:
                connection.on_gone = None
            if watcher is not None:
                watcher.cancel()
            if call is not None and call.upload is not None:
                call.upload.close()
            metrics.inflight -= 1
            self._recorder.record(story.record(monotonic()))

    def _request_id(self, headers: Headers) -> str:
        given = headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID(given):
            return given.decode()
        self._counter += 1
        return f"{self._prefix}-{self._counter:x}"

    async def _read(self, story: Story, identity: Identity, headers: Headers, receive: Receive, model: str) -> Call:
        """Body and headers → Call. Raises Refused naming the field."""
        endpoint = story.endpoint
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise Refused(Fault(415, "unsupported_media_type", "Compressed request bodies are not accepted."))
        length = int(headers[b"content-length"]) if b"content-length" in headers else None
        if endpoint.upload:
            return await self._read_upload(story, identity, headers, receive, length)
        body = await _body(receive, length, self._max_body)
        fields = envelope.read(body, endpoint.bare)
        written = envelope.text(fields, "model", "")
        if model or written in ("", "dummy", "tgi") or written.startswith(("http://", "https://")):
            written = model or self._default_models.get(endpoint.task, "")
        if not written:
            raise bad_request("The field 'model' is required.", "model", "missing_field")
        options = spec.read_value(fields, "options") if "options" in fields else None
        wait = headers.get(b"x-wait-for-model", b"").lower() in (b"true", b"1")
        return Call(
            id=story.id,
            endpoint=endpoint,
            model=checked(written),
            stream=_streams(endpoint, fields),
            fields=fields,
            body=body,
            identity=identity,
            started=story.started,
            deadline=story.started + TOTAL,
            wants_usage=_wants_usage(fields),
            replay=endpoint.task not in endpoints.PAID_MEDIA,
            wait=wait or (isinstance(options, dict) and options.get("wait_for_model") is True),
        )

    async def _read_upload(
        self, story: Story, identity: Identity, headers: Headers, receive: Receive, length: int | None
    ) -> Call:
        if length is not None and length > self._max_upload:
            raise too_large(self._max_upload)
        ended = False

        async def more() -> bytes:
            nonlocal ended
            while not ended:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise EOFError
                ended = not message.get("more_body", False)
                if message.get("body"):
                    return bytes(message["body"])
            return b""

        upload = Upload(more, boundary_of(headers.get(b"content-type", b"")), length, self._max_upload)
        try:
            await upload.find_model()
            return Call(
                id=story.id,
                endpoint=story.endpoint,
                model=checked(upload.model),
                stream=False,
                fields={},
                body=b"",
                identity=identity,
                started=story.started,
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
        if found is None or not call.identity.allows(found.route.model):
            raise not_found(f"Model {call.model} does not exist", "model", "model_not_found")
        if not found.candidates:
            others = sorted(
                place.name for place in self.table.places.values() if call.endpoint.task in place.provider.tasks()
            )
            fault = failures.nothing_to_try(call, Plan(found.route, (), found.dropped))
            served = f" Upstreams that serve {call.endpoint.task}: {', '.join(others) or 'none'}."
            raise Refused(Fault(404, fault.code, fault.message + served, "model", attempts=fault.attempts))
        return found

    def _plan(self, call: Call, found: Found) -> Plan:
        if found.route.policy == "ordered" and not self._resting:
            return Plan(found.route, found.candidates, found.dropped)
        resting = self._resting.resting(monotonic())
        walker = self._walker
        return routing.plan(found, dice=self._dice, resting=resting, speed=walker.speeds.of, busy=walker.busy)


def checked(model: str) -> str:
    """An id may be anything printable of bounded length; the strict pattern guards what goes into a URL path."""
    if len(model) > 512 or _CONTROL(model) or ".." in model.split("/"):
        raise not_found("The model id is not one.", "model", "model_not_found")
    return model


def _streams(endpoint: Endpoint, fields: spec.Fields) -> bool:
    if endpoint.stream is not None:
        return endpoint.stream
    if endpoint.dialect.name == "ollama" and "stream" not in fields:
        return True
    return envelope.flag(fields, "stream")


def _wants_usage(fields: spec.Fields) -> bool:
    if "stream_options" not in fields:
        return False
    options = spec.read_value(fields, "stream_options")
    if options is not None and not isinstance(options, dict):
        raise bad_request("The field 'stream_options' must be an object.", "stream_options", "invalid_type")
    return options is not None and options.get("include_usage") is True


async def _body(receive: Receive, length: int | None, limit: int) -> bytes:
    if length is not None and length > limit:
        raise too_large(limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise EOFError
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > limit:
            raise too_large(limit)
        return body
    parts = [body]
    size = len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise EOFError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise too_large(limit)
    return b"".join(parts)


async def _watch(receive: Receive, story: Story) -> None:
    """For servers that do not say by themselves when a caller leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass
    story.leave()
