"""An ASGI app's view of a Turn: scope, receive, send. What Starlette's routes are served through.

Refuses what would split a head into two (CR, LF or NUL in a header), and messages out of their order.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from router.server.turn import Turn, target_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
Address = tuple[str, int | None] | None

_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}
_BREAKS: Final = (b"\r", b"\n", b"\0")


def scope_of(turn: Turn, scheme: str, server: Address, client: Address, state: dict[str, Any]) -> Scope:
    path, query = target_of(turn.url)
    scope: Scope = {
        "type": "http",
        "asgi": _ASGI,
        "http_version": turn.version,
        "method": turn.method.decode("ascii"),
        "scheme": scheme,
        "server": server,
        "client": client,
        "root_path": "",
        "path": turn.path(),
        "raw_path": path,
        "query_string": query,
        "headers": turn.headers,
        "router.turn": turn,
    }
    if state:
        scope["state"] = state.copy()
    return scope


async def serve(app: App, scope: Scope, turn: Turn) -> None:
    """Let an ASGI app answer a turn."""

    async def receive() -> Message:
        piece = await turn.piece()
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": not turn.whole()}

    async def send(message: Message) -> None:
        await turn.drained()
        if turn.gone:
            return
        kind = message["type"]
        if turn.complete:
            raise RuntimeError(f"{kind} was sent after the end of the answer")
        if not turn.started:
            if kind != "http.response.start":
                raise RuntimeError(f"{kind} was sent before http.response.start")
            _begin(turn, message["status"], message.get("headers", ()))
        elif kind != "http.response.body":
            raise RuntimeError(f"{kind} was sent where http.response.body was due")
        elif message.get("more_body", False):
            turn.write(message.get("body", b""))
        else:
            turn.end(message.get("body", b""))

    await app(scope, receive, send)


def _begin(turn: Turn, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
    length: int | None = None
    lines = []
    for name, value in headers:
        name = name.lower()
        if any(each in name or each in value for each in _BREAKS):
            raise RuntimeError("a header of the answer has a line break in it")
        if name == b"content-length":
            if length is not None:
                raise RuntimeError("the answer says its length twice")
            length = int(value)
        elif name == b"connection":
            turn.keep_alive = turn.keep_alive and b"close" not in value.lower()
        elif name != b"transfer-encoding":  # ours to choose
            lines.append(b"%b: %b\r\n" % (name, value))
    turn.begin(status, b"".join(lines), length)
