"""The words in which upstreams say what was used, as types; and the same read without types, where they are broken.

`Usage` is what they all come to. What is absurd (negative, no whole number, beyond all reason) counts as not said, and
takes nothing with it that stands beside it.
"""

from typing import Annotated, Any, Final

import msgspec

MOST: Final = 10**9  # tokens; more than that is no count

Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]


class Usage(msgspec.Struct, frozen=True, gc=False):
    """None is what was not said. `input` has the cached tokens in it, and those that were `written` to a cache;
    `output` has the reasoning in it.
    """

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    written: int | None = None
    reasoning: int | None = None
    images: int | None = None
    seconds: float | None = None
    characters: int | None = None
    estimated: bool = False


class Details(msgspec.Struct, frozen=True, gc=False):
    cached_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    cache_write_tokens: Count | None = None


class Billed(msgspec.Struct, frozen=True, gc=False):
    """Cohere's own."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None


class Told(msgspec.Struct, frozen=True, gc=False):
    """A `usage` as it comes. OpenAI's of chat, and its newer one (responses, images, speech) that Anthropic's is like;
    beside them what DeepSeek, Moonshot, Together and vLLM's kin say of their caches at the top.
    """

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    input_tokens_details: Details | None = None
    output_tokens_details: Details | None = None
    cache_read_input_tokens: Count | None = None  # Anthropic: not part of input_tokens, nor are those created
    cache_creation_input_tokens: Count | None = None
    prompt_cache_hit_tokens: Count | None = None
    cached_tokens: Count | None = None
    num_cached_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    billed_units: Billed | None = None
    tokens: Billed | None = None
    seconds: Annotated[float, msgspec.Meta(ge=0, le=MOST)] | None = None  # of sound that was heard

    def usage(self) -> Usage:
        read, wrote = self.prompt_tokens, self.completion_tokens
        if read is None and wrote is None:
            read, wrote = self._otherwise()
        cached = written = reasoning = None
        if (details := self.prompt_tokens_details or self.input_tokens_details) is not None:
            cached, written = details.cached_tokens, details.cache_write_tokens
        if (details := self.completion_tokens_details or self.output_tokens_details) is not None:
            reasoning = details.reasoning_tokens
        else:
            reasoning = self.reasoning_tokens
        if cached is None:
            cached, made = self._cached(), self.cache_creation_input_tokens
            written = written if made is None else made
        total = self.total_tokens
        if total is not None and (read is None or wrote is None or reasoning):
            read, wrote = _completed(read, wrote, total, reasoning or 0)
        return Usage(read, wrote, cached, written, reasoning, None, self.seconds)

    def _otherwise(self) -> tuple[int | None, int | None]:
        """Of those who do not speak of prompts and completions. Anthropic's input leaves out what its cache did."""
        read, wrote = self.input_tokens, self.output_tokens
        if read is None and wrote is None and (units := self.billed_units or self.tokens) is not None:
            return units.input_tokens, units.output_tokens
        if read is not None:
            read += (self.cache_read_input_tokens or 0) + (self.cache_creation_input_tokens or 0)
        return read, wrote

    def _cached(self) -> int | None:
        """What came out of a cache, of those who say it at the top."""
        if self.cache_read_input_tokens is not None:
            return self.cache_read_input_tokens
        if self.prompt_cache_hit_tokens is not None:
            return self.prompt_cache_hit_tokens
        return self.num_cached_tokens if self.cached_tokens is None else self.cached_tokens


def _completed(read: int | None, wrote: int | None, total: int, reasoning: int) -> tuple[int | None, int | None]:
    """What the total says of what was left out. Some count reasoning beside the output instead of in it."""
    if read is None:
        return max(0, total - (wrote or 0)), wrote
    if wrote is None:
        return read, max(0, total - read)
    return read, wrote + reasoning if read + wrote + reasoning == total else wrote


class Sequence(msgspec.Struct, frozen=True, gc=False):
    generated_tokens: Count = 0


class Generated(msgspec.Struct, frozen=True, gc=False):
    """TGI's details. `prefill`: the prompt's tokens, where they were asked for; a stream says their number."""

    generated_tokens: Count | None = None
    input_length: Count | None = None
    prefill: list[msgspec.Raw] | None = None
    best_of_sequences: list[Sequence] | None = None

    def usage(self) -> Usage:
        read = self.input_length if self.input_length is not None else len(self.prefill) if self.prefill else None
        wrote = self.generated_tokens
        if wrote is not None and self.best_of_sequences:
            wrote += sum(each.generated_tokens for each in self.best_of_sequences)
        return Usage(read, wrote)


class Delta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """What most events of most streams say, and what they say nothing in."""

    content: str | None = None
    reasoning_content: str | None = None
    role: str | None = None
    reasoning: None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None


class Choice(msgspec.Struct, gc=False):
    delta: Delta


class Written(msgspec.Struct, gc=False, tag_field="object", tag="chat.completion.chunk"):
    """A chunk of a chat that says no more than usual."""

    choices: list[Choice]


# Without types


def whole(value: Any) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= MOST else None


def told_of(said: Any) -> Told | None:
    """None where nothing of it says anything."""
    if not isinstance(said, dict):
        return None
    kept = _kept(Told.__struct_fields__, said)
    for name in _DETAILS:
        if inner := _kept(Details.__struct_fields__, said.get(name)):
            kept[name] = Details(**inner)
    for name in _UNITS:
        if inner := _kept(Billed.__struct_fields__, said.get(name)):
            kept[name] = Billed(**inner)
    seconds = said.get("seconds")
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds <= MOST:
        kept["seconds"] = float(seconds)
    return Told(**kept) if kept else None


_DETAILS: Final = (
    "prompt_tokens_details", "completion_tokens_details", "input_tokens_details", "output_tokens_details",
)  # fmt: skip
_UNITS: Final = ("billed_units", "tokens")
_APART: Final = frozenset({*_DETAILS, *_UNITS, "seconds"})


def _kept(names: tuple[str, ...], said: Any) -> dict[str, Any]:
    if not isinstance(said, dict):
        return {}
    found = {name: whole(said.get(name)) for name in names if name not in _APART}
    return {name: each for name, each in found.items() if each is not None}


def generated_of(said: Any) -> Generated | None:
    if not isinstance(said, dict):
        return None
    wrote, read = whole(said.get("generated_tokens")), whole(said.get("input_length"))
    prefill = said.get("prefill")
    if read is None and isinstance(prefill, list) and prefill:
        read = len(prefill)
    others = said.get("best_of_sequences")
    if wrote is not None and isinstance(others, list):
        wrote += sum(whole(each.get("generated_tokens")) or 0 for each in others if isinstance(each, dict))
    return None if wrote is None and read is None else Generated(wrote, read)
