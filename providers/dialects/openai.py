"""OpenAI's wire shape: its error body, and how its completions and chat completions turn into each other.

The completions body is also the canonical form of text generation: every other dialect of that task is read into it
and written from it, and an upstream that only chats is reached through `chat_of` and `completion_of`. What a chat
cannot do (insert before a suffix, echo, pick the best of several) is refused by name.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from providers import sse
from providers.dialects.generate_task import Generation
from providers.dialects.openai_tasks import TASKS
from providers.spec import TEXT_GENERATION, Dialect, Fault, Unreadable

# developers.openai.com/api/docs/guides/error-codes; 402 is worded as OpenAI words an account without credit.
_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}


def _type(status: int) -> str:
    return _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")


def _fault(fault: Fault) -> bytes:
    error: dict[str, Any] = {
        "message": fault.message,
        "type": _type(fault.status),
        "param": fault.param,
        "code": fault.code,
    }
    if fault.attempts:
        error["attempts"] = fault.attempts
    return msgspec.json.encode({"error": error})


def _fault_event(fault: Fault) -> bytes:
    return sse.event(_fault(fault))


def chat_of(completion: dict[str, Any]) -> dict[str, Any]:
    """A completions body → the chat completions body that asks for the same."""
    chat = {name: value for name, value in completion.items() if name not in _CHANGED}
    prompt = completion.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise _refused("prompt", "must be one string: this model is served by a chat API")
    for name in ("suffix", "echo"):
        if completion.get(name):
            raise _refused(name, "is not supported: this model is served by a chat API")
    if completion.get("best_of") not in (None, completion.get("n") or 1):
        raise _refused("best_of", "is not supported beyond `n`: this model is served by a chat API")
    logprobs = completion.get("logprobs")
    if logprobs is not None:
        chat["logprobs"] = logprobs is not False
        if type(logprobs) is int and logprobs > 0:
            chat["top_logprobs"] = logprobs
    return {"messages": [{"role": "user", "content": prompt}], **chat}


_CHANGED: Final = frozenset({"prompt", "suffix", "echo", "best_of", "logprobs"})


def _refused(param: str, why: str) -> Unreadable:
    return Unreadable(param, f"`{param}` {why}.", status=400)


def completion_of(chat_reply: dict[str, Any]) -> dict[str, Any]:
    """A chat completion → the text completion that says the same."""
    return _as_completion(chat_reply, "message")


def completion_chunk_of(chunk: dict[str, Any]) -> dict[str, Any]:
    """A chunk of a chat completion → a chunk of a text completion."""
    return _as_completion(chunk, "delta")


def _as_completion(reply: dict[str, Any], holder: str) -> dict[str, Any]:
    choices = [
        {name: value for name, value in choice.items() if name != holder}
        | {"text": _text((choice.get(holder) or {}).get("content")), "logprobs": _logprobs(choice.get("logprobs"))}
        for choice in reply.get("choices") or ()
    ]
    return reply | {"object": "text_completion", "choices": choices}


def _text(content: Any) -> str:
    """A message's content; some models of Mistral answer in parts, of which only the text ones are the answer."""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if part.get("type") == "text")
    return content or ""


def _logprobs(chat: dict[str, Any] | None) -> dict[str, Any] | None:
    if not chat or not (tokens := chat.get("content")):
        return None
    return {
        "tokens": [token["token"] for token in tokens],
        "token_logprobs": [token.get("logprob") for token in tokens],
        "top_logprobs": [
            {other["token"]: other["logprob"] for other in token.get("top_logprobs") or ()} for token in tokens
        ],
    }


DIALECT: Final = Dialect("openai", _fault, _fault_event, tasks={**TASKS, TEXT_GENERATION: Generation(None)})
