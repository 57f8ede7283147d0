"""A raw socket to a real Sandbox, for tests: what was sent and what came, byte for byte."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from router.sandbox import Sandbox

T = TypeVar("T")
EIGHT = "one two three four five six seven eight"


@asynccontextmanager
async def opened() -> AsyncIterator[Sandbox]:
    sandbox = Sandbox()
    await sandbox.open()
    try:
        yield sandbox
    finally:
        await sandbox.close()


def with_sandbox(test: Callable[[Sandbox], Awaitable[T]]) -> T:
    async def run() -> T:
        async with opened() as sandbox:
            return await asyncio.wait_for(test(sandbox), 20)

    return asyncio.run(run())


def port_of(sandbox: Sandbox) -> int:
    return int(sandbox.base_url.rpartition(":")[2])


def request(path: str, body: Any = None, *, close: bool = True, **headers: str) -> bytes:
    """A request's bytes; header names are written with underscores."""
    sent = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"host": "sandbox", "content-length": str(len(sent)), "content-type": "application/json"}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()} | (
        {"connection": "close"} if close else {}
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\n{head}\r\n".encode() + sent


async def exchange(sandbox: Sandbox, sent: bytes) -> bytes:
    """All that comes until the other side closes; a reset raises."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(sandbox))
    try:
        writer.write(sent)
        return await reader.read(-1)
    finally:
        writer.close()


def split(answer: bytes) -> tuple[int, Mapping[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


def unchunked(body: bytes) -> list[bytes]:
    """The chunks of a body that ends as it should."""
    found: list[bytes] = []
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        data, end, body = body[:length], body[length : length + 2], body[length + 2 :]
        assert end == b"\r\n"
        if not length:
            assert not body
            return found
        found.append(data)


def chat(
    model: str = "sandbox/echo", text: str = "one two three four five six seven eight", **more: Any
) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}
