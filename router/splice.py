"""A stream that broke, carried on from another deployment: what its caller has, and what of the new stream follows.

Two ways. *Continue*: the deployment is given the text so far and writes on. *Restart*: it is asked the same anew, and
nothing is passed on before it has repeated the text so far exactly; where it says something else it has `Diverged`, and
no caller is shown two answers as one. Never with tools, JSON or several choices: half of those is nobody's beginning.

Pure. Events are parsed here and only after a break; of an unbroken stream nothing is known but its raw payloads.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from providers.spec import CONVERSATIONAL, TEXT_GENERATION, Fields, Task, Unreadable, raw, read_value
from router.call import Call
from router.routing import Candidate

KEPT: Final = 1024  # payloads of a stream, a quarter of a megabyte; a longer one is not carried on
SMALL: Final = 512  # bytes: larger ones are counted by their size
ROOM: Final = 256 * 1024  # bytes of those
THOUGHTS: Final = ("reasoning_content", "reasoning")
_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_new_tokens")
_HARMLESS: Final = ({"type": "text"}, "none")
_BARRED: Final = ("tools", "functions", "response_format", "logprobs", "echo", "suffix", "guided_json", "grammar")


class Diverged(Exception):
    """The new stream does not repeat what the caller has."""


class Piece(msgspec.Struct):
    """What one event says. `thought`: reasoning, which some models stream before their text."""

    text: str = ""
    thought: str = ""
    ended: bool = False


class Told(msgspec.Struct, frozen=True):
    """What a caller has of a stream. `events`: how many carried text, about as many as tokens."""

    text: str
    thought: str
    events: int
    names: dict[str, Any]  # `id` and `created` of its first event


class Shape(msgspec.Struct, frozen=True):
    """Where the events of one shape keep their text. `read` gives None for what cannot be carried on."""

    read: Callable[[dict[str, Any]], Piece | None]
    write: Callable[[dict[str, Any], Piece], None]


def _choice(chunk: dict[str, Any]) -> dict[str, Any] | None:
    """Its only choice; an empty one for an event without any (usage, say)."""
    choices = chunk.get("choices")
    if not choices:
        return {}
    only = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
    return only if isinstance(only, dict) and only.get("index", 0) == 0 and not only.get("logprobs") else None


def _read_chat(chunk: dict[str, Any]) -> Piece | None:
    choice = _choice(chunk)
    if choice is None:
        return None
    delta = choice.get("delta") or {}
    if any(value and name not in ("role", "content", *THOUGHTS) for name, value in delta.items()):
        return None
    thought = next((delta[name] for name in THOUGHTS if delta.get(name)), "")
    return Piece(delta.get("content") or "", thought, bool(choice.get("finish_reason")))


def _write_chat(chunk: dict[str, Any], piece: Piece) -> None:
    if chunk.get("choices"):
        delta = chunk["choices"][0].setdefault("delta", {})
        delta.pop("role", None)
        if "content" in delta or piece.text:
            delta["content"] = piece.text
        for name in THOUGHTS:
            if name in delta:
                delta[name] = piece.thought


def _read_completion(chunk: dict[str, Any]) -> Piece | None:
    choice = _choice(chunk)
    return None if choice is None else Piece(choice.get("text") or "", "", bool(choice.get("finish_reason")))


def _write_completion(chunk: dict[str, Any], piece: Piece) -> None:
    if chunk.get("choices"):
        chunk["choices"][0]["text"] = piece.text


def _read_token(chunk: dict[str, Any]) -> Piece | None:
    token = chunk.get("token")
    if not isinstance(token, dict) or chunk.get("top_tokens"):
        return None
    text = "" if token.get("special") else token.get("text") or ""
    return Piece(text, "", chunk.get("generated_text") is not None)


def _write_token(chunk: dict[str, Any], piece: Piece) -> None:
    if not chunk["token"].get("special"):
        chunk["token"]["text"] = piece.text


SHAPES: Final[Mapping[tuple[Task, str], Shape]] = {
    (CONVERSATIONAL, "openai"): Shape(_read_chat, _write_chat),
    (TEXT_GENERATION, "openai"): Shape(_read_completion, _write_completion),
    (TEXT_GENERATION, "tgi"): Shape(_read_token, _write_token),
    (TEXT_GENERATION, "huggingface"): Shape(_read_token, _write_token),
}


def shape_of(candidate: Candidate) -> Shape | None:
    return SHAPES.get((candidate.task, candidate.dialect))


def allowed(call: Call) -> bool:
    """Whether the call is one whose answer may be put together from two."""
    if not call.stream or not call.splice or not call.replay:
        return False
    try:
        asked = {name: read_value(call.fields, name) for name in (*_BARRED, "n", "parameters") if name in call.fields}
    except Unreadable:
        return False
    parameters = asked.pop("parameters", None)
    if asked.pop("n", 1) not in (None, 1) or any(value and value not in _HARMLESS for value in asked.values()):
        return False
    return not isinstance(parameters, dict) or not any(parameters.get(name) for name in ("grammar", "top_n_tokens"))


def told(payloads: Iterable[bytes], shape: Shape) -> Told | None:
    """Raw payloads → what the caller has by them; None where that cannot be carried on."""
    text: list[str] = []
    thought: list[str] = []
    names: dict[str, Any] = {}
    for payload in payloads:
        chunk = _object(payload)
        piece = None if chunk is None else shape.read(chunk)
        if chunk is None or piece is None or piece.ended:
            return None
        names = names or {name: chunk[name] for name in ("id", "created") if name in chunk}
        if piece.text or piece.thought:
            text.append(piece.text)
            thought.append(piece.thought)
    return Told("".join(text), "".join(thought), len(text), names)


def _object(payload: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(payload, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def can_continue(candidate: Candidate, so_far: Told) -> bool:
    """A prompt can always be made longer; a chat only where the deployment writes on in an assistant's message."""
    if not so_far.text or so_far.thought:
        return False
    if candidate.task == TEXT_GENERATION:
        return True
    return "prefill" in candidate.deployment.can or candidate.provider.prefills


