"""The `/generate` body of Text Generation Inference → the canonical completions body. TGI and the Hub share it.

Reached only where another kind of API has to serve the call; a TGI upstream gets the caller's own bytes. Ranges,
defaults and the wording of refusals are TGI's (router/src/validation.rs, router/src/lib.rs of 3.3). Nulls count as
absent: hub 0.24 and the text-generation client send every parameter they know. What no completions API can do is
refused by name; names that TGI does not know pass on, since they may be the serving API's own.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

import msgspec

from providers.spec import Fields, Unreadable, read_value

# With no max_new_tokens TGI 3 goes on to the end of the model's context (2 stopped at 100); its specification, and the
# Hub's of the task, give 1024. A completions API would stop at 16, so a number must be sent.
DEFAULT_MAX_NEW_TOKENS: Final = 1024
_MAX_STOPS: Final = 4  # TGI's --max-stop-sequences

Natural = Annotated[int, msgspec.Meta(ge=0)]


class Parameters(msgspec.Struct, frozen=True):
    """Every parameter that TGI or the Hub's API before it has known."""

    adapter_id: str | None = None
    best_of: Natural | None = None
    decoder_input_details: bool = False
    details: bool = False
    do_sample: bool = False
    frequency_penalty: float | None = None
    grammar: dict[str, Any] | None = None
    max_new_tokens: Natural | None = None
    repetition_penalty: float | None = None
    return_full_text: bool | None = None
    seed: Natural | None = None
    stop: str | list[str] = []
    temperature: float | None = None
    top_k: Natural | None = None
    top_n_tokens: Natural | None = None
    top_p: float | None = None
    truncate: Natural | None = None
    typical_p: float | None = None
    watermark: bool = False
    # Older names, and those of the transformers pipelines that served the Hub before TGI.
    stop_sequences: str | list[str] = []
    stop_sequence: str | list[str] = []
    max_length: Natural | None = None
    max_time: float | None = None
    num_return_sequences: Annotated[int, msgspec.Meta(ge=1)] | None = None


@dataclass(frozen=True, slots=True)
class Want:
    """What the answer depends on: `before` is put in front of the text (the prompt, or nothing)."""

    before: str
    details: bool
    seed: int | None
    stops: tuple[str, ...]
    top_n: int


def read(fields: Fields, full_text: bool) -> tuple[dict[str, Any], Want]:
    """`full_text` is what an absent `return_full_text` means. Fields beside these three are ignored, as TGI does."""
    prompt = _prompt(fields)
    stream = read_value(fields, "stream") is not None and _typed(fields, "stream", bool)
    values = _values(fields)
    try:
        asked = msgspec.convert(values, Parameters)
    except msgspec.ValidationError as fault:
        raise _mistyped(fault) from None
    _check(asked, stream)
    stops = _stops(asked)
    body: dict[str, Any] = {"prompt": prompt, "max_tokens": _max_tokens(asked)}
    body |= {name: values[name] for name in _SAME if name in values}
    body["temperature"] = (asked.temperature or 1.0) if _samples(asked) else 0.0
    if stops:
        body["stop"] = stops
    if asked.best_of and asked.best_of > 1:
        body["best_of"] = asked.best_of
    if asked.num_return_sequences and asked.num_return_sequences > 1:
        body["n"] = asked.num_return_sequences
    # `details` alone asks for none: many APIs refuse logprobs, and the text-generation client always sets it.
    if asked.top_n_tokens:
        body["logprobs"] = asked.top_n_tokens
    if asked.grammar is not None:
        body["response_format"] = _response_format(asked.grammar)
    body |= {name: value for name, value in values.items() if name not in _KNOWN and name not in _NOT_PARAMETERS}
    if stream:
        body["stream"] = True
    full = full_text if asked.return_full_text is None else asked.return_full_text
    return body, Want(prompt if full else "", asked.details, asked.seed, tuple(stops), asked.top_n_tokens or 0)


_KNOWN: Final = frozenset(Parameters.__struct_fields__)
_SAME: Final = ("frequency_penalty", "repetition_penalty", "seed", "top_k", "top_p", "typical_p")
# A body's own names, misplaced: TGI overlooks them, and they must not become fields of the canonical body.
_NOT_PARAMETERS: Final = frozenset(
    {"inputs", "messages", "model", "options", "parameters", "prompt", "stream", "stream_options"}
)
_REFUSED_NAMES: Final = frozenset({"api_base", "api_key", "base_url", "custom_host", "user_config"})


def _prompt(fields: Fields) -> str:
    if "inputs" not in fields:
        raise _undeserializable("inputs", "missing field `inputs`")
    prompt = _typed(fields, "inputs", str)
    if not prompt:
        raise _invalid("inputs", "`inputs` cannot be empty")
    return prompt


T = TypeVar("T")


def _typed(fields: Fields, name: str, kind: type[T]) -> T:
    value = read_value(fields, name)
    if not isinstance(value, kind):
        raise _undeserializable(name, f"{name}: expected {_NAMES[kind]}")
    return value


_NAMES: Final[Mapping[type, str]] = {str: "a string", bool: "a boolean", dict: "an object"}


