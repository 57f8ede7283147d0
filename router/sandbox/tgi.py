"""TGI's own paths: `/`, `/generate`, `/generate_stream`, `/tokenize`, `/info`, `/health`, in the shapes of TGI 3.

It validates as TGI does, for the traps are what a translation has to get right: top_p 1 is refused, five stop
sequences are, an unknown field is not; a body that does not fit its types is answered in plain text.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import msgspec

from router.sandbox import words
from router.sandbox.chat import formatted
from router.sandbox.exchange import EVENTS, Ask, Events, Reply, Wrong, json_reply, sse

MODEL: Final = "sandbox/echo"
INFO: Final = {
    "model_id": MODEL,
    "model_sha": None,
    "model_pipeline_tag": "text-generation",
    "max_concurrent_requests": 128,
    "max_best_of": 2,
    "max_stop_sequences": 4,
    "max_input_tokens": 1_048_575,
    "max_total_tokens": 1_048_576,
    "validation_workers": 2,
    "max_client_batch_size": 4,
    "router": "text-generation-router",
    "version": "3.3.7",
    "sha": None,
    "docker_label": None,
}
COMPUTE: Final = ("x-compute-type", "cpu")
# name: (least, most, whether the least is allowed, whether the most is)
BOUNDS: Final = {
    "temperature": (0.0, float("inf"), False, True),
    "repetition_penalty": (0.0, float("inf"), False, True),
    "frequency_penalty": (-2.0, 2.0, True, True),
    "top_p": (0.0, 1.0, False, False),
    "typical_p": (0.0, 1.0, False, False),
}


@dataclass(frozen=True, slots=True)
class Generation:
    """A request to generate, validated, and what is answered."""

    prompt: str
    input_length: int
    written: words.Written
    details: bool
    full_text: bool
    seed: int | None
    prefill: bool
    top: int
    best_of: int

    @property
    def text(self) -> str:
        return (self.prompt if self.full_text else "") + self.written.text

    @property
    def finish(self) -> str:
        if self.written.cut:
            return "length"
        return "stop_sequence" if self.written.stopped else "eos_token"


def root(ask: Ask) -> Reply:
    """`POST /`: the full text by default, in an array, or a stream where the body says so."""
    if _typed(ask.fields, "stream", bool, "a boolean", False):
        return _streamed(ask, _read(ask, full_text=True, stream=True))
    return _whole(ask, _read(ask, full_text=True), listed=True)


def generate(ask: Ask) -> Reply:
    return _whole(ask, _read(ask, full_text=False), listed=False)


def generate_stream(ask: Ask) -> Reply:
    return _streamed(ask, _read(ask, full_text=False, stream=True))


def tokenize(ask: Ask) -> Reply:
    found, at = [], 0
    for token in words.tokens(_inputs(ask)):
        found.append({"id": words.token_id(token), "text": token, "start": at, "stop": at + len(token)})
        at += len(token)
    return json_reply(found)


def info(ask: Ask) -> Reply:
    return json_reply(INFO | {"model_id": ask.model or MODEL})


def health(_: Ask) -> Reply:
    return Reply(b"", content_type="")


def json_object(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise Wrong(f"Failed to parse the request body as JSON: {fault}", plain=True) from None
    if not isinstance(value, dict):
        raise _unfit("invalid type, expected struct GenerateRequest")
    return value


def _unfit(why: str) -> Wrong:
    return Wrong(f"Failed to deserialize the JSON body into the target type: {why}", status=422, plain=True)


def _invalid(why: str) -> Wrong:
    return Wrong(f"Input validation error: {why}", status=422)


def _inputs(ask: Ask) -> str:
    value = ask.fields.get("inputs")
    if value is None:
        raise _unfit("missing field `inputs`")
    if not isinstance(value, str):
        raise _unfit("inputs: invalid type, expected a string")
    if not value:
        raise _invalid("`inputs` cannot be empty")
    return value


def _typed(fields: Any, name: str, kind: type, says: str, default: Any) -> Any:
    value = fields.get(name)
    if value is None:
        return default
    if type(value) is not kind:
        raise _unfit(f"{name}: invalid type, expected {says}")
    return value


_ABOVE: Final = {"u32": 2**32, "u64": 2**64}


def _count(parameters: dict[str, Any], name: str, least: int, kind: str = "u32") -> int | None:
    value = _typed(parameters, name, int, kind, None)
    if value is not None and not 0 <= value < _ABOVE[kind]:
        raise _unfit(f"{name}: invalid value: integer `{value}`, expected {kind}")
    if value is not None and value < least:
        raise _invalid(f"`{name}` must be strictly positive")
    return value if value is None else int(value)


def _in_bounds(parameters: dict[str, Any]) -> None:
    for name, (least, most, with_least, with_most) in BOUNDS.items():
        value = parameters.get(name)
        if value is None:
            continue
        if type(value) not in (int, float):
            raise _unfit(f"parameters.{name}: invalid type, expected f32")
        if not least <= value <= most or (value == least and not with_least) or (value == most and not with_most):
            raise _invalid(f"`{name}` is out of its bounds ({least} to {most})")


def _read(ask: Ask, *, full_text: bool, stream: bool = False) -> Generation:
    prompt = _inputs(ask)
    parameters = _typed(ask.fields, "parameters", dict, "struct GenerateParameters", {})
    _in_bounds(parameters)
    stops = _typed(parameters, "stop", list, "a sequence", [])
    if not all(isinstance(stop, str) for stop in stops):
        raise _unfit("parameters.stop: invalid type, expected a string")
    if len(stops) > 4:
        raise _invalid(f"`stop` supports up to 4 stop sequences. Given: {len(stops)}")
    most = _count(parameters, "max_new_tokens", 1)
    _count(parameters, "top_k", 1)
    truncate = _count(parameters, "truncate", 1)
    best_of = _count(parameters, "best_of", 1) or 1
    if best_of > 2:
        raise _invalid("`best_of` must be > 0 and <= 2")
    sampling = _typed(parameters, "do_sample", bool, "a boolean", False)
    sampling = sampling or any(parameters.get(name) is not None for name in ("temperature", "top_k", "top_p"))
    if best_of > 1 and stream:
        raise _invalid("`best_of` != 1 is not supported when streaming tokens")
    if best_of > 1 and not sampling:
        raise _invalid("you must use sampling when `best_of` is > 1")
    prefill = _typed(parameters, "decoder_input_details", bool, "a boolean", False)
    if prefill and stream:
        raise _invalid("`decoder_input_details` == true is not supported when streaming tokens")
    grammar = _typed(parameters, "grammar", dict, "GrammarType", {})
    read = prompt if truncate is None else "".join(list(words.tokens(prompt))[-truncate:])
    return Generation(
        prompt,
        words.count(read),
        words.write(formatted(read, grammar, "grammar"), most, [stop for stop in stops if stop], keep_stop=True),
        _typed(parameters, "details", bool, "a boolean", False),
        _typed(parameters, "return_full_text", bool, "a boolean", full_text),
        _count(parameters, "seed", 0, "u64"),
        prefill,
        _count(parameters, "top_n_tokens", 1) or 0,
        best_of,
    )


def _token(text: str) -> dict[str, Any]:
    return {"id": words.token_id(text), "text": text, "logprob": words.log_probability(text), "special": False}


def _details(generation: Generation) -> dict[str, Any]:
    tokens = [_token(text) for text in generation.written.tokens]
    first = islice(words.tokens(generation.prompt), generation.input_length)
    prefill = [{"id": words.token_id(text), "text": text, "logprob": None} for text in first]
    found: dict[str, Any] = {
        "finish_reason": generation.finish,
        "generated_tokens": len(tokens),
        "seed": generation.seed,
        "prefill": prefill if generation.prefill else [],
        "tokens": tokens,
    }
    if generation.top:
        found["top_tokens"] = [[token] for token in tokens]
    return found


def _whole(ask: Ask, generation: Generation, *, listed: bool) -> Reply:
    answer: dict[str, Any] = {"generated_text": generation.text}
    if generation.details:
        details = _details(generation)
        if generation.best_of > 1:
            others = [details | {"generated_text": generation.text}] * (generation.best_of - 1)
            answer["details"] = details | {"best_of_sequences": others}
        else:
            answer["details"] = details
    headers = (
        COMPUTE,
        ("x-compute-time", "0.001"),
        ("x-compute-characters", str(len(generation.prompt))),
        ("x-total-time", "1"),
        ("x-validation-time", "0"),
        ("x-queue-time", "0"),
        ("x-inference-time", "1"),
        ("x-time-per-token", "0"),
        ("x-prompt-tokens", str(generation.input_length)),
        ("x-generated-tokens", str(len(generation.written.tokens))),
    )
    return json_reply([answer] if listed else answer, headers=headers)


def _streamed(ask: Ask, generation: Generation) -> Reply:
    tokens = generation.written.tokens
    last = {
        "finish_reason": generation.finish,
        "generated_tokens": len(tokens),
        "seed": generation.seed,
        "input_length": generation.input_length,
    }

    def events() -> Iterator[bytes]:
        for index, text in enumerate(tokens, 1):
            ended = index == len(tokens)
            event = {"index": index, "token": _token(text)}
            if generation.top:
                event["top_tokens"] = [_token(text)]
            event["generated_text"] = generation.text if ended else None
            event["details"] = last if ended and generation.details else None
            yield sse(event)

    headers = (COMPUTE, ("x-compute-characters", str(len(generation.prompt))), ("x-accel-buffering", "no"))
    return Reply(Events(len(tokens), events), content_type=EVENTS, headers=headers)
