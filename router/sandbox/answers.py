"""The table of paths: who answers, how the body is read, and in whose words a refusal is said."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal
from urllib.parse import unquote

from router.sandbox import chat, completions, pictures, responses, sounds, tgi, vectors
from router.sandbox import fields as read
from router.sandbox.exchange import Ask, File, Reply, Request, Wording, Wrong, json_reply, seal
from router.sandbox.faults import FAULTS, MODELS
from router.sandbox.tasks import TASKS, asked

CREATED: Final = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Route:
    make: Callable[[Ask], Reply]
    reads: Literal["json", "form", "file", "nothing"]  # file: JSON, or the bytes of a file
    wording: Wording = "openai"
    needs_model: bool = True


def models(_: Ask) -> Reply:
    return json_reply({"object": "list", "data": [_model(name) for name in MODELS]})


def model(ask: Ask) -> Reply:
    if ask.model not in MODELS:
        raise no_model(ask.model)
    return json_reply(_model(ask.model))


def people(_: Ask) -> Reply:
    """`GET /`: what can be asked for, for whoever opens the port in a browser."""
    width = max(map(len, FAULTS))
    lines = [
        "Inference Router's sandbox: deterministic answers, and faults on demand.",
        "Name a fault as the model, sandbox/NAME, or in the header x-sandbox-fault: NAME.",
        "x-sandbox-delay: 20ms (header or field of the body) is the pause before each event.",
        "",
        *(f"{name:{width}}  {fault.says}" for name, fault in FAULTS.items()),
        "",
    ]
    return Reply("\n".join(lines).encode(), content_type="text/plain; charset=utf-8")


def no_model(name: str) -> Wrong:
    return Wrong(
        f"The model '{name}' does not exist. Its models are listed at /v1/models.",
        "model",
        "model_not_found",
        status=404,
    )


OPENAI: Final[Mapping[str, Route]] = {
    "chat/completions": Route(chat.answer, "json"),
    "completions": Route(completions.answer, "json"),
    "embeddings": Route(vectors.embeddings, "json"),
    "images/generations": Route(pictures.generate, "json", needs_model=False),
    "images/edits": Route(pictures.edit, "form", needs_model=False),
    "audio/speech": Route(sounds.speech, "json"),
    "audio/transcriptions": Route(sounds.transcriptions, "form"),
    "audio/translations": Route(sounds.translations, "form"),
    "responses": Route(responses.answer, "json"),
    "rerank": Route(vectors.rerank, "json"),
    "moderations": Route(vectors.moderations, "json", needs_model=False),
}
TGI: Final[Mapping[str, Route]] = {
    "/": Route(tgi.root, "json", "tgi"),
    "/generate": Route(tgi.generate, "json", "tgi"),
    "/generate_stream": Route(tgi.generate_stream, "json", "tgi"),
    "/tokenize": Route(tgi.tokenize, "json", "tgi"),
}
ROUTES: Final[Mapping[tuple[str, str], Route]] = MappingProxyType(
    {("POST", f"{prefix}/{path}"): route for prefix in ("", "/v1") for path, route in OPENAI.items()}
    | {("POST", path): route for path, route in TGI.items()}
    | {("POST", f"/pipeline/{task}"): Route(make, "file", "huggingface") for task, make in TASKS.items()}
    | {
        ("GET", "/"): Route(people, "nothing"),
        ("GET", "/models"): Route(models, "nothing"),
        ("GET", "/v1/models"): Route(models, "nothing"),
        ("GET", "/info"): Route(tgi.info, "nothing", "tgi"),
        ("GET", "/health"): Route(tgi.health, "nothing", "tgi"),
    }
)
PATHS: Final = frozenset(path for _, path in ROUTES)
MODEL_PATHS: Final = ("/v1/models/", "/models/")
PIPELINE: Final = "/pipeline/"


def no_task(ask: Ask) -> Reply:
    task = ask.path.removeprefix(PIPELINE)
    raise Wrong(f"Task {task} is not supported. One of: {', '.join(TASKS)}.", "task", status=404)


def find(request: Request) -> Route:
    route = ROUTES.get((request.method, request.path))
    if route:
        return route
    if request.method == "GET" and request.path.startswith(MODEL_PATHS):
        return Route(model, "nothing")
    if request.method == "POST" and request.path.startswith(PIPELINE):
        return Route(no_task, "nothing", "huggingface")
    if request.path in PATHS:
        raise Wrong(f"Not allowed to {request.method} on {request.path}.", code="method_not_supported", status=405)
    raise Wrong(f"Invalid URL ({request.method} {request.path})", code="unknown_url", status=404)


def ask_of(route: Route, request: Request) -> Ask:
    """Reads a request for its route. The model is what the body names, else the header x-sandbox-model."""
    named = request.headers.get("x-sandbox-model", "")
    if route.reads == "nothing":
        _, _, tail = request.path.partition("/models/")
        return Ask(request.path, {}, (), unquote(tail) or named, "")
    fields, files = _body(route, request)
    if route.wording == "openai":
        model_id = fields.get("model") or named
        if not model_id and route.needs_model:
            raise Wrong("you must provide a model parameter", "model", "missing_required_parameter")
        if not isinstance(model_id, str):
            raise read.wrong_type("model", "a string", model_id)
    else:
        model_id = named
    content = request.body if route.reads == "file" and not _is_json(request) else b""
    sealed = seal(request.path, *_content(request))
    return Ask(request.path, fields, files, model_id, sealed, content, request.headers.get("accept", ""))


def _body(route: Route, request: Request) -> tuple[Mapping[str, Any], tuple[File, ...]]:
    if route.reads == "form":
        if request.form is None:
            raise Wrong("Unsupported content type: expected multipart/form-data with a boundary.", status=415)
        return request.form.fields, request.form.files
    if not _is_json(request):
        if route.reads == "file":
            return {}, ()
        if route.wording == "tgi":
            raise Wrong("Expected request with `Content-Type: application/json`", status=415, plain=True)
        kind = _kind(request)
        raise Wrong(f"Unsupported Content-Type: {kind!r}; expected application/json.", code="unsupported_content_type")
    if route.reads == "file":
        return asked.fields_of(request.body), ()
    return (tgi.json_object if route.wording == "tgi" else read.json_object)(request.body), ()


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_json(request: Request) -> bool:
    kind = _kind(request)
    return kind == "application/json" or kind.endswith("+json")


def _content(request: Request) -> Iterable[str | bytes]:
    if request.form is None:
        return (request.body,)
    fields = (part for name, value in request.form.fields.items() for part in (name, value))
    return (*fields, *(part for file in request.form.files for part in (file.field, file.filename, file.digest)))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "sandbox"}
