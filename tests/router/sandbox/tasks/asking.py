"""Asking a real Sandbox for a task: status, headers and body of what came."""

import json
from collections.abc import Mapping
from typing import Any

from router.sandbox import Sandbox
from tests.router.sandbox.wire import exchange, request, split, unchunked, with_sandbox


def answer(task: str, body: Any, **headers: str) -> tuple[int, Mapping[str, str], bytes]:
    return answers((task, body), **headers)[0]


def answers(*asked: tuple[str, Any], **headers: str) -> list[tuple[int, Mapping[str, str], bytes]]:
    """One sandbox for all of them; header names are written with underscores."""

    async def run(sandbox: Sandbox) -> list[bytes]:
        found = []
        for task, body in asked:
            kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
            sent = request(f"/pipeline/{task}", body, **{"content_type": kind, **headers})  # type: ignore[arg-type]
            found.append(await exchange(sandbox, sent))
        return found

    return [whole(*split(came)) for came in with_sandbox(run)]


def whole(status: int, headers: Mapping[str, str], body: bytes) -> tuple[int, Mapping[str, str], bytes]:
    return status, headers, b"".join(unchunked(body)) if "transfer-encoding" in headers else body


def value(task: str, body: Any, **headers: str) -> Any:
    """The JSON of an answer that went well."""
    status, _, came = answer(task, body, **headers)
    assert status == 200, came
    return json.loads(came)


def refusal(task: str, body: Any, **headers: str) -> tuple[int, str]:
    """Status and words of one that did not."""
    status, _, came = answer(task, body, **headers)
    error = json.loads(came)["error"]
    assert isinstance(error, str)
    return status, error
