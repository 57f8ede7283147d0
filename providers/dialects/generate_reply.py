"""A canonical completion → what Text Generation Inference answers, whole or as a stream of token events.

Shapes are those of TGI 3.3 (docs/openapi.json, its integration snapshots): absent options are left out, the seed is
null. A completions API does not tell token ids, so they are 0, and a missing logprob is 0.0, because the clients' types
insist on numbers. No finish reason is made up: a stream that never told one has no last event.
"""

from typing import Any, Final

import msgspec

from providers import sse
from providers.dialects.generate_request import Want

_encode: Final = msgspec.json.Encoder().encode


def answer(reply: dict[str, Any], choice: dict[str, Any], want: Want) -> dict[str, Any]:
    """One choice of a completion → `{"generated_text", "details"?}`."""
    stop = _stop_hit(choice, choice.get("text") or "", want)
    tokens, top_tokens = _tokens(choice, want)
    # TGI leaves the stop text that it met in the answer; the others cut it off.
    text = _ending_in(choice.get("text") or "", stop)
    generated: dict[str, Any] = {"generated_text": want.before + text}
    if want.details:
        details = {
            "finish_reason": _finish_reason(choice.get("finish_reason"), stop),
            "generated_tokens": _count(reply.get("usage"), "completion_tokens", len(tokens)),
            "seed": want.seed,
            "prefill": [],
            "tokens": tokens,
        }
        generated["details"] = details | {"top_tokens": top_tokens} if want.top_n else details
    return generated


class Stream:
    """Completion chunks → token events; the last carries the whole text. Usage may follow the finish, so the event of
    the finishing chunk is held back until the end."""

    __slots__ = ("_choice", "_index", "_said", "_usage", "_want")

    def __init__(self, want: Want) -> None:
        self._want = want
        self._index = 0
        self._said: list[str] = []
        self._choice: dict[str, Any] | None = None  # the one that finished
        self._usage: dict[str, Any] | None = None

    def event(self, chunk: dict[str, Any]) -> bytes:
        if usage := chunk.get("usage"):
            self._usage = usage
        out = b""
        for choice in chunk.get("choices") or ():
            if choice.get("index") or self._choice is not None:
                continue
            text = choice.get("text") or ""
            if choice.get("finish_reason"):
                self._choice = choice
            elif text:
                out += self._tokens_of(choice, text)
        return out

    def end(self) -> bytes:
        choice = self._choice
        if choice is None:
            return b""
        text = choice.get("text") or ""
        said = "".join(self._said) + text
        stop = _stop_hit(choice, said, self._want)
        whole = _ending_in(said, stop)
        out, logprob = b"", _logprob(choice)
        if text and whole != said:  # the stop text is a token of its own
            out, text, logprob = self._tokens_of(choice, text), "", None
        text += whole[len(said) :]
        token = _token(text, logprob, special=not text)
        self._index += 1
        details = {
            "finish_reason": _finish_reason(choice.get("finish_reason"), stop),
            "generated_tokens": _count(self._usage, "completion_tokens", self._index),
            "seed": self._want.seed,
            "input_length": _count(self._usage, "prompt_tokens", 0),
        }
        return out + self._written(token, [], self._want.before + whole, details)

    def _tokens_of(self, choice: dict[str, Any], text: str) -> bytes:
        self._said.append(text)
        tokens, tops = _tokens(choice, self._want) if choice.get("logprobs") else ([], [])
        if len(tokens) < 2 or "".join(token["text"] for token in tokens) != text:
            tokens, tops = [_token(text, _logprob(choice))], tops[:1]
        out = b""
        for at, token in enumerate(tokens):
            self._index += 1
            out += self._written(token, tops[at] if at < len(tops) else [])
        return out

    def _written(
        self, token: dict[str, Any], top: list[dict[str, Any]], text: str | None = None, details: Any = None
    ) -> bytes:
        event: dict[str, Any] = {"index": self._index, "token": token}
        if top:
            event["top_tokens"] = top
        event["generated_text"] = text
        event["details"] = details
        return sse.event(_encode(event))


def _token(text: str, logprob: float | None, special: bool = False) -> dict[str, Any]:
    return {"id": 0, "text": text, "logprob": logprob or 0.0, "special": special}


def _logprob(choice: dict[str, Any]) -> float | None:
    found = (choice.get("logprobs") or {}).get("token_logprobs") or [None]
    return found[0] if len(found) == 1 else None


def _tokens(choice: dict[str, Any], want: Want) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """The tokens that came with logprobs, and the likeliest ones at each place."""
    logprobs = choice.get("logprobs") or {}
    texts = logprobs.get("tokens") or []
    found = logprobs.get("token_logprobs") or [None] * len(texts)
    tokens = [_token(text, logprob) for text, logprob in zip(texts, found, strict=False)]
    tops = [
        [_token(text, logprob) for text, logprob in sorted(top.items(), key=lambda one: -one[1])][: want.top_n]
        for top in (logprobs.get("top_logprobs") or [] if want.top_n else [])
    ]
    return tokens, tops


def _stop_hit(choice: dict[str, Any], text: str, want: Want) -> str | None:
    """The stop text that ended it, where that can be known: vLLM says it in `stop_reason`, SGLang in `matched_stop`,
    and some servers leave it in the text."""
    for name in ("stop_reason", "matched_stop"):
        if (said := choice.get(name)) in want.stops:
            return str(said)
    return next((stop for stop in want.stops if text.endswith(stop)), None)


def _ending_in(text: str, stop: str | None) -> str:
    return text if stop is None or text.endswith(stop) else text + stop


def _finish_reason(reason: str | None, stop: str | None) -> str:
    if reason == "length":
        return "length"
    return "eos_token" if stop is None else "stop_sequence"


def _count(usage: dict[str, Any] | None, name: str, otherwise: int) -> int:
    return (usage or {}).get(name) or otherwise