def _values(fields: Fields) -> dict[str, Any]:
    """The parameters without nulls. llm-ls nests them once more where the user's requestBody has none."""
    if read_value(fields, "parameters") is None:
        return {}
    found: dict[str, Any] = _typed(fields, "parameters", dict)
    if isinstance(nested := found.get("parameters"), dict):
        found = nested | {name: value for name, value in found.items() if name != "parameters"}
    for name in sorted(_REFUSED_NAMES & found.keys()):
        raise _invalid(f"parameters.{name}", f"`{name}` is not allowed")
    return {name: value for name, value in found.items() if value is not None}


_positive: Final = "must be strictly positive"
_inside: Final = "must be > 0.0 and < 1.0"
_RANGES: Final[tuple[tuple[str, Callable[[float], bool], str], ...]] = (
    ("temperature", lambda value: value > 0, _positive),
    ("repetition_penalty", lambda value: value > 0, _positive),
    ("frequency_penalty", lambda value: -2 <= value <= 2, "must be >= -2.0 and <= 2.0"),
    ("top_p", lambda value: 0 < value < 1, _inside),
    ("typical_p", lambda value: 0 < value < 1, _inside),
    ("top_k", lambda value: value > 0, _positive),
    ("max_new_tokens", lambda value: value > 0, _positive),
    ("best_of", lambda value: value > 0, _positive),
    ("top_n_tokens", lambda value: value <= 5, "must be >= 0 and <= 5"),
)
# Token ids, the tokeniser, the weights or the clock of the server: only TGI itself can honour these.
_NOT_TGI: Final = "is not supported: this model is not served by TGI"
_ONLY_TGI: Final = ("adapter_id", "decoder_input_details", "max_time", "truncate", "watermark")


def _check(asked: Parameters, stream: bool) -> None:
    several = asked.best_of is not None and asked.best_of > 1
    if several and not _would_sample(asked):
        raise _invalid("parameters.best_of", "you must use sampling when `best_of` is > 1")
    for name, fits, rule in _RANGES:
        if (value := getattr(asked, name)) is not None and not fits(value):
            raise _invalid(f"parameters.{name}", f"`{name}` {rule}")
    if several and asked.seed is not None:
        raise _invalid("parameters.seed", "`seed` must not be set when `best_of` > 1")
    if several and stream:
        raise _invalid("parameters.best_of", "`best_of` != 1 is not supported when streaming tokens")
    if stream and asked.num_return_sequences is not None and asked.num_return_sequences > 1:
        raise _invalid("parameters.num_return_sequences", "`num_return_sequences` > 1 is not supported when streaming")
    for name in _ONLY_TGI:
        if (value := getattr(asked, name)) is not None and value is not False:
            raise _invalid(f"parameters.{name}", f"`{name}` {_NOT_TGI}")


def _would_sample(asked: Parameters) -> bool:
    choosers = (asked.temperature, asked.top_k, asked.top_p, asked.typical_p)
    return asked.do_sample or any(value is not None for value in choosers)


def _samples(asked: Parameters) -> bool:
    """TGI is greedy unless it is told to sample or given something that only sampling can use
    (server/text_generation_server/utils/tokens.py); a temperature of 1 is no such thing."""
    return asked.do_sample or asked.temperature not in (None, 1.0) or any((asked.top_k, asked.top_p, asked.typical_p))


def _max_tokens(asked: Parameters) -> int:
    """`max_length` counted the prompt too, whose tokens are not known here: it holds as an upper bound."""
    return asked.max_new_tokens or asked.max_length or DEFAULT_MAX_NEW_TOKENS


def _stops(asked: Parameters) -> list[str]:
    stops: dict[str, None] = {}
    for given in (asked.stop, asked.stop_sequences, asked.stop_sequence):
        stops |= dict.fromkeys([given] if isinstance(given, str) else given)
    stops.pop("", None)
    if len(stops) > _MAX_STOPS:
        raise _invalid("parameters.stop", f"`stop` supports up to {_MAX_STOPS} stop sequences. Given: {len(stops)}")
    return list(stops)


def _response_format(grammar: dict[str, Any]) -> dict[str, Any]:
    kind, value = grammar.get("type"), grammar.get("value")
    name = None
    if kind == "json_schema" and isinstance(value, dict):
        name, value = value.get("name"), value.get("schema")
    elif kind == "regex":
        raise _invalid("parameters.grammar", f"`grammar` of type regex {_NOT_TGI}")
    elif kind != "json":
        raise _invalid("parameters.grammar", "grammar is not valid: `type` must be json, json_schema or regex")
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError as fault:
            raise _invalid("parameters.grammar", f"grammar is not valid: {fault}") from None
    if not isinstance(value, dict):
        raise _invalid("parameters.grammar", "grammar is not valid: the schema must be an object")
    name = name if isinstance(name, str) and name else "grammar"
    return {"type": "json_schema", "json_schema": {"name": name, "schema": value, "strict": True}}


_AT: Final = re.compile(r"(?P<what>.*) - at `\$\.?(?P<where>.*)`", re.DOTALL)


def _mistyped(fault: msgspec.ValidationError) -> Unreadable:
    found = _AT.fullmatch(str(fault))
    where, what = (found["where"], found["what"]) if found else ("", str(fault))
    param = f"parameters.{where}".rstrip(".")
    return _undeserializable(param, f"{param}: {what[:1].lower()}{what[1:]}")


def _undeserializable(param: str, why: str) -> Unreadable:
    return Unreadable(param, f"Failed to deserialize the JSON body into the target type: {why}")


def _invalid(param: str, why: str) -> Unreadable:
    return Unreadable(param, f"Input validation error: {why}")
