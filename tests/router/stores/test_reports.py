"""What the ledger says, on SQLite and on a real PostgreSQL: the same statements, the same figures."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.entry import Attempt, Entry
from router.stores import reports, sql
from router.stores.reports import Reports, Sum
from tests.router.stores.postgres_server import the_server

DAY = 86_400.0
NOON = 20_000 * DAY + DAY / 2  # 2024-10-04T12:00Z


def entry(number: int, **told: object) -> Entry:
    plain = Entry(
        f"e{number:06}", NOON, f"r{number}", "alice", "alice", "org/m", "conversational", "openai", "together", "t/m",
        "together/0", "routed", "", 200, "ok", True, "", 1.5,
    )  # fmt: skip
    return Entry(**{**{name: getattr(plain, name) for name in plain.__struct_fields__}, **told})


def keep(database: sql.Database, *entries: Entry) -> None:
    names = [name for name in Entry.__struct_fields__ if name != "failed"]
    marks = ", ".join("?" * len(names))
    rows = [
        [int(value) if isinstance(value := getattr(each, name), bool) else value for name in names] for each in entries
    ]
    tried = [
        (each.id, number, one.upstream, one.deployment, one.status, one.reason, one.seconds, int(one.sent), one.cost)
        for each in entries
        for number, one in enumerate(each.failed)
    ]
    with database.transaction():
        database.many(f"INSERT INTO entries ({', '.join(names)}) VALUES ({marks})", rows)
        if tried:
            database.many("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", tried)


@pytest.fixture(scope="module")
def postgresql() -> str:
    return the_server().fresh()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sql.Database]:
    url = f"sqlite:///{tmp_path}/l.db" if request.param == "sqlite" else request.getfixturevalue("postgresql")
    found = sql.database(url)
    found.open()
    found.run("DELETE FROM entries")
    found.run("DELETE FROM attempts")
    yield found
    found.close()


def test_sums_are_whole_and_what_nobody_knows_is_not_nothing(database: sql.Database) -> None:
    keep(
        database,
        entry(1, input_tokens=10, output_tokens=5, cached_tokens=4, reasoning_tokens=2, cost=7, charge=9),
        entry(2, tenant="bob", media_seconds=1.5, characters=3, images=2, estimated=True),
        entry(3, tenant="bob", outcome="error", status=502, cost=0, charge=0),
        entry(4, tenant="carol", outcome="client_gone"),
    )
    assert Reports(database).totals(["tenant"]) == [
        Sum(("alice",), 1, 0, 10, 5, 4, 2, 0, 0, 7, 9, 0.0, 0, 0),
        Sum(("bob",), 2, 1, 0, 0, 0, 0, 2, 3, 0, 0, 1.5, 1, 1),
        Sum(("carol",), 1, 0, unpriced=1),
    ]
    (in_all,) = Reports(database).totals()
    assert (in_all.requests, in_all.cost, in_all.charge, in_all.unpriced) == (4, 7, 9, 2)
    assert type(in_all.cost) is int and type(in_all.input_tokens) is int
    assert Reports(database).totals(until=1.0) == [] == Reports(database).totals(["day"], until=1.0)


def test_days_and_hours_are_of_utc_and_begin_at_midnight(database: sql.Database) -> None:
    midnight = 20_000 * DAY
    times = [midnight - 0.001, midnight, midnight + DAY - 0.001, midnight + 0.75 * DAY, midnight + DAY]
    keep(database, *(entry(number, time=at) for number, at in enumerate(times)))
    days = [(each.group, each.requests) for each in Reports(database).totals(["day"])]
    assert days == [(("2024-10-03",), 1), (("2024-10-04",), 3), (("2024-10-05",), 1)]
    hours = Reports(database).totals(["hour", "tenant"], since=midnight, until=midnight + DAY)
    assert [each.group[0] for each in hours] == ["2024-10-04T00:00Z", "2024-10-04T18:00Z", "2024-10-04T23:00Z"]


def test_sums_are_of_a_time_and_of_whom_is_asked_about(database: sql.Database) -> None:
    keep(
        database,
        entry(1, time=NOON),
        entry(2, time=NOON + 1, tenant="o'bob; DROP TABLE entries"),
        entry(3, time=NOON + 2, upstream="groq", model="org/n"),
    )
    said = Reports(database)
    assert [each.group for each in said.totals(["provider", "model"])] == [("groq", "org/n"), ("together", "org/m")]
    assert said.totals(where={"tenant": "o'bob; DROP TABLE entries"})[0].requests == 1
    assert said.totals(since=NOON + 1, until=NOON + 2)[0].requests == 1
    assert said.totals(where={"provider": "groq", "upstream": "together"}) == []
    assert (said.count(), said.count(until=NOON + 1)) == (3, 1)
    assert len(said.totals(["tenant"], limit=1)) == 1
    with pytest.raises(ValueError, match="nothing is filtered by status"):
        said.totals(where={"status": "200"})


def test_entries_come_by_time_page_by_page_with_their_failed_tries(
    database: sql.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "PAGE", 3)
    tried = (Attempt("groq", "groq/m", 500, "server_error", 0.5, True, 12), Attempt("a", "a/m", 0, "refused", 0, False))
    kept = [entry(number, time=NOON + number // 4, failed=tried if number == 5 else ()) for number in range(10)]
    keep(database, *reversed(kept))
    assert list(Reports(database).entries()) == kept
    assert list(Reports(database).entries(after_id="e000006")) == kept[7:]
    assert list(Reports(database).entries(after_id="nobody")) == []
    assert list(Reports(database).entries(since=NOON + 1, until=NOON + 2)) == kept[4:8]
    assert list(Reports(database).entries(where={"tenant": "bob"})) == []


def test_charges_are_by_request_and_of_those_that_are_known(database: sql.Database) -> None:
    keep(
        database,
        entry(1, charge=5),
        entry(2, charge=None),
        entry(3, charge=7, tenant="bob"),
        entry(4, charge=9, time=NOON - DAY),
        entry(5, request="r1", charge=6),
    )
    said = Reports(database)
    assert said.charges(["r1", "r2", "r3", "r4", "r9", "r1"], NOON - 1) == {"r1": 11, "r3": 7}
    assert said.charges(["r1", "r3"], NOON - 1, "bob") == {"r3": 7}
    assert said.charges([], NOON) == {}
    assert [each.id for each in said.request("r1")] == ["e000001", "e000005"]
    assert said.request("r3", "alice") == []
    assert said.charges([f"r{number}" for number in range(reports.ASKED)], NOON - 1) == {"r1": 11, "r3": 7}


@pytest.mark.slow
def test_a_million_entries_are_summed_in_two_seconds(tmp_path: Path) -> None:
    database = sql.database(f"sqlite:///{tmp_path}/l.db")
    database.open()
    for start in range(0, 1_000_000, 10_000):
        keep(
            database,
            *(
                entry(
                    number,
                    time=NOON + number,
                    tenant=f"t{number % 199}",
                    model=f"org/m{number % 61}",
                    upstream=f"u{number % 11}",
                    input_tokens=number % 3000,
                    cost=number % 10_000 if number % 50 else None,
                )
                for number in range(start, start + 10_000)
            ),
        )
    took = {}
    for by in (("tenant",), ("model",), ("provider",), ("day",), ("tenant", "model"), ("day", "tenant")):
        began = time.perf_counter()
        rows = Reports(database).totals(by)
        took[by] = time.perf_counter() - began
        assert sum(each.requests for each in rows) == 1_000_000
    print({"+".join(by): round(seconds, 2) for by, seconds in took.items()})
    assert max(took.values()) <= 2.0
    database.close()
