"""A table: path → (dialect, task), and the model where the path names it. Refuses nothing, reads no body.

Model ids contain slashes, so what stands below `/models/{id}` is found by its end, longest first.
"""

from collections.abc import Mapping
from typing import Final

from providers import spec
from providers.dialects import DIALECTS, hf_tasks
from router.call import Endpoint

_OPENAI: Final = DIALECTS["openai"]
_HF: Final = DIALECTS["huggingface"]
_TGI: Final = DIALECTS["tgi"]
_OLLAMA: Final = DIALECTS["ollama"]

CHAT: Final = Endpoint(_OPENAI, spec.CONVERSATIONAL)
COMPLETIONS: Final = Endpoint(_OPENAI, spec.TEXT_GENERATION)
GENERATE: Final = Endpoint(_TGI, spec.TEXT_GENERATION, bare="inputs", stream=False)
GENERATE_STREAM: Final = Endpoint(_TGI, spec.TEXT_GENERATION, bare="inputs", stream=True)
INFERENCE: Final = Endpoint(_HF, "", bare="inputs", raw=True)
_TASKS: Final[Mapping[str, Endpoint]] = {
    task: Endpoint(_HF, task, bare="inputs", raw=True, media=task in hf_tasks.MEDIA)
    for task in (spec.TEXT_GENERATION, *hf_tasks.TASKS)
}
TOKENIZE: Final = Endpoint(_TGI, spec.TOKENIZE)
PASSED_THROUGH: Final = Endpoint(_HF, "pass-through")

EXACT: Final[Mapping[str, Endpoint]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/fim/completions": COMPLETIONS,
    "/v1/embeddings": Endpoint(_OPENAI, spec.FEATURE_EXTRACTION),
    "/v1/images/generations": Endpoint(_OPENAI, spec.TEXT_TO_IMAGE),
    "/v1/images/edits": Endpoint(_OPENAI, spec.IMAGE_TO_IMAGE, upload=True),
    "/v1/audio/speech": Endpoint(_OPENAI, spec.TEXT_TO_SPEECH, media=True),
    "/v1/audio/transcriptions": Endpoint(_OPENAI, spec.SPEECH_RECOGNITION, upload=True),
    "/v1/audio/translations": Endpoint(_OPENAI, spec.SPEECH_TRANSLATION, upload=True),
    "/v1/responses": Endpoint(_OPENAI, spec.RESPONSES),
    "/v1/rerank": Endpoint(_OPENAI, spec.TEXT_RANKING),
    "/v1/moderations": Endpoint(_OPENAI, spec.MODERATION),
    "/api/generate": Endpoint(_OLLAMA, spec.TEXT_GENERATION),
}

# Paths of TGI's own that name no model: `default_models` says which it is.
DEFAULT: Final[Mapping[str, Endpoint]] = {
    "/": INFERENCE,
    "/generate": GENERATE,
    "/generate_stream": GENERATE_STREAM,
}

BELOW: Final[tuple[tuple[str, Endpoint], ...]] = (
    ("/v1/chat/completions", CHAT),
    ("/v1/completions", COMPLETIONS),
    ("/generate_stream", GENERATE_STREAM),
    ("/generate", GENERATE),
    ("/tokenize", TOKENIZE),
)
_FAMILIES: Final = ("/models/", "/tgi/", "/hf-inference/models/", "/api/inference-proxy/hf-inference/models/")
_PIPELINES: Final = ("/pipeline/", "/hf-inference/pipeline/", "/api/inference-proxy/hf-inference/pipeline/")

# What is never asked for twice once it was sent: somebody pays for each.
PAID_MEDIA: Final = hf_tasks.MEDIA | {spec.AUDIO_TO_AUDIO}


def of_task(task: str) -> Endpoint:
    """The Hub's shape of a task."""
    return _TASKS.get(task) or _TASKS[spec.TEXT_GENERATION]


def find(path: str) -> tuple[Endpoint, str] | None:
    """What a POST to `path` asks for; the model is empty where the body names it."""
    exact = EXACT.get(path)
    if exact is not None:
        return exact, ""
    if "//" in path:  # llm-ls joins blindly: `//models/…`
        while "//" in path:
            path = path.replace("//", "/")
        return find(path)
    for family in _FAMILIES:
        if path.startswith(family):
            rest = path[len(family) :].rstrip("/")
            for suffix, endpoint in BELOW:
                if rest.endswith(suffix):
                    return endpoint, rest[: -len(suffix)]
            model, _, task = rest.rpartition("/pipeline/")
            if model and "/" not in task:
                return (_TASKS[task], model) if task in _TASKS else None
            return (INFERENCE, rest) if rest else None
    for family in _PIPELINES:
        if path.startswith(family):
            task, _, model = path[len(family) :].partition("/")
            return (_TASKS[task], model) if task in _TASKS and model else None
    default = DEFAULT.get(path)
    return None if default is None else (default, "")
