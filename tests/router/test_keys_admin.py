"""`/admin/keys`: what operators ask for and are told, on a real store."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from router.keys_admin import LARGEST, Endpoint, KeysAdmin
from router.plans import PlanSettings, VirtualKey, digest_of
from router.secrets import Secret
from router.stores.keyrows import KeyRows
from router.stores.sql import Away, database
from router.stores.storedkeys import StoredKeys

NOW = 1_800_000_000.0
OF_FILE = "hf_canaryVirtualKey000000"
OPERATOR = {"authorization": "operator"}


class Inside:
    plans: Mapping[str, PlanSettings] = {"free": PlanSettings()}
    virtual_keys: Sequence[VirtualKey] = (
        VirtualKey(name="of-file", key=Secret(OF_FILE), plan="free", user_keys={"groq": Secret("gsk_canary")}),
    )

    def __init__(self, stored: StoredKeys | None) -> None:
        self.stored = stored

    def version(self) -> int:
        assert self.stored is not None
        return self.stored.change(lambda rows: rows.version())


def guard(endpoint: Endpoint) -> Callable[[Request], Any]:
    async def guarded(request: Request) -> Response:
        if request.headers.get("authorization") != "operator":
            return Response(status_code=404)
        return await endpoint(request)

    return guarded


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Inside]:
    url = f"sqlite:///{tmp_path}/router.db"
    stored = StoredKeys(lambda: database(url), url, None, clock=lambda: NOW)
    yield Inside(stored)
    stored.close()


def ask(inside: Inside, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, dict[str, Any]]:
    async def asked() -> httpx2.Response:
        app = Starlette(routes=[*KeysAdmin(inside.stored, lambda: inside, guard, lambda: NOW).routes()])
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://x", headers=OPERATOR) as client:
            given = {"json": body} if body is not None else {}
            return await client.request(method, path, **{**given, **more})

    answer = asyncio.run(asked())
    assert "canary" not in answer.text and (answer.status_code == 404 or answer.headers["cache-control"] == "no-store")
    return answer.status_code, answer.json()


def test_a_key_is_made_listed_rotated_and_revoked(inside: Inside) -> None:
    given = {
        "name": "laptop",
        "tenant": "acme",
        "plan": "free",
        "models": ["a/*"],
        "limits": {"requests": "300/hour"},
        "expires": "2027-06-01",
        "metadata": {"team": "x"},
        "style": "sk",
    }
    status, made = ask(inside, "POST", "/admin/keys", given)
    key = made.pop("key")
    assert status == 201 and key.startswith("sk-")
    assert made["hint"] == f"…{key[-4:]}" and made["expires"] == "2027-06-01T00:00:00Z" and made["live"] is True
    assert {name: made[name] for name in ("tenant", "plan", "models", "limits", "metadata")} == {
        name: given[name] for name in ("tenant", "plan", "models", "limits", "metadata")
    }

    _, listed = ask(inside, "GET", "/admin/keys")
    assert [each["name"] for each in listed["keys"]] == ["of-file", "laptop"] and key not in str(listed)
    assert listed["keys"][0] == {"name": "of-file", "tenant": "of-file", "plan": "free", "source": "file", "live": True}

    status, rotated = ask(inside, "POST", "/admin/keys/laptop/rotate", {"grace": "1h"})
    assert status == 200 and rotated["key"] not in (key, "") and rotated["old_until"] == "2027-01-15T09:00:00Z"
    _, listed = ask(inside, "GET", "/admin/keys")
    assert [each["expires"] for each in listed["keys"][1:]] == ["2027-01-15T09:00:00Z", "2027-06-01T00:00:00Z"]

    assert ask(inside, "DELETE", "/admin/keys/laptop") == (200, {"name": "laptop", "revoked": 2})
    assert len(ask(inside, "GET", "/admin/keys")[1]["keys"]) == 1
    everything = ask(inside, "GET", "/admin/keys?all")[1]["keys"]
    assert [each["live"] for each in everything] == [True, False, False]
    assert inside.stored is not None
    assert digest_of(key.encode()).hex() == inside.stored.change(lambda rows: rows.rows())[0].digest


WRONG: list[tuple[str, str, Any, int, str]] = [
    ("POST", "", {}, 422, "name"),
    ("POST", "", {"name": 7}, 422, "name"),
    ("POST", "", {"name": "a b"}, 422, "name"),
    ("POST", "", {"name": "a", "plan": "gold"}, 422, "plan"),
    ("POST", "", {"name": "a", "plan": 7}, 422, "plan"),
    ("POST", "", {"name": "a", "style": "xx"}, 422, "style"),
    ("POST", "", {"name": "a", "limits": {"requests": "many"}}, 422, "limits.requests"),
    ("POST", "", {"name": "a", "limits": {"concurrency": 0}}, 422, "limits.concurrency"),
    ("POST", "", {"name": "a", "expires": "soon"}, 422, "expires"),
    ("POST", "", {"name": "a", "metadata": {"x": 1}}, 422, "metadata.x"),
    ("POST", "", {"name": "a", "colour": "red"}, 422, "colour"),
    ("POST", "", {"name": "a", "user_keys": {"groq": "gsk_canary"}}, 422, "user_keys"),
    ("POST", "", {"name": "a", "key": OF_FILE}, 422, "key"),
    ("POST", "", {"name": "of-file"}, 409, "name"),
    ("POST", "", [], 400, ""),
    ("POST", "/nobody/rotate", {}, 404, "name"),
    ("POST", "/of-file/rotate", {}, 409, "name"),
    ("POST", "/nobody/rotate", {"grace": "soon"}, 422, "grace"),
    ("POST", "/nobody/rotate", {"grace": "91d"}, 422, "grace"),
    ("POST", "/nobody/rotate", {"colour": 1}, 422, "colour"),
    ("DELETE", "/nobody", None, 404, "name"),
    ("DELETE", "/of-file", None, 409, "name"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "field"), WRONG)
def test_what_is_wrong_is_told_with_the_name_of_the_field(
    inside: Inside, method: str, path: str, body: Any, status: int, field: str
) -> None:
    got, told = ask(inside, method, f"/admin/keys{path}", body)
    assert (got, told["error"].get("field", "")) == (status, field)
    assert told["error"]["message"].startswith(f"{field}: " if field else "")
    assert inside.version() == 0


def test_a_body_is_bounded_and_must_be_json(inside: Inside) -> None:
    assert ask(inside, "POST", "/admin/keys", content=b"{" * (LARGEST + 1))[0] == 413
    assert ask(inside, "POST", "/admin/keys", content=b"{")[0] == 400
    assert ask(inside, "POST", "/admin/keys", content=b"\xff")[0] == 400


def test_without_a_store_the_files_keys_are_listed_and_nothing_is_made() -> None:
    inside = Inside(None)
    assert [each["name"] for each in ask(inside, "GET", "/admin/keys")[1]["keys"]] == ["of-file"]
    status, told = ask(inside, "POST", "/admin/keys", {"name": "a"})
    assert status == 409 and "stores.ledger" in told["error"]["message"]


def test_a_store_that_is_away_is_a_503(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(self: KeyRows) -> None:
        raise Away("SQLite: canary")

    monkeypatch.setattr(KeyRows, "rows", away)
    assert ask(inside, "GET", "/admin/keys")[0] == 503


def test_others_are_told_that_there_is_nothing(inside: Inside) -> None:
    async def asked() -> list[int]:
        transport = httpx2.ASGITransport(Starlette(routes=[*KeysAdmin(inside.stored, lambda: inside, guard).routes()]))
        async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
            paths = ("GET /admin/keys", "POST /admin/keys", "DELETE /admin/keys/a", "POST /admin/keys/a/rotate")
            return [(await client.request(*each.split())).status_code for each in paths]

    assert asyncio.run(asked()) == [404] * 4
