"""One request's account, on a real ledger and a store in memory: what it may, what is written of it, what it owes."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from providers.dialects import DIALECTS
from router import routing
from router.accounts import Accounts, entry_of
from router.bounds import NANO, LimitSettings
from router.call import Call, Endpoint
from router.entry import Entry
from router.errors import Refused
from router.identity import Identity, Licence
from router.ledger import Ledger
from router.limits import Limits
from router.plans import PlanSettings
from router.record import Try
from router.routing import DeploymentSettings, Place, Plan, RouteSettings, Table
from router.secrets import Secret
from router.seeds import Seeds
from router.stores.memory import MemoryStore
from router.stores.sql import Database, Sqlite
from router.story import Story
from tests.router.ledger_records import entry
from tests.router.stories import call_of, candidate, recorded

DAY = 86_400
PRICE: dict[str, float | None] = {"input": 1.0, "output": 2.0}
EMPTY_TABLE = routing.build([], {}, {})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "router.db"


@pytest.fixture
def ledger(file: Path, tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(Sqlite(file), tmp_path / "spool", 8 << 20, 64 << 10)
    made.open()
    yield made
    asyncio.run(made.close())


@pytest.fixture
def accounts(ledger: Ledger) -> Accounts:
    return Accounts(Limits(MemoryStore()), ledger)


def alice(**settings: Any) -> Identity:
    return Licence({"plan": PlanSettings.model_validate(settings)}).of_tenant("alice", "plan")


def told_of(entry_: str, who: Identity) -> Story:
    story = Story(f"req-{entry_}", Endpoint(DIALECTS["openai"], "conversational"), 0.0, None, entry_)
    story.identity = who
    story.record.tenant = who.tenant
    return story


def chat(who: Identity, **more: Any) -> Call:
    asked = {"model": "org/m", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}], **more}
    call = call_of(asked)
    call.identity, call.stream = who, bool(more.get("stream"))
    return call


def plan_of(*candidates: Any) -> Plan:
    return Plan(routing.Route("org/m", tuple(each.deployment for each in candidates)), candidates, ())


PRICED = plan_of(candidate(told=PRICE))


def begun(accounts: Accounts, story: Story, call: Call, plan: Plan = PRICED, table: Table = EMPTY_TABLE) -> None:
    async def begin() -> None:
        assert story.identity is not None
        if story.identity.limited:
            await accounts.admit(story.identity, story)
        await accounts.reserve(call, plan, story, table)
        if accounts.intend(call, plan, story):
            await accounts.sync()

    asyncio.run(begin())


def served(story: Story, plan: Plan = PRICED, **used: Any) -> None:
    """As attempts and relays leave a record that went well."""
    record = story.record
    story.candidate = plan.attempts[0]
    record.upstream, record.billing, record.status = plan.attempts[0].deployment.upstream, "routed", 200
    for name, value in {"input_tokens": 5, "output_tokens": 7, **used}.items():
        setattr(record, name, value)
    story.read = story.wrote = True
    record.time = time.time()


def rows(ledger: Ledger, file: Path) -> list[tuple[Any, ...]]:
    for _ in range(500):
        if not ledger.waiting and file.exists():
            break
        time.sleep(0.01)
    with contextlib.closing(sqlite3.connect(file)) as opened:
        return opened.execute("SELECT id, outcome, cost, charge, estimated, input_tokens FROM entries").fetchall()


def held(accounts: Accounts, who: Identity) -> list[int]:
    return [accounts.limits.store.level(each).used for each in (*(each for each, _ in who.admission), *who.reserved)]


EVERYTHING = {"requests": "9/week", "tokens": "900/week", "concurrency": 9, "budget": "1 USD/day", "markup": "10%"}


def test_what_was_served_is_in_the_ledger_and_stays_counted(accounts: Accounts, ledger: Ledger, file: Path) -> None:
    who = alice(**EVERYTHING)
    story, call = told_of("e1", who), chat(who)
    begun(accounts, story, call)
    assert held(accounts, who)[3] > 0
    served(story)
    accounts.close(call, story)
    charge = -(-(5 * 1000 + 7 * 2000) * 11 // 10)
    assert rows(ledger, file) == [("e1", "ok", 19_000, charge, 0, 5)]
    assert held(accounts, who) == [1, 0, 12, charge]


def test_an_error_costs_nothing_and_gives_all_back_but_that_it_was_asked(
    accounts: Accounts, ledger: Ledger, file: Path
) -> None:
    who = alice(**EVERYTHING)
    story, call = told_of("e1", who), chat(who)
    begun(accounts, story, call)
    story.record.outcome, story.record.upstream, story.record.billing = "error", "groq", "routed"
    accounts.close(call, story)
    assert rows(ledger, file) == [("e1", "error", 0, 0, 0, 0)]
    assert held(accounts, who) == [1, 0, 0, 0]


def test_what_is_refused_is_in_no_ledger_and_holds_nothing(accounts: Accounts, ledger: Ledger, file: Path) -> None:
    who = alice(**{**EVERYTHING, "budget": "0.000001 USD/day"})
    story, call = told_of("e1", who), chat(who)
    with pytest.raises(Refused) as caught:
        begun(accounts, story, call)
    assert caught.value.fault.status == 402
    story.record.outcome = "error"
    accounts.close(call, story)
    ledger.settle(entry("mark"))
    assert [row[0] for row in rows(ledger, file)] == ["mark"] and held(accounts, who) == [0, 0, 0, 0]


def test_who_leaves_before_an_answer_owes_what_was_read(accounts: Accounts, ledger: Ledger, file: Path) -> None:
    who = alice(**EVERYTHING)
    story, call = told_of("e1", who), chat(who)
    begun(accounts, story, call)
    story.candidate = PRICED.attempts[0]
    story.record.upstream, story.record.billing, story.record.outcome = "groq", "routed", "client_gone"
    accounts.close(call, story)
    ((_, outcome, cost, charge, estimated, read),) = rows(ledger, file)
    assert (outcome, estimated) == ("client_gone", 1) and read > 0
    assert cost == read * 1000 and charge == -(-cost * 11 // 10)
    assert held(accounts, who) == [1, 0, read, charge]


def test_who_leaves_before_a_picture_comes_owes_what_was_asked_for(
    accounts: Accounts, ledger: Ledger, file: Path
) -> None:
    """The provider makes it all the same; else a tenant could spend our money and none of its own."""
    who, plan = alice(budget="1 USD/day"), plan_of(candidate(task="text-to-image", told={"image": 0.1}))
    story, call = told_of("e1", who), call_of({"model": "org/m", "prompt": "a cat", "n": 2}, "text-to-image")
    call.identity = who
    story.endpoint = call.endpoint
    begun(accounts, story, call, plan)
    story.candidate = plan.attempts[0]
    story.record.upstream, story.record.billing, story.record.outcome = "groq", "routed", "client_gone"
    accounts.close(call, story)
    assert [row[2:4] for row in rows(ledger, file)] == [(NANO // 5, NANO // 5)] and held(accounts, who) == [NANO // 5]


def test_who_leaves_before_anybody_was_asked_owes_nothing(accounts: Accounts, ledger: Ledger, file: Path) -> None:
    who = alice(**EVERYTHING)
    story, call = told_of("e1", who), chat(who)
    begun(accounts, story, call)
    story.record.outcome = "client_gone"
    accounts.close(call, story)
    assert [row[1:4] for row in rows(ledger, file)] == [("client_gone", 0, 0)]
    assert held(accounts, who) == [1, 0, 0, 0]


@pytest.mark.parametrize("how", ["hit", "joined"])
def test_what_was_kept_is_in_the_ledger_for_nothing(accounts: Accounts, ledger: Ledger, file: Path, how: Any) -> None:
    who = alice(**EVERYTHING)
    story, call = told_of("e1", who), chat(who)
    asyncio.run(accounts.admit(who, story))
    asyncio.run(accounts.reserve(call, PRICED, story, EMPTY_TABLE))
    story.record.cache, story.record.upstream, story.record.status = how, "groq", 200
    accounts.close(call, story)
    assert [row[:4] for row in rows(ledger, file)] == [("e1", "ok", 0, 0)]
    assert held(accounts, who) == [1, 0, 0, 0]


def test_an_unknown_price_is_null_and_no_zero(accounts: Accounts, ledger: Ledger, file: Path) -> None:
    who = alice(**EVERYTHING)
    story, call, plan = told_of("e1", who), chat(who), plan_of(candidate("openai"))
    begun(accounts, story, call, plan)
    served(story, plan)
    accounts.close(call, story)
    assert [row[2:4] for row in rows(ledger, file)] == [(None, None)]
    assert held(accounts, who) == [1, 0, 12, 0]


def test_an_own_key_costs_what_it_costs_and_is_charged_with_nothing(
    accounts: Accounts, ledger: Ledger, file: Path
) -> None:
    who = replace(alice(budget="1 USD/day"), stored_keys={"groq": Secret("sk-own-0000000000000000")})
    story, call = told_of("e1", who), chat(who)
    begun(accounts, story, call)
    served(story)
    story.record.billing = "direct"
    accounts.close(call, story)
    assert [row[2:4] for row in rows(ledger, file)] == [(19_000, 0)] and held(accounts, who) == [0]


def test_an_own_key_owes_nothing_where_nobody_knows_the_price(accounts: Accounts, ledger: Ledger, file: Path) -> None:
    who = Identity("eve", user_key=Secret("sk-own-0000000000000000"))
    story, call, plan = told_of("e1", who), chat(who), plan_of(candidate("openai"))
    begun(accounts, story, call, plan)
    served(story, plan)
    story.record.billing = "direct"
    accounts.close(call, story)
    assert [row[2:4] for row in rows(ledger, file)] == [(None, 0)]


def test_a_caller_without_limits_has_no_permit_and_is_written_down(
    accounts: Accounts, ledger: Ledger, file: Path
) -> None:
    who = Identity("bob")
    story, call = told_of("e1", who), chat(who)
    begun(accounts, story, call)
    assert story.permit is None
    served(story)
    accounts.close(call, story)
    assert [row[:4] for row in rows(ledger, file)] == [("e1", "ok", 19_000, 19_000)]


def test_without_a_ledger_limits_hold_all_the_same() -> None:
    accounts, who = Accounts(Limits(MemoryStore())), alice(budget="0.00004 USD/day")
    story, call = told_of("e1", who), chat(who)
    begun(accounts, story, call)
    with pytest.raises(Refused):
        begun(accounts, told_of("e2", who), call)
    served(story)
    accounts.close(call, story)
    assert held(accounts, who) == [19_000]


def test_an_entry_says_what_the_record_says_each_in_its_place() -> None:
    called = {"id": "entry", "request": "id", "key": "virtual_key", "provider_key": "key"}
    record = recorded(tries=[Try("u", "u/m", 200, "serve", "", 0.1)], stream=True)
    for number, field in enumerate(fields(record), 2):
        before = getattr(record, field.name)
        if not isinstance(before, list | bool):
            setattr(record, field.name, type(number if before is None else before)(number))  # another one in each
    found = entry_of(record, "idem")
    for name in Entry.__struct_fields__[:-3]:
        assert getattr(found, name) == getattr(record, called.get(name, name)), name
    assert (found.tries, found.idempotency, found.failed) == (1, "idem", ())


class Broken(Ledger):
    """One whose entries cannot be written, for a reason that nobody thought of."""

    def settle(self, entry: Any) -> None:
        raise RuntimeError("boom")


@pytest.mark.plain
def test_what_was_held_comes_back_whatever_becomes_of_the_entry(file: Path, tmp_path: Path) -> None:
    ledger = Broken(Sqlite(file), tmp_path / "other", 8 << 20, 64 << 10)
    ledger.open()
    accounts, who = Accounts(Limits(MemoryStore()), ledger), alice(**EVERYTHING)
    story, call = told_of("e1", who), chat(who)
    begun(accounts, story, call)
    served(story)
    with contextlib.suppress(RuntimeError):
        accounts.close(call, story)
    assert held(accounts, who)[1] == 0
    asyncio.run(ledger.close())


# Models


def table_of(**models: dict[str, Any]) -> Table:
    found = candidate().provider
    routes = {
        name: RouteSettings(deployments=[DeploymentSettings(upstream="groq", provider_id=name)], **more)
        for name, more in models.items()
    }
    return routing.build([Place("groq", found, False)], routes, {})


def test_a_model_s_limits_hold_for_callers_without_any(accounts: Accounts) -> None:
    limits = LimitSettings.model_validate({"requests": "1/minute"})
    table = table_of(big={"limits": limits})
    found = table.find("big", "conversational", "openai")
    assert found is not None
    first, second = told_of("e1", Identity("bob")), told_of("e2", Identity("eve"))
    begun(accounts, first, chat(Identity("bob")), found.plan, table)
    with pytest.raises(Refused) as caught:
        begun(accounts, second, chat(Identity("eve")), found.plan, table)
    assert "the model 'big'" in caught.value.fault.message


def test_a_plan_s_limits_for_some_models_count_those_alone_and_together(accounts: Accounts) -> None:
    who = alice(per_model={"big-*": {"requests": "2/minute"}})
    table = table_of(**{"big-a": {}, "BIG-b": {}, "small": {}})

    def ask(model: str, number: int) -> None:
        found = table.find(model, "conversational", "openai")
        assert found is not None
        begun(accounts, told_of(f"{model}{number}", who), chat(who), found.plan, table)

    for number in range(5):
        ask("small", number)
    ask("big-a", 0)
    ask("groq/BIG-b", 0)
    with pytest.raises(Refused):
        ask("big-a", 1)


# The ledger is full


@contextlib.contextmanager
def filled(tmp_path: Path) -> Iterator[tuple[Ledger, Path]]:
    """A ledger whose spool has no room for another intent, for its store is away."""
    place = tmp_path / "away"
    place.touch()  # no directory: nothing can be opened below it
    ledger = Ledger(Sqlite(place / "router.db"), tmp_path / "small", 64 << 10, 16 << 10)
    ledger.open()
    accounts = Accounts(Limits(MemoryStore()), ledger)
    who = Identity("filler")
    with contextlib.suppress(Refused):
        for number in range(1 << 16):
            begun(accounts, told_of(f"fill-{number}", who), chat(who))
    assert ledger.full
    try:
        yield ledger, place
    finally:
        if place.is_file():
            place.unlink()
        asyncio.run(ledger.close())


def test_what_cannot_be_written_down_is_not_sent_where_we_pay_for_it(tmp_path: Path) -> None:
    with filled(tmp_path) as (ledger, _):
        accounts, who = Accounts(Limits(MemoryStore()), ledger), alice(**EVERYTHING)
        story, call = told_of("e", who), chat(who)
        with pytest.raises(Refused) as caught:
            begun(accounts, story, call)
        assert (caught.value.fault.status, caught.value.fault.code) == (503, "ledger_full")
        story.record.outcome = "error"
        accounts.close(call, story)
        assert not story.intended and held(accounts, who)[1:] == [0, 0, 0]


def test_who_pays_the_provider_himself_goes_on_and_is_written_down_later(tmp_path: Path) -> None:
    with filled(tmp_path) as (ledger, place):
        accounts, who = Accounts(Limits(MemoryStore()), ledger), Identity("eve", user_key=Secret("sk-e-00000000000000"))
        story, call = told_of("e", who), chat(who)
        begun(accounts, story, call)
        served(story)
        story.record.billing = "direct"
        accounts.close(call, story)
        place.unlink()
        for _ in range(500):
            if not ledger.waiting:
                break
            time.sleep(0.01)
        assert ("e", "ok", 19_000, 0, 0, 5) in rows(ledger, place / "router.db")


def test_a_key_of_one_s_own_for_another_place_is_none_for_this_one(tmp_path: Path) -> None:
    with filled(tmp_path) as (ledger, _):
        accounts = Accounts(Limits(MemoryStore()), ledger)
        who = Identity("eve", stored_keys={"together": Secret("sk-own-0000000000000000")})
        with pytest.raises(Refused):
            begun(accounts, told_of("e", who), chat(who))


def test_what_nobody_pays_for_goes_on_though_it_cannot_be_written_down(tmp_path: Path) -> None:
    with filled(tmp_path) as (ledger, _):
        accounts, who = Accounts(Limits(MemoryStore()), ledger), Identity("eve")
        begun(accounts, told_of("e", who), chat(who), plan_of(candidate("tgi", local=True)))


# Budgets outlive who counts them


def spent_before(file: Path, ledger: Ledger, charge: int, **other: Any) -> None:
    ledger.settle(entry("before", tenant="alice", charge=charge, **other))
    rows(ledger, file)


def seeded(ledger: Ledger, file: Path, database: Database | None = None) -> Accounts:
    store = MemoryStore()
    return Accounts(Limits(store), ledger, Seeds(store, lambda: database or Sqlite(file), lambda: ledger.adopted))


def test_a_budget_goes_on_where_the_ledger_says_and_the_first_request_waits_for_that(
    ledger: Ledger, file: Path
) -> None:
    who = alice(budget="1 USD/day")
    spent_before(file, ledger, NANO)
    accounts = seeded(ledger, file)
    with pytest.raises(Refused) as caught:
        begun(accounts, told_of("e", who), chat(who))
    assert caught.value.fault.code == "budget_exceeded"


def test_many_first_requests_at_once_all_wait(ledger: Ledger, file: Path) -> None:
    who = alice(budget="1 USD/day")
    spent_before(file, ledger, NANO)
    accounts = seeded(ledger, file)

    async def ask() -> list[Any]:
        stories = [told_of(f"e{number}", who) for number in range(50)]
        await asyncio.gather(*(accounts.admit(who, each) for each in stories))
        asked = (accounts.reserve(chat(who), PRICED, each, EMPTY_TABLE) for each in stories)
        return await asyncio.gather(*asked, return_exceptions=True)

    assert all(isinstance(each, Refused) for each in asyncio.run(ask()))


def test_a_model_s_budget_goes_on_too_under_whichever_name_it_is_asked_for(ledger: Ledger, file: Path) -> None:
    spent_before(file, ledger, NANO, model="big")
    table = table_of(big={"limits": LimitSettings.model_validate({"budget": "1 USD/day"})})
    for name in ("big", "groq/big", "BIG:groq"):
        accounts, who = seeded(ledger, file), Identity("bob")
        found = table.find(name, "conversational", "openai")
        assert found is not None
        candidates = tuple(
            replace(each, deployment=replace(each.deployment, price=PRICE)) for each in found.plan.attempts
        )
        with pytest.raises(Refused) as caught:
            begun(accounts, told_of(name, who), chat(who), replace(found.plan, attempts=candidates), table)
        assert caught.value.fault.code == "budget_exceeded"


def test_a_wildcard_s_budget_is_found_again_under_the_name_that_its_entries_have() -> None:
    table = table_of(**{"wild/*": {"limits": LimitSettings.model_validate({"budget": "1 USD/day"})}})
    for name in ("wild/a", "groq/wild/a", "wild/a:groq"):
        found = table.find(name, "conversational", "openai")
        assert found is not None
        assert [each.of for each in found.plan.route.bounds] == [found.label]


class Slow(Sqlite):
    """A database that answers only after a while."""

    def rows(self, sql: str, values: Any = ()) -> Any:
        time.sleep(0.3)
        return super().rows(sql, values)


def test_what_one_period_had_spent_is_nothing_of_the_next(
    ledger: Ledger, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked just before midnight, answered just after."""
    who = alice(budget="1 USD/day")
    midnight = (int(time.time()) // DAY + 1) * DAY
    spent_before(file, ledger, NANO, time=midnight - 10.0)
    now = midnight - 0.1
    began = time.monotonic()

    def clock() -> float:
        return now + time.monotonic() - began

    monkeypatch.setattr("router.seeds.time.time", clock)
    store = MemoryStore(wall=clock)
    accounts = Accounts(Limits(store), ledger, Seeds(store, lambda: Slow(file), lambda: True))

    begun(accounts, told_of("e", who), chat(who), plan_of(candidate(told={"input": 0.0, "output": 0.0})))
    assert clock() > midnight
    assert store.level(who.reserved[0]).used == 0
