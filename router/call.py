"""What the caller wants, read once from path, headers and body: the record that every later step starts from."""

from dataclasses import dataclass
from typing import Any

from providers.spec import Codec, Dialect, Fields, Task, TaskCodec
from router.keys import Identity
from router.uploads import Upload


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a path means: the shape it speaks, the task it asks for (empty: the model's), and how its body is framed."""

    dialect: Dialect
    task: Task
    upload: bool = False  # multipart, streamed
    bare: str = ""  # a body that is just a JSON string stands for this field
    stream: bool | None = None  # fixed by the path; None: the body says
    media: bool = False  # the answer is a file, not JSON
    raw: bool = False  # the body may be a file instead of JSON


class Call:
    """One request. `model` is the id as the caller wrote it; times are of `time.monotonic`. It is filled where it is
    read (router/reading.py), and not changed behind it; what most requests leave as it is stands in the class.
    """

    named: bool = False  # by the path or a default, whatever the body says of it
    wants_usage: bool = False  # the caller asked for stream_options.include_usage
    replay: bool = True  # text may be sent again after it was sent (DECISIONS, "Replay")
    wait: bool = False  # x-wait-for-model
    splice: bool = True  # not x-router-splice: 0
    use_cache: bool = True  # not x-use-cache: 0
    raw: bool = False  # the body is a file (or plain text), not JSON
    mime: str = ""  # what the caller said of a raw body
    accept: str = ""  # the media type that the caller asked for, of a task that answers with a file
    agent: str = ""
    reshaped: bool = False  # the caller's client insists on a shape of its own, whatever the upstream's

    def __init__(
        self,
        request_id: str,
        endpoint: Endpoint,
        model: str,
        stream: bool,
        fields: Fields,
        body: bytes,
        identity: Identity,
        deadline: float,
        upload: Upload | None = None,
    ) -> None:
        self.id = request_id
        self.endpoint = endpoint
        self.model = model
        self.stream = stream
        self.fields = fields
        self.body = body  # as it came; empty for uploads
        self.identity = identity
        self.deadline = deadline
        self.upload = upload

    @property
    def codec(self) -> Codec | None:
        return self.endpoint.dialect.codecs.get(self.endpoint.task)

    @property
    def task_codec(self) -> TaskCodec | None:
        return self.endpoint.dialect.tasks.get(self.endpoint.task)


class Prepared:
    """What goes up, and what the answer's way back depends on. `crossed`: through the canonical form."""

    def __init__(self, body: bytes, crossed: bool = False, want: Any = None, asked_usage: bool = False) -> None:
        self.body = body
        self.crossed = crossed
        self.want = want
        self.asked_usage = asked_usage
