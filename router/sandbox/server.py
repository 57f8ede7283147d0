"""The sandbox as a part to open and close: a port on 127.0.0.1, its connections, and how often each fault was asked."""

import asyncio
from collections import Counter
from collections.abc import Iterable

from router.sandbox import answers, fields
from router.sandbox.exchange import Call, Request, Step, Wording, Wrong, framed, worded
from router.sandbox.faults import FAULTS, Fault, of_model
from router.sandbox.http import Connection


class Sandbox:
    """`open` binds a free port, `close` leaves no socket behind. Between them `base_url` says where it is."""

    def __init__(self) -> None:
        self.base_url = ""
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._alone = asyncio.Event()
        self._turns: Counter[str] = Counter()

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, "127.0.0.1", 0, backlog=1024)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for connection in self._connections:
            connection.abort()
        while self._connections:
            self._alone.clear()
            await self._alone.wait()
        await self._server.wait_closed()
        self._server = None

    @property
    def connections(self) -> int:
        """How many callers are connected."""
        return len(self._connections)

    def _connect(self) -> Connection:
        return Connection(self._answer, self._connections.add, self._lost)

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._alone.set()

    def _answer(self, request: Request) -> Iterable[Step]:
        """A request → the steps of its answer: find who answers, let it, and let the fault do its worst to the reply.

        A refusal suffers the fault too once it is known which: a server that resets does so whatever it was sent.
        """
        wording: Wording = "openai"
        fault: Fault | None = None
        model = ""
        delay: float | None = None
        try:
            fault = _named(request)
            route = answers.find(request)
            wording = route.wording
            ask = answers.ask_of(route, request)
            model = ask.model
            if fault is None:
                fault = FAULTS["echo"] if route.reads == "nothing" else of_model(model)
            if fault is None:
                raise answers.no_model(model)
            asked = request.headers.get("x-sandbox-delay") or ask.fields.get("x-sandbox-delay")
            delay = None if asked is None else fields.duration(asked)
            reply = route.make(ask)
        except Wrong as wrong:
            reply = worded(wording, wrong)
        if fault is None:
            return framed(reply)
        self._turns[fault.name] += 1
        return fault.play(Call(self._turns[fault.name], model, wording, delay), reply)


def _named(request: Request) -> Fault | None:
    name = request.headers.get("x-sandbox-fault")
    if name is None:
        return None
    fault = FAULTS.get(name)
    if fault is None:
        raise Wrong(f"No fault is named {name!r}. One of: {', '.join(FAULTS)}.", "x-sandbox-fault")
    return fault
