"""The marks that families of code models were trained to fill in the middle with, by the model's id on the Hub.

So that `suffix` works with a model that a local server lists and no table knows. Only ids of the Hub's form are known:
a name such as Ollama's `starcoder2:3b` means a server that fills in its own template. Families whose prompt begins with
what comes after the gap (Codestral, CodeGeeX) have no marks in this form.

Sources: llm-vscode's src/configTemplates.ts (StarCoder, Code Llama, DeepSeek Coder), Qwen2.5-Coder's README, Continue's
core/autocomplete/templating (CodeGemma, Stable Code), transformers' page on Code Llama (7B and 13B, not Python, alone
were trained to infill).
"""

import re
from typing import Final, NamedTuple


class Marks(NamedTuple):
    """What stands before the text above the gap, before the text below it, and last."""

    prefix: str
    suffix: str
    middle: str


_STARCODER: Final = Marks("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
_DEEPSEEK: Final = Marks("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>")
_QWEN: Final = Marks("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")

# What the name may go on with: a size, an instructed twin, a quantisation. Matched against the name, in lower case.
_FAMILIES: Final = tuple(
    (re.compile(pattern + r"(-(gptq|awq|gguf|fp8).*)?").fullmatch, marks)
    for pattern, marks in (
        (r"codellama-(7b|13b)(-instruct)?(-hf)?", Marks("<PRE> ", " <SUF>", " <MID>")),
        (r"starcoder(base|2)?(-\d+b)?", _STARCODER),
        (r"stable-code-3b", _STARCODER),
        (r"qwen2\.5-coder-.+", _QWEN),
        (r"codegemma(-1\.1)?-\d+b", _QWEN),
        (r"deepseek-coder(-v2)?(-lite)?(-[\d.]+b)?-base", _DEEPSEEK),
    )
)
_ON_THE_HUB: Final = re.compile(r"[\w.-]+/([\w.-]+)", re.ASCII).fullmatch


def marks_of(model: str) -> Marks | None:
    """The marks of a model by its id, `owner/name`; None where there are none, or none are known."""
    found = _ON_THE_HUB(model)
    name = found[1].lower() if found else ""
    return next((marks for matches, marks in _FAMILIES if matches(name)), None)
