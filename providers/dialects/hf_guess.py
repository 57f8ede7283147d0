"""Which task a Hub-shaped request is for, where neither its path nor a table says: by what it looks like.

The Hub knows a model's pipeline tag; a server of one's own that just listed a model does not. What the clients send for
each task differs enough to tell most of them apart (contract: huggingface_hub's InferenceClient and its kin); what is
left is text generation, as the API's first page has it.
"""

from typing import Any, Final

from providers import media
from providers.spec import (
    IMAGE_TO_IMAGE,
    IMAGE_TO_TEXT,
    SENTENCE_SIMILARITY,
    SPEECH_RECOGNITION,
    TEXT_GENERATION,
    TEXT_RANKING,
    TEXT_TO_IMAGE,
    TEXT_TO_SPEECH,
    TEXT_TO_VIDEO,
    Blob,
    Fields,
    Task,
    Unreadable,
    read_value,
)

_BY_KEYS: Final[tuple[tuple[frozenset[str], Task], ...]] = (  # of `inputs`, or of the body itself
    (frozenset({"question", "context"}), "question-answering"),
    (frozenset({"source_sentence", "sentences"}), SENTENCE_SIMILARITY),
    (frozenset({"query", "table"}), "table-question-answering"),
    (frozenset({"question", "table"}), "table-question-answering"),
    (frozenset({"query", "texts"}), TEXT_RANKING),
    (frozenset({"question", "image"}), "visual-question-answering"),
)
_ROOT: Final = frozenset({"normalize", "prompt_name", "truncation_direction"})  # what embeddings alone have there
_MADE: Final = {"image": TEXT_TO_IMAGE, "audio": TEXT_TO_SPEECH, "video": TEXT_TO_VIDEO}


def task(fields: Fields, file: bytes | None, accept: str) -> Task:
    """`file` is a body that is not JSON, `accept` the kind of file that is wanted back, if any."""
    wanted = accept.partition("/")[0]
    if file is not None:
        kind = media.mime_of(Blob(file), "text/plain").partition("/")[0]
        if kind == "image":
            return IMAGE_TO_IMAGE if wanted == "image" else IMAGE_TO_TEXT
        return SPEECH_RECOGNITION if kind in ("audio", "video") else TEXT_GENERATION
    inputs, parameters = _value(fields, "inputs"), _value(fields, "parameters")
    for holder in (inputs, fields):
        if isinstance(holder, dict):
            found = next((task for keys, task in _BY_KEYS if keys <= holder.keys()), None)
            if found is not None:
                return found
    if isinstance(parameters, dict) and "candidate_labels" in parameters:
        return "zero-shot-classification"
    if not _ROOT.isdisjoint(fields) or isinstance(inputs, list):
        return "feature-extraction"
    return _MADE.get(wanted, TEXT_GENERATION)


def _value(fields: Fields, name: str) -> Any:
    """What is no JSON after all is for the task's codec to say."""
    try:
        return read_value(fields, name)
    except Unreadable:
        return None
