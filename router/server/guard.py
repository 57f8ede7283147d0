"""The HTTP/1.1 connection that callers meet: uvicorn's protocol, with the bounds and clocks that uvicorn leaves out.

It stands in the place of uvicorn's HttpToolsProtocol and needs of uvicorn only what its Server gives to every
protocol. A request that breaks a rule (router/server/rules.py, and httptools' own) gets one response, after those
already owed, and then the connection closes. Trailers are dropped.

Clocks: one timer per connection looks at `_due` when it fires and goes back to sleep if that has moved, so a request
costs a comparison and not a timer. A caller who leaves is told to the running request at once, by its turn's `on_gone`.

An app that has `short_way(turn)` answers what it wants to by the turn itself; the rest goes through ASGI.
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import httptools
from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from router.server import asgi, rules
from router.server.asgi import App
from router.server.rules import Rejected
from router.server.turn import Headers, Turn

TOLD = 16  # callers beyond the room there is who are told so; more are only closed, for that too takes room
ShortWay = Callable[[Turn], Awaitable[None] | None]


class Guard(asyncio.Protocol):
    clocks: ClassVar = rules.Clocks()
    most: ClassVar = 1 << 30  # connections of callers that there is room for, in all
    transport: asyncio.Transport

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.app: App = config.loaded_app
        self.short_way: ShortWay = getattr(config.app, "short_way", lambda _: None)
        self.state = server_state
        self.app_state = app_state
        self.loop = _loop or asyncio.get_running_loop()
        self.parser: Any = None  # None: nothing more is read from this caller
        self.turn: Turn | None = None  # being answered, or the last one that was
        self.task: asyncio.Task[None] | None = None  # that answers it
        self.waiting: deque[Turn] = deque()  # pipelined behind it
        self.arriving: Turn | None = None  # its body is being read
        self.write_paused = False
        self._read_paused = False
        self._drained: asyncio.Future[None] | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf
        self._in_head = False
        self._fed = 0  # bytes since the last piece of a body or end of a request
        self._broken: Rejected | None = None  # the rule that the parser was told of; it wraps what it is told
        self._rejection: bytes | None = None
        self._known_host = rules.NO_HOST
        self._defaults: Any = None  # uvicorn makes a new list each second, with a new date in it
        self._default_lines = b""
        self.url = b""
        self.headers: Headers = []

    # The transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream, by its server
        self.state.connections.add(self)  # type: ignore[arg-type]  # uvicorn names its own; it calls only `shutdown`
        self.transport = transport
        self.server = get_local_addr(transport)
        self.client = get_remote_addr(transport)
        self.scheme = "https" if is_ssl(transport) else "http"
        self._new_parser()
        callers = len(self.state.connections)
        if callers <= self.most:
            self._watch(self.clocks.first_byte)
        elif callers <= self.most + TOLD:
            self.parser = None
            self._write_rejection(rules.refusal(503, "The server has no room for another connection; ask again."))
        else:
            self.transport.abort()

    def _new_parser(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        # Bytes after a request that said `connection: close` are dropped with it; they must not spoil its answer.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self.state.connections.discard(self)
        self.parser = None
        for timer in (self._timer, self._stall):
            if timer is not None:
                timer.cancel()
        self._timer = self._stall = None
        self._due = math.inf
        self.waiting.clear()
        if self.task is not None and not self.task.done():  # a drain waits for it, though this is gone
            self.state.tasks.add(self.task)
            self.task.add_done_callback(self.state.tasks.discard)
        if self.turn is not None and not self.turn.complete:
            self.turn.leave()
        self._wake_writer()

    def cut(self) -> None:
        """End it now; the app must not write any more (uvloop raises), though `connection_lost` comes a turn later."""
        if self.turn is not None and not self.turn.complete:
            self.turn.leave()
        self.transport.abort()

    def pause_writing(self) -> None:
        self.write_paused = True
        self._stall = self.loop.call_later(self.clocks.write, self.cut)

    def resume_writing(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        self._wake_writer()

    def _wake_writer(self) -> None:
        self.write_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    async def drained(self) -> None:
        if self.write_paused:
            if self._drained is None:
                self._drained = self.loop.create_future()
            await asyncio.shield(self._drained)

    def pause_reading(self) -> None:
        if not self._read_paused:
            self._read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._read_paused and not self.waiting:
            self._read_paused = False
            self.transport.resume_reading()

    def shutdown(self) -> None:
        """Called once by the server when it stops: an answer under way is finished, everything else ends here."""
        if self.turn is None or self.turn.complete:
            self.transport.close()
        else:
            self.turn.keep_alive = False

    # Clocks

    def _watch(self, seconds: float) -> None:
        due = self._due = self.loop.time() + seconds
        if self._timer is None or self._timer.when() > due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._due > self.loop.time():
            if self._due < math.inf:
                self._timer = self.loop.call_at(self._due, self._look)
        elif self.parser is None:
            self.transport.close()  # it has had its refusal
        elif self._in_head:
            self._reject(408, "The request's header fields took too long.")
        elif self.arriving is None or self.arriving.complete:
            self.transport.close()  # idle, or the rest of a body that nobody needs
        elif self._read_paused:
            self._watch(self.clocks.body)  # our pause, not the caller's
        else:
            self._reject(408, "The request's body took too long.")

    # Bytes in

    def data_received(self, data: bytes) -> None:
        if self.parser is None:
            return
        self._fed += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError:
            broken = self._broken
            self._reject(*((broken.status, str(broken)) if broken is not None else (400, "Invalid HTTP request.")))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._reject(400, "Invalid HTTP request.")
        else:
            if self._in_head or self.arriving is not None:
                self._pause_between()

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self.turn is not None and not self.turn.complete:
                raise  # pipelined behind another
            # llhttp stops after the head and would lose the body; Java's client asks for h2c with each POST. An upgrade
            # may be ignored (RFC 9110 §7.8), so the request is read once more without it.
            head = rules.without_upgrade(self.parser.get_method(), self.url, self.headers)
            self._new_parser()
            self.parser.feed_data(head + data[upgrade.args[0] :])

    def _pause_between(self) -> None:
        """What was read ends inside a request: bound what has come, and start the clock for what has not."""
        if self._fed > rules.HEAD_BYTES:
            self._reject(431, f"The request's header fields are larger than {rules.HEAD_BYTES} bytes.")
        elif not self._in_head:
            if not (self.arriving and self.arriving.complete):  # what is left of an answered one has BODY in all
                self._watch(self.clocks.body)
        elif self._due == math.inf:
            self._watch(self.clocks.head)

    # The parser

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self._in_head = True
        self._due = math.inf

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > rules.URL_BYTES:
            self._broken = Rejected(414, f"The request's URL is longer than {rules.URL_BYTES} bytes.")
            raise self._broken

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        try:
            self._head_complete()
        except Rejected as rejected:
            self._broken = rejected
            raise

    def _head_complete(self) -> None:
        parser = self.parser
        headers = self.headers
        version = parser.get_http_version()
        fields = rules.checked(version, self.url, headers, self._fed)
        host = fields.get(b"host")
        if host != self._known_host:
            self._known_host = rules.checked_host(host, version)
        method = parser.get_method()
        if parser.should_upgrade():
            if fields.get(b"upgrade", b"").lower() == b"websocket" or method == b"CONNECT":
                raise Rejected(400, "Neither WebSocket nor CONNECT is offered here.")
            return  # parsed once more without the upgrade, see _feed
        keeps = version == "1.1" and parser.should_keep_alive()
        continues = b"expect" in fields and fields[b"expect"].lower() == b"100-continue"
        turn = Turn(self, method, self.url, version, headers, fields, keeps, continues)
        self._in_head = False
        self.headers = []  # what comes now are trailers
        self.arriving = turn
        if self.turn is None or self.turn.complete:
            self._begin(turn)
        else:
            self.waiting.append(turn)
            self.pause_reading()

    def on_body(self, piece: bytes) -> None:
        self._fed = 0
        turn = self.arriving
        if turn is not None and not turn.complete and turn.feed(piece):
            self.pause_reading()

    def on_message_complete(self) -> None:
        self._fed = 0
        turn, self.arriving = self.arriving, None
        if turn is None:
            return
        if turn.complete:
            self._watch(self.clocks.keep_alive)
        else:
            self._due = math.inf
            turn.feed_end()

    # Answers out

    def default_lines(self) -> bytes:
        defaults = self.state.default_headers
        if defaults is not self._defaults:
            self._defaults = defaults
            self._default_lines = b"".join(b"%b: %b\r\n" % field for field in defaults)
        return self._default_lines

    def _begin(self, turn: Turn) -> None:
        self.turn = turn
        serving = self.short_way(turn)
        if serving is None:
            scope = asgi.scope_of(turn, self.scheme, self.server, self.client, self.app_state)
            serving = asgi.serve(self.app, scope, turn)
        self.task = asyncio.Task(turn.run(serving), loop=self.loop, name="turn")  # `create_task` would number it

    def turn_over(self, turn: Turn) -> None:
        """The last byte of an answer is written."""
        if not turn.keep_alive:
            self._close()
        elif self.waiting:
            self._begin(self.waiting.popleft())
            self.resume_reading()
        elif self._rejection is not None:
            self._write_rejection(self._rejection)
        else:
            if not self._in_head:
                self._watch(self.clocks.body if self.arriving is not None else self.clocks.keep_alive)
            self.resume_reading()

    def _reject(self, status: int, message: str) -> None:
        """Answer the request that is arriving, once those before it are answered; nothing more is read."""
        self.parser = None
        self._due = math.inf
        self._rejection = rules.refusal(status, message)
        turn = self.turn
        if turn is None or turn.complete:
            if self.arriving is None:
                self._write_rejection(self._rejection)
            else:
                self._close()  # it is answered already, and the rest of it is what is wrong
        elif turn is self.arriving:
            if turn.started:
                self.cut()  # its answer has begun and cannot be taken back
            else:
                turn.leave()
                self._write_rejection(self._rejection)
        elif self.arriving is not None:
            self.waiting.remove(self.arriving)

    def _write_rejection(self, rejection: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(rejection)
            self._close(unread=True)

    def _close(self, unread: bool = False) -> None:
        self.parser = None
        self.waiting.clear()
        if (unread or self.arriving is not None) and self.transport.can_write_eof():
            self.transport.write_eof()
            self.resume_reading()
            self._watch(self.clocks.linger)
        else:
            self.transport.close()