def continued(fields: Fields, candidate: Candidate, so_far: Told) -> Fields:
    """The top level of a request → the one that asks for the rest of its answer. Raises Unreadable where its beginning
    is not one text.
    """
    fields = dict(fields)
    if candidate.task == CONVERSATIONAL:
        said = {"role": "assistant", "content": so_far.text}
        messages = read_value(fields, "messages")
        if not isinstance(messages, list):
            raise Unreadable("messages", "`messages` is not a list.", 400)
        fields["messages"] = raw([*messages, said])
        if candidate.provider.name == "openai":  # vLLM and SGLang open a new message unless they are told not to
            fields |= {"continue_final_message": raw(True), "add_generation_prompt": raw(False)}
    elif candidate.dialect == "openai":
        fields["prompt"] = raw(_text(fields, "prompt") + so_far.text)
    else:
        fields["inputs"] = raw(_text(fields, "inputs") + so_far.text)
        parameters = read_value(fields, "parameters")
        if isinstance(parameters, dict):
            fields["parameters"] = raw({name: _left(name, value, so_far) for name, value in parameters.items()})
    for name in _LIMITS:
        if name in fields:
            fields[name] = raw(_left(name, read_value(fields, name), so_far))
    return fields


def _text(fields: Fields, name: str) -> str:
    value = read_value(fields, name)
    if not isinstance(value, str):
        raise Unreadable(name, f"`{name}` is not one text.", 400)
    return value


def _left(name: str, value: Any, so_far: Told) -> Any:
    return max(1, value - so_far.events) if name in _LIMITS and isinstance(value, int) else value


class Seam:
    """Between what the caller has and a new stream: what of each new event is passed on."""

    def __init__(self, shape: Shape, so_far: Told, continues: bool) -> None:
        self._shape = shape
        self._so_far = so_far
        self._continues = continues
        self._text = "" if continues else so_far.text  # that must be repeated first
        self._thought = "" if continues or so_far.text else so_far.thought
        self._mute = not continues and bool(so_far.text)  # thoughts are not compared: the caller is past them

    def follow(self, payload: bytes) -> bytes | None:
        """An event of the new stream → the one that the caller gets; None where it has that already."""
        chunk = _object(payload)
        piece = None if chunk is None else self._shape.read(chunk)
        if chunk is None or piece is None:
            raise Diverged
        spoke = bool(piece.text or piece.thought)
        if self._mute:
            piece.thought = ""
        text, self._text = _beyond(piece.text, self._text)
        thought, self._thought = _beyond(piece.thought, self._thought)
        if piece.ended and (self._text or self._thought):
            raise Diverged
        self._mute = self._mute and bool(self._text)
        bears = bool(chunk.get("usage") or chunk.get("details") or piece.ended)
        if not text and not thought and not bears:
            return None
        self._shape.write(chunk, Piece(text, thought))
        chunk |= self._so_far.names
        if self._continues:
            _add(chunk, self._so_far)
        elif not spoke and not bears:
            return None
        return msgspec.json.encode(chunk)


def _beyond(new: str, had: str) -> tuple[str, str]:
    """What of `new` the caller has not had yet, and what of `had` is still to be repeated."""
    if not had:
        return new, ""
    if had.startswith(new):
        return "", had[len(new) :]
    if new.startswith(had):
        return new[len(had) :], ""
    raise Diverged


def _add(chunk: dict[str, Any], so_far: Told) -> None:
    """The last events of a continuation speak of its part alone: what went up as prompt was answer."""
    usage = chunk.get("usage")
    if isinstance(usage, dict):
        for name, change in (("prompt_tokens", -so_far.events), ("completion_tokens", so_far.events)):
            if isinstance(usage.get(name), int):
                usage[name] = max(0, usage[name] + change)
    details = chunk.get("details")
    if isinstance(details, dict) and isinstance(details.get("generated_tokens"), int):
        details["generated_tokens"] += so_far.events
    if isinstance(chunk.get("generated_text"), str):
        chunk["generated_text"] = so_far.text + chunk["generated_text"]
    if isinstance(chunk.get("index"), int) and "token" in chunk:
        chunk["index"] += so_far.events
