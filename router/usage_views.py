"""What the ledger says, over HTTP: `/admin/usage` for operators, `/v1/usage` for a tenant about itself, and the batch
of costs by request id that the Hub asks its providers for.

Each question has a connection of its own and a thread, two at a time: serving never waits for one, and who comes third
is asked to come again. A tenant is whose key it is; members of one organisation are not shown each other's rows.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from providers.dialects import DIALECTS
from providers.spec import Fault
from router import usage_report as report
from router.bounds import Bound, Level
from router.errors import Refused, bad_request, not_found, too_large, unauthorized
from router.keys import ANONYMOUS, Headers, Identity
from router.stores import sql
from router.stores.reports import ASKED, DIMENSIONS, Reports, Sum

AT_ONCE: Final = 2  # questions to the ledger
ROWS: Final = 10_000  # of one answer
SETTLED: Final = 2 * 86_400.0  # seconds back to look for a request that is asked about by its id
LARGEST: Final = 2**20  # bytes of a list of ids
_OWN: Final = ("key", "model", "provider", "upstream", "task", "billed_to", "day", "hour")
_FILTERS: Final = ("tenant", "key", "model", "provider", "task", "billed_to")


Found = TypeVar("Found")


class Counted(Protocol):
    """What this sees of the app. `ledger`: the URL of its database, empty where there is none."""

    async def who(self, headers: Headers) -> Identity:
        """Whose key it is. Raises Refused."""
        ...

    @property
    def ledger(self) -> str: ...
    def bounds(self, identity: Identity) -> Sequence[Bound]: ...
    def level(self, bound: Bound) -> Level: ...


class Asked(msgspec.Struct):
    """The body of `POST /v1/billing/costs`."""

    request_ids: list[str] = msgspec.field(name="requestIds")


class UsageViews:
    def __init__(
        self, counted: Counted, is_operator: Callable[[Request], bool], unknown: Callable[[Request], Response]
    ) -> None:
        self._counted = counted
        self._is_operator = is_operator
        self._unknown = unknown
        self._running = 0
        self._open: set[sql.Database] = set()

    def routes(self) -> list[Route]:
        return [
            Route("/admin/usage", self._worded(self._all), methods=["GET"]),
            Route("/v1/usage", self._worded(self._own), methods=["GET"]),
            Route("/v1/usage/requests/{id}", self._worded(self._request), methods=["GET"]),
            Route("/v1/billing/costs", self._worded(self._costs), methods=["POST"]),
        ]

    def _worded(self, answer: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def worded(request: Request) -> Response:
            try:
                response: Response = await answer(request)
            except Refused as refused:
                fault = refused.fault
                headers = {"retry-after": f"{fault.retry_after:.0f}"} if fault.retry_after is not None else None
                body = DIALECTS["openai"].fault(fault)
                return Response(body, fault.status, headers, media_type="application/json")
            return response

        return worded

    async def _all(self, request: Request) -> Response:
        if not self._is_operator(request):
            return self._unknown(request)
        by, since, until, rows = await self._totals(request, tuple(DIMENSIONS), _where(request))
        return _shown(request, by, since, until, rows)

    async def _own(self, request: Request) -> Response:
        identity = await self._identified(request)
        where = {**_where(request), "tenant": identity.tenant}
        by, since, until, rows = await self._totals(request, _OWN, where)
        limits = [_limit(each, self._counted.level(each)) for each in self._counted.bounds(identity)]
        return _shown(request, by, since, until, rows, {"tenant": identity.tenant, "limits": limits})

    async def _request(self, request: Request) -> Response:
        identity, wanted = await self._identified(request), _text("id", request.path_params["id"][:256])
        found = await self._ask(lambda reports: reports.request(wanted, identity.tenant))
        if not found:
            raise not_found(f"No request {wanted[:64]} of '{identity.tenant}' is in the ledger.", "id")
        return _json({"object": "list", "data": [report.entry_builtins(each) for each in found]})

    async def _costs(self, request: Request) -> Response:
        tenant = None if self._is_operator(request) else (await self._identified(request)).tenant
        try:
            asked = msgspec.json.decode(await _body(request), type=Asked).request_ids
        except msgspec.MsgspecError:
            raise bad_request("requestIds: expected a list of ids.", "requestIds", "invalid_type") from None
        if len(asked) > ASKED:
            raise bad_request(f"requestIds: at most {ASKED} at once.", "requestIds", "too_many")
        known = [_text("requestIds", each) for each in asked]
        since = time.time() - SETTLED
        found = await self._ask(lambda reports: reports.charges(known, since, tenant))
        return _json({"requests": [{"requestId": each, "costNanoUsd": cost} for each, cost in found.items()]})

    async def _identified(self, request: Request) -> Identity:
        """Whose key it is. Those without one of ours have their name in common, and nothing else."""
        identity = await self._counted.who(request.scope["headers"])
        if identity.user_key is not None or (identity.tenant == ANONYMOUS and not self._is_operator(request)):
            raise unauthorized()
        return identity

    async def _totals(
        self, request: Request, known: Sequence[str], where: dict[str, str]
    ) -> tuple[Sequence[str], float | None, float | None, list[Sum]]:
        by: Any = _by(request, known)
        since, until = _moment(request, "since"), _moment(request, "until")
        rows = await self._ask(lambda reports: reports.totals(by, since, until, where, ROWS + 1))
        if len(rows) > ROWS:
            raise bad_request(f"by: this makes more than {ROWS} rows; ask for fewer groups or a shorter time.", "by")
        return by, since, until, rows

    async def _ask(self, question: Callable[[Reports], Found]) -> Found:
        url = self._counted.ledger
        if not url:
            raise not_found("This router keeps no ledger (stores.ledger: off).", code="no_ledger")
        if self._running >= AT_ONCE:
            raise Refused(Fault(503, "ledger_busy", "The ledger is being read by others; ask again.", retry_after=1.0))
        self._running += 1
        asking = asyncio.ensure_future(asyncio.to_thread(self._asked, url, question))
        asking.add_done_callback(self._over)  # not when the caller leaves: the thread goes on to its end
        try:
            return await asyncio.shield(asking)
        except sql.Away:
            said = "The ledger's database cannot be reached at the moment; models are served all the same."
            raise Refused(Fault(503, "ledger_unavailable", said, retry_after=5.0)) from None

    def _asked(self, url: str, question: Callable[[Reports], Found]) -> Found:
        database = sql.database(url)
        self._open.add(database)
        try:
            database.open()
            return question(Reports(database))
        finally:
            self._open.discard(database)
            database.close()

    def close(self) -> None:
        """Who still waits for the ledger does so no longer: the process would wait for him."""
        for each in list(self._open):
            each.interrupt()

    def _over(self, asking: "asyncio.Future[Any]") -> None:
        self._running -= 1
        if not asking.cancelled():
            asking.exception()  # looked at, where nobody waits for it any more


async def _body(request: Request) -> bytes:
    parts: list[bytes] = []
    pieces: AsyncIterator[bytes] = request.stream()
    async for piece in pieces:
        parts.append(piece)
        if sum(map(len, parts)) > LARGEST:
            raise too_large(LARGEST, "requestIds")
    return b"".join(parts)


def _where(request: Request) -> dict[str, str]:
    asked = request.query_params
    return {name: _text(name, asked[name]) for name in _FILTERS if name in asked}


def _text(name: str, value: str) -> str:
    if "\0" in value:  # PostgreSQL has no such text
        raise bad_request(f"{name}: not a text.", name)
    return value


def _by(request: Request, known: Sequence[str]) -> tuple[str, ...]:
    asked = [part.strip() for each in request.query_params.getlist("by") for part in each.split(",") if part.strip()]
    for each in asked:
        if each not in known:
            raise bad_request(f'by: nothing is grouped by "{each[:64]}". One of: {", ".join(known)}.', "by")
    return tuple(dict.fromkeys(asked))


def _moment(request: Request, name: str) -> float | None:
    text = request.query_params.get(name, "")
    try:
        return report.moment(text, time.time()) if text else None
    except ValueError as error:
        raise bad_request(f"{name}: {error}.", name) from None


def _shown(
    request: Request,
    by: Sequence[str],
    since: float | None,
    until: float | None,
    rows: list[Sum],
    more: dict[str, Any] | None = None,
) -> Response:
    form = request.query_params.get("format", "json")
    if form == "csv":
        return Response("".join(report.as_csv(by, rows)), media_type="text/csv; charset=utf-8")
    if form != "json":
        raise bad_request("format: expected json or csv.", "format")
    return _json({**report.listed(by, rows, since, until), **(more or {})})


def _limit(bound: Bound, level: Level) -> dict[str, Any]:
    """`used` and `amount` in requests, tokens or nano-USD, as `unit` says; `resets` in seconds."""
    unit = {"budget": "nano_usd", "requests": "requests", "concurrency": "requests"}.get(bound.kind, "tokens")
    told = {"limit": bound.kind, "scope": bound.scope, "of": bound.of, "unit": unit, "amount": bound.amount}
    window = bound.period or (f"{bound.seconds:g}s" if bound.seconds else None)
    return {**told, "used": level.used, "resets": level.resets, "window": window}


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
