"""The ledger over HTTP: operators see all, a tenant itself, and nobody waits for who asks long questions."""

import asyncio
import csv
import io
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from router import usage_views
from router.bounds import Bound, Level
from router.entry import Entry
from router.errors import unauthorized
from router.keys import ANONYMOUS, Headers, Identity
from router.secrets import Secret
from router.stores import sql
from router.stores.reports import Reports
from router.usage_views import UsageViews

NAMES = [name for name in Entry.__struct_fields__ if name != "failed"]
PEOPLE = {
    b"alice": Identity("alice", orgs=frozenset({"acme"})),
    b"bob": Identity("bob", orgs=frozenset({"acme"})),
    b"nobody": Identity(ANONYMOUS),
    b"own": Identity(ANONYMOUS, user_key=Secret("r8_0123456789")),
}
BUDGET = Bound("tenant/alice/budget", "tenant", "alice", "budget", 20_000_000_000, 0.0, "month")


class App:
    def __init__(self, ledger: str) -> None:
        self.ledger = ledger

    async def who(self, headers: Headers) -> Identity:
        found = PEOPLE.get(dict(headers).get(b"authorization", b""))
        if found is None:
            raise unauthorized()
        return found

    def bounds(self, identity: Identity) -> Sequence[Bound]:
        return (BUDGET,) if identity.tenant == "alice" else ()

    def level(self, bound: Bound) -> Level:
        return Level(5_000_000_000, 86_400.0)


def is_operator(request: Request) -> bool:
    return request.headers.get("authorization") == "admin"


def unknown(_: Request) -> Response:
    return Response(status_code=404)


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/l.db"
    database = sql.database(url)
    database.open()
    rows = [
        (f"e{number}", time.time() - 60 + number, f"r{number}", tenant, tenant, "org/m", "conversational", "openai",
         "together", "t/m", "together/0", "routed", "acme", 200, "ok", 0, "", 1.0, 100, 10, 0, 0, 0, 0.0, 0, 0, 1_500,
         charge, 1, "")
        for number, (tenant, charge) in enumerate([("alice", 2_000), ("bob", 3_000), ("alice", None)])
    ]  # fmt: skip
    database.many(f"INSERT INTO entries ({', '.join(NAMES)}) VALUES ({', '.join('?' * len(NAMES))})", rows)
    database.close()
    return url


def views(ledger: str) -> Starlette:
    return Starlette(routes=UsageViews(App(ledger), is_operator, unknown).routes())


async def asked(app: Starlette, path: str, who: str = "alice", **more: Any) -> httpx2.Response:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://router") as client:
        return await client.request("POST" if more else "GET", path, headers={"authorization": who}, **more)


def ask(ledger: str, path: str, who: str = "alice", **more: Any) -> httpx2.Response:
    return asyncio.run(asked(views(ledger), path, who, **more))


def test_operators_see_all_in_groups_as_json_or_csv(ledger: str) -> None:
    told = ask(ledger, "/admin/usage?by=tenant,model&since=7d&until=2099-01-01", "admin").json()
    assert [(each["tenant"], each["model"], each["requests"]) for each in told["data"]] == [
        ("alice", "org/m", 2),
        ("bob", "org/m", 1),
    ]
    assert told["object"] == "list" and told["until"] == "2099-01-01T00:00:00.000000Z"
    answer = ask(ledger, "/admin/usage?by=provider&format=csv&tenant=bob", "admin")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert next(csv.DictReader(io.StringIO(answer.text)))["charge_nano_usd"] == "3000"
    assert ask(ledger, "/admin/usage", "alice").status_code == 404


def test_a_tenant_sees_itself_and_how_full_its_limits_are(ledger: str) -> None:
    told = ask(ledger, "/v1/usage?by=key&tenant=bob").json()
    assert (told["tenant"], [(each["key"], each["requests"]) for each in told["data"]]) == ("alice", [("alice", 2)])
    assert told["limits"] == [
        {
            "limit": "budget",
            "scope": "tenant",
            "of": "alice",
            "unit": "nano_usd",
            "amount": 20_000_000_000,
            "used": 5_000_000_000,
            "resets": 86_400.0,
            "window": "month",
        }
    ]
    assert ask(ledger, "/v1/usage?billed_to=acme", "bob").json()["data"][0]["requests"] == 1
    assert ask(ledger, "/v1/usage?by=tenant").status_code == 400


