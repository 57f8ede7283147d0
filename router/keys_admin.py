"""`/admin/keys`: operators make, list, rotate and revoke virtual keys. A key is in one answer, once, and nowhere else.

Keys of the file are listed and cannot be changed here. What is wrong with a request is told with the name of the field;
values are never repeated. Who may ask is the guard's to say, which is handed in.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.plans import STYLES, KeyRow, PlanSettings, VirtualKey
from router.settings import duration
from router.stores.keyrows import GRACE, KeyRows, NameTaken, NoSuchKey
from router.stores.sql import Away
from router.stores.storedkeys import StoredKeys

LARGEST: Final = 64 * 1024  # bytes of a body
LONGEST_GRACE: Final = 90 * 86400.0

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]


class InUse(Protocol):
    """Of a Config."""

    @property
    def plans(self) -> Mapping[str, PlanSettings]: ...
    @property
    def virtual_keys(self) -> Sequence[VirtualKey]: ...


class Wrong(Exception):
    """An answer that is no 2xx. `field`: of the request."""

    def __init__(self, status: int, message: str, field: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.field = field


class KeysAdmin:
    """`stored` is None where no store is configured. `changed` has all others know at once."""

    def __init__(
        self,
        stored: StoredKeys | None,
        in_use: Callable[[], InUse],
        guard: Callable[[Endpoint], Any],
        clock: Callable[[], float] = time.time,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._changed = changed
        self._stored = stored
        self._in_use = in_use
        self._guard = guard
        self._clock = clock

    def routes(self) -> list[Route]:
        return [
            Route("/admin/keys", self._guard(_told(self._list)), methods=["GET"]),
            Route("/admin/keys", self._guard(_told(self._create)), methods=["POST"]),
            Route("/admin/keys/{name}", self._guard(_told(self._revoke)), methods=["DELETE"]),
            Route("/admin/keys/{name}/rotate", self._guard(_told(self._rotate)), methods=["POST"]),
        ]

    async def _list(self, request: Request) -> Response:
        rows = await self._with(lambda rows: rows.rows()) if self._stored is not None else []
        now, all_of_them = self._clock(), "all" in request.query_params
        shown = [view(row, now) for row in rows if all_of_them or _is_live(row, now)]
        return _json({"keys": [*(_of_file(each) for each in self._in_use().virtual_keys), *shown]})

    async def _create(self, request: Request) -> Response:
        given = await _fields(request)
        name, style = given.pop("name", None), given.pop("style", "hf")
        if not isinstance(name, str):
            raise Wrong(422, "is missing" if name is None else "expected text", "name")
        if style not in STYLES:
            raise Wrong(422, f"expected {' or '.join(STYLES)}", "style")
        self._check_plan(given.get("plan", ""))
        taken = {each.name for each in self._in_use().virtual_keys}
        try:
            secret, row = await self._change(lambda rows: rows.create(name, given, style, taken))
        except NameTaken:
            raise Wrong(409, "a key has that name already", "name") from None
        return _json({"key": secret, **view(row, self._clock())}, 201)

    def _check_plan(self, plan: object) -> None:
        if isinstance(plan, str) and plan and plan not in self._in_use().plans:
            raise Wrong(422, "no plan has that name", "plan")

    async def _rotate(self, request: Request) -> Response:
        name = self._name(request)
        given = await _fields(request)
        style = given.pop("style", "hf")
        try:
            grace = duration(given.pop("grace", GRACE))
        except ValueError as error:
            raise Wrong(422, str(error), "grace") from None
        if grace > LONGEST_GRACE:
            raise Wrong(422, "expected at most 90d", "grace")
        if style not in STYLES or given:
            field = "style" if style not in STYLES else next(iter(given))[:64]
            raise Wrong(422, "expected hf or sk" if field == "style" else "there is no such field", field)
        secret, row = await self._change(lambda rows: rows.rotate(name, grace, style))
        return _json({"key": secret, **view(row, self._clock()), "old_until": _iso(self._clock() + grace)})

    async def _revoke(self, request: Request) -> Response:
        name = self._name(request)
        count = await self._change(lambda rows: rows.revoke(name))
        return _json({"name": name, "revoked": count})

    def _name(self, request: Request) -> str:
        name: str = request.path_params["name"]
        if any(each.name == name for each in self._in_use().virtual_keys):
            raise Wrong(409, "this key stands in the file; change it there", "name")
        return name

    async def _change(self, work: Callable[[KeyRows], T]) -> T:
        done = await self._with(work)
        self._changed()
        return done

    async def _with(self, work: Callable[[KeyRows], T]) -> T:
        if self._stored is None:
            raise Wrong(409, "there is no store for keys: set stores.ledger, or write the key into the file")
        try:
            return await asyncio.to_thread(self._stored.change, work)
        except NoSuchKey:
            raise Wrong(404, "no live key of the store has that name", "name") from None
        except Away:
            raise Wrong(503, "the store for keys is away; ask again") from None


def _told(endpoint: Endpoint) -> Endpoint:
    """With what is wrong as an answer."""

    async def told(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Wrong as wrong:
            return _wrong(wrong.status, wrong.message, wrong.field)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(each) for each in first["loc"])
            return _wrong(422, first["msg"].removeprefix("Value error, "), field)
        except ValueError as error:
            field, _, message = str(error).partition(": ")
            return _wrong(422, message, field)

    return told


async def _fields(request: Request) -> dict[str, Any]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Wrong(413, f"the body is larger than {LARGEST} bytes")
    try:
        return msgspec.json.decode(bytes(body) or b"{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Wrong(400, "the body is no JSON object") from None


def view(row: KeyRow, now: float) -> dict[str, Any]:
    """A stored key as operators see it."""
    settings = msgspec.json.decode(row.settings or "{}", type=dict[str, Any])
    shown = {"name": row.name, "tenant": row.tenant, "hint": f"…{row.hint}", "source": "store", **settings}
    shown["created"] = _iso(row.created)
    shown |= {"expires": _iso(row.expires)} if row.expires is not None else {}
    shown |= {"revoked": _iso(row.revoked)} if row.revoked is not None else {}
    return {**shown, "live": _is_live(row, now)}


def _of_file(key: VirtualKey) -> dict[str, Any]:
    told = key.model_dump(mode="json", exclude_defaults=True, exclude={"key", "key_sha256", "user_keys", "expires"})
    told |= {"expires": _iso(key.expires)} if key.expires is not None else {}
    return {**told, "tenant": key.owner, "source": "file", "live": key.digest is not None}


def _is_live(row: KeyRow, now: float) -> bool:
    return row.revoked is None and (row.expires is None or row.expires > now)


def _iso(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _wrong(status: int, message: str, field: str) -> Response:
    told = {"message": f"{field}: {message}" if field else message, **({"field": field} if field else {})}
    return _json({"error": told}, status)


def _json(value: Any, status: int = 200) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(value), status, headers, "application/json")
