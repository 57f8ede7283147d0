"""Text generation as a task like the others, whole, for servers that take it in the Hub's shape alone.

Canonical is OpenAI's completions, as for every text: `inputs` is the prompt, the parameters are its other fields.
What the Hub's shape has no word for is refused by name. Such servers do not stream.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from providers.spec import TEXT_GENERATION, Ask, Body, Codec, Reply, Result, Send, Unreadable, Written, read_value

# A completions body's names → the Hub's (huggingface.js packages/tasks, text-generation).
_NAMES: Final[Mapping[str, str]] = {
    "max_tokens": "max_new_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "typical_p": "typical_p",
    "repetition_penalty": "repetition_penalty",
    "frequency_penalty": "frequency_penalty",
    "seed": "seed",
    "stop": "stop",
}
_SAY_NOTHING: Final[Mapping[str, tuple[Any, ...]]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "logprobs": (False,),
    "suffix": ("",),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
}
_NOT_ASKED: Final = frozenset({"model", "stream", "stream_options", "user"})
_ENDS: Final[Mapping[str, str]] = {"length": "length", "eos_token": "stop", "stop_sequence": "stop"}


class Generation:
    """`codec`: how the dialect's own body becomes a completions body and back; None where it is one."""

    def __init__(self, codec: Codec | None) -> None:
        self._codec = codec

    def read(self, body: Body) -> tuple[Ask, Any]:
        if self._codec is None:
            values, want = {name: read_value(body.fields, name) for name in body.fields}, None
        else:
            values, want = self._codec.read(body.fields)
        if values.get("stream"):
            raise Unreadable("stream", "`stream` is not supported by this model's server.", 400)
        values = {name: value for name, value in values.items() if value is not None and name not in _NOT_ASKED}
        prompt = values.pop("prompt", None)
        if isinstance(prompt, list) and len(prompt) == 1:
            prompt = prompt[0]
        if not isinstance(prompt, str):
            raise Unreadable("prompt", "`prompt` must be one string for this model's server.", 400)
        return Ask(TEXT_GENERATION, prompt, values), want

    def write(self, result: Result, want: Any) -> Written:
        reply = result.value
        return Written(msgspec.json.encode(reply) if self._codec is None else self._codec.write(reply, want))

    def gathers(self, want: Any) -> bool:
        return False

    def media(self, ask: Ask) -> bool:
        return False

    def encode(self, ask: Ask) -> Send:
        parameters: dict[str, Any] = {}
        for name, value in ask.parameters.items():
            if value in _SAY_NOTHING.get(name, ()):
                continue
            if name not in _NAMES:
                raise Unreadable(name, f"`{name}` is not supported by this model's server.", 400)
            parameters[_NAMES[name]] = value
        temperature = parameters.pop("temperature", None)
        if temperature is not None:
            parameters |= {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        if isinstance(parameters.get("stop"), str):
            parameters["stop"] = [parameters["stop"]]
        parameters["return_full_text"] = False
        return Send("", msgspec.json.encode({"inputs": ask.inputs, "parameters": parameters}))

    def decode(self, reply: Reply, ask: Ask) -> Result:
        found = reply.json()
        said = found[0] if isinstance(found, list) else found
        details = said.get("details") or {}
        text = said["generated_text"]
        if not isinstance(text, str):
            raise ValueError("no text")
        choice = {"index": 0, "text": text, "logprobs": None}
        choice["finish_reason"] = _ENDS.get(str(details.get("finish_reason")), "stop")
        written, read = details.get("generated_tokens"), len(details.get("prefill") or ())
        shown: dict[str, Any] | None = None
        if written:
            shown = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        completion = {"id": "", "object": "text_completion", "created": 0, "model": ask.model, "choices": [choice]}
        used = shown if read or shown is None else {"completion_tokens": written}  # nobody counted the prompt
        return Result(completion | ({"usage": shown} if shown else {}), used)