def test_a_tenant_finds_its_own_requests_alone(ledger: str) -> None:
    (found,) = ask(ledger, "/v1/usage/requests/r0").json()["data"]
    assert (found["request"], found["charge_nano_usd"], found["attempts"]) == ("r0", 2_000, [])
    missing = ask(ledger, "/v1/usage/requests/r1")
    assert missing.status_code == 404 and "r1" in missing.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/usage", "/v1/usage/requests/r0"])
@pytest.mark.parametrize("who", ["nobody", "own", "stranger"])
def test_who_has_no_key_of_ours_sees_nothing(ledger: str, path: str, who: str) -> None:
    assert ask(ledger, path, who).status_code == 401


def test_costs_are_told_in_the_hubs_own_form(ledger: str) -> None:
    body = {"requestIds": ["r0", "r1", "r2", "r9", "r0"]}
    told = ask(ledger, "/v1/billing/costs", "admin", json=body).json()
    assert told == {"requests": [{"requestId": "r0", "costNanoUsd": 2_000}, {"requestId": "r1", "costNanoUsd": 3_000}]}
    mine = ask(ledger, "/v1/billing/costs", "alice", json=body).json()
    assert mine == {"requests": [{"requestId": "r0", "costNanoUsd": 2_000}]}
    assert ask(ledger, "/v1/billing/costs", "admin", json={"requestIds": []}).json() == {"requests": []}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"requestIds": [1]}', 400),
        (b'{"requestIds": "r1"}', 400),
        (b'{"ids": []}', 400),
        (b'{"requestIds": ["\\u0000"]}', 400),
        (b'{"requestIds": [' + b'"r",' * 10_000 + b'"r"]}', 400),
        (b" " * (2**20 + 1), 413),
    ],
)
def test_costs_of_no_list_of_ids_are_refused_by_name(ledger: str, body: bytes, status: int) -> None:
    answer = ask(ledger, "/v1/billing/costs", "admin", content=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, "requestIds")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("since=yesterday", "since"),
        ("until=1e9", "until"),
        ("by=colour", "by"),
        ("format=xml", "format"),
        ("model=%00", "model"),
    ],
)
def test_what_is_wrong_is_named(ledger: str, query: str, param: str) -> None:
    error = ask(ledger, f"/admin/usage?{query}", "admin").json()["error"]
    assert error["param"] == param and error["message"].startswith(f"{param}: ")


def test_more_rows_than_one_answer_holds_are_refused(ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_views, "ROWS", 1)
    assert ask(ledger, "/admin/usage?by=model", "admin").status_code == 200
    assert ask(ledger, "/admin/usage?by=tenant", "admin").json()["error"]["param"] == "by"


def test_a_ledger_that_is_off_or_away_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    away = ask(f"sqlite:///{tmp_path}/file/l.db", "/v1/usage")
    assert (away.status_code, away.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert away.headers["retry-after"] == "5" and "SQLite" not in away.text
    off = ask("", "/v1/usage")
    assert (off.status_code, off.json()["error"]["code"]) == (404, "no_ledger")


def test_who_comes_third_is_asked_to_come_again(ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    real = Reports.totals

    def slow(self: Reports, *given: Any) -> Any:
        assert go_on.wait(10)
        return real(self, *given)

    async def story() -> None:
        app = views(ledger)
        left, other = (asyncio.create_task(asked(app, "/v1/usage")) for _ in range(2))
        for _ in range(10):
            await asyncio.sleep(0)
        left.cancel()  # its caller goes, its question goes on
        await asyncio.gather(left, return_exceptions=True)
        third = await asked(app, "/v1/usage")
        assert (third.status_code, third.headers["retry-after"]) == (503, "1")
        assert third.json()["error"]["code"] == "ledger_busy"
        go_on.set()
        assert (await other).status_code == 200
        for _ in range(1_000):  # until the thread of the one that left has ended
            again = await asked(app, "/v1/usage")
            if again.status_code != 503:
                break
        assert again.status_code == 200

    monkeypatch.setattr(Reports, "totals", slow)
    asyncio.run(story())
