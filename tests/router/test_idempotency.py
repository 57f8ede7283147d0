"""A request that is sent again with its key is neither made nor paid for again, whatever became of the first."""

import asyncio
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from providers.dialects import DIALECTS
from providers.spec import Fault
from router import envelope
from router.cache import Kept
from router.call import Call, Endpoint
from router.caller import AsgiCaller, Caller
from router.claims import BESIDE, Claims, IdempotencySettings, Memory, Noted, Unavailable
from router.errors import Refused
from router.idempotency import Idempotency
from router.keys import Identity
from router.record import Try
from router.secrets import Secret
from router.stores.claims import HostClaims
from router.story import Story
from router.uploads import Upload

CHAT = Endpoint(DIALECTS["openai"], "conversational")
IMAGE = Endpoint(DIALECTS["huggingface"], "text-to-image")
JSON = (
    b"content-type: application/json\r\nopenai-version: 1\r\ninference-id: theirs\r\nx-ratelimit-limit-requests: 3\r\n"
)
TOLD = b"x-request-id: first\r\nserver-timing: router;dur=1\r\nx-router-upstream: together\r\nx-router-attempts: 1\r\n"
MIB = 2**20
ALICE = Identity("alice")


@dataclass
class Asked:
    """One request with a key, and what came of it."""

    key: bytes | None = b"k-1"
    body: dict[str, Any] = field(default_factory=lambda: {"messages": "a"})
    endpoint: Endpoint = CHAT
    identity: Identity = ALICE
    paid: bool = False
    model: str = "org/m"
    patience: float = 60.0
    headers: tuple[tuple[bytes, bytes], ...] = ()
    upload: Upload | None = None
    sent: list[Any] = field(default_factory=list)
    refused: Fault | None = None

    def __post_init__(self) -> None:
        self.story = Story("mine", self.endpoint, 0.0)
        raw = json.dumps(self.body).encode()
        fields, deadline = envelope.read(raw), time.monotonic() + self.patience
        self.call = Call("mine", self.endpoint, self.model, False, fields, raw, self.identity, deadline, self.upload)
        self.call.replay = not self.paid

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    async def of(self, to: Idempotency, answer: "Engine") -> "Asked":
        own = [] if self.key is None else [(b"idempotency-key", self.key)]
        scope = {"type": "http", "headers": [*own, *self.headers]}
        caller = AsgiCaller(scope, asyncio.Event().wait, self._send)
        try:
            key = to.key(caller, self.call)
            if key is None:
                await answer(self, caller)
            else:
                await to.serve(key, caller, self.call, self.story, lambda given: answer(self, given))
        except Refused as refused:
            self.refused = refused.fault
        return self

    @property
    def told(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def content(self) -> bytes:
        return b"".join(each["body"] for each in self.sent[1:])

    @property
    def code(self) -> tuple[int, str]:
        assert self.refused is not None
        return self.refused.status, self.refused.code


@dataclass
class Engine:
    """What the pipeline would do: it answers, and counts how often it was asked to."""

    pieces: tuple[bytes, ...] = (b'{"choices":[]}',)
    stream: bool = False
    status: int = 200
    outcome: str = "ok"
    fault: Fault | None = None
    tries: tuple[Try, ...] = ()
    hold: asyncio.Event | None = None
    times: int = 0

    async def __call__(self, asked: Asked, caller: Caller) -> None:
        self.times += 1
        record = asked.story.record
        if self.hold is not None:
            await self.hold.wait()
        record.tries.extend(self.tries)
        if self.fault is not None:
            raise Refused(self.fault)
        record.upstream, record.provider_id, record.status = "together", "t/m", self.status
        if not self.stream:
            await caller.answer(self.status, JSON + TOLD, b"".join(self.pieces))
        else:
            caller.begin(self.status, b"content-type: text/event-stream\r\n" + TOLD)
            for piece in self.pieces:
                if not caller.write(piece):
                    await caller.drained()
            record.outcome = self.outcome  # type: ignore[assignment]
            await caller.finish(b"")


Make = Callable[[], Claims]


@pytest.fixture(params=["memory", "host"])
def claims(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    def make() -> Claims:
        if request.param == "memory":
            return Memory(64 * MIB, 86_400.0)
        return HostClaims(tmp_path / "claims.db", 0, 64 * MIB, 86_400.0)

    return make


def run(make: Make, story: Callable[[Idempotency], Coroutine[Any, Any, None]], **settings: Any) -> None:
    async def whole() -> None:
        made = make()
        await made.open()
        try:
            await story(Idempotency(IdempotencySettings(**settings), made))
        finally:
            await made.close()

    asyncio.run(whole())


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not done():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


def test_the_same_again_gets_the_same_answer_and_costs_nothing(claims: Make) -> None:
    async def story(to: Idempotency) -> None:
        engine = Engine()
        first = await Asked().of(to, engine)
        again = await Asked().of(to, engine)
        assert engine.times == 1 and first.content == again.content == b'{"choices":[]}'
        assert b"idempotent-replayed" not in first.told and again.told[b"idempotent-replayed"] == b"true"
        assert again.told[b"content-type"] == b"application/json" and again.told[b"openai-version"] == b"1"
        assert again.told[b"x-request-id"] == b"mine" and again.told[b"x-router-attempts"] == b"0"
        assert not {b"inference-id", b"x-ratelimit-limit-requests"} & set(again.told)
        record = again.story.record
        assert (record.cache, record.billing, record.cost, record.charge) == ("hit", "none", 0, 0)
        assert (record.status, record.upstream, record.provider_id) == (200, "together", "t/m")

    run(claims, story)


def test_a_stream_is_replayed_whole_as_a_stream(claims: Make) -> None:
    async def story(to: Idempotency) -> None:
        engine = Engine(stream=True, pieces=(b"data: 1\n\n", b"data: 2\n\n", b"data: [DONE]\n\n"))
        first, again = await Asked().of(to, engine), await Asked().of(to, engine)
        assert engine.times == 1 and first.content == again.content == b"data: 1\n\ndata: 2\n\ndata: [DONE]\n\n"
        assert again.told[b"content-type"] == b"text/event-stream"

    run(claims, story)


def test_many_at_once_are_one_and_the_same_answer(claims: Make) -> None:
    async def story(to: Idempotency) -> None:
        engine = Engine(hold=asyncio.Event())
        assert engine.hold is not None
        tasks = [asyncio.create_task(Asked().of(to, engine)) for _ in range(20)]
        await until(lambda: engine.times == 1)
        engine.hold.set()
        done = await asyncio.gather(*tasks)
        assert engine.times == 1 and {each.content for each in done} == {b'{"choices":[]}'}
        assert sum(each.story.record.cache == "hit" for each in done) == 19
        assert all(each.story.waited > 0 for each in done if each.story.record.cache)

    run(claims, story)


@pytest.mark.parametrize(
    "other",
    [
        {"body": {"messages": "b"}},
        {"model": "org/n"},
        {"endpoint": Endpoint(DIALECTS["openai"], "feature-extraction")},
        {"headers": ((b"x-hf-bill-to", b"acme"),)},
    ],
)
def test_the_same_key_with_another_request_is_refused(claims: Make, other: dict[str, Any]) -> None:
    async def story(to: Idempotency) -> None:
        engine = Engine()
        await Asked().of(to, engine)
        assert (await Asked(**other).of(to, engine)).code == (422, "idempotency_key_reused")
        assert engine.times == 1

    run(claims, story)


def test_another_request_is_refused_while_the_first_runs(claims: Make) -> None:
    async def story(to: Idempotency) -> None:
        engine = Engine(hold=asyncio.Event())
        first = asyncio.create_task(Asked().of(to, engine))
        await until(lambda: engine.times == 1)
        assert (await Asked(body={"messages": "b"}).of(to, engine)).code == (422, "idempotency_key_reused")
        engine.hold.set()  # type: ignore[union-attr]
        await first

    run(claims, story)


def test_keys_are_each_tenants_and_each_provider_keys_own(claims: Make) -> None:
    async def story(to: Idempotency) -> None:
        engine = Engine()
        for identity in (
            Identity("alice"),
            Identity("bob"),
            Identity("anonymous", user_key=Secret("r8_1")),
            Identity("anonymous", user_key=Secret("r8_2")),
        ):
            assert (await Asked(identity=identity).of(to, engine)).story.record.cache == ""
        await Asked(key=None).of(to, engine)
        await Asked(key=None).of(to, engine)
        assert engine.times == 6

    run(claims, story)


@pytest.mark.parametrize("paid", [False, True])
@pytest.mark.parametrize(
    "tries",
    [(), (Try("t", "t/m", 0, "stop", "refused", 0.1),), (Try("t", "t/m", 500, "stop", "", 0.1),)],
)
def test_what_failed_may_be_tried_again(claims: Make, tries: tuple[Try, ...], paid: bool) -> None:
    async def story(to: Idempotency) -> None:
        failing = Engine(fault=Fault(502, "upstream_connect_failed", "No."), tries=tries)
        assert (await Asked(paid=paid).of(to, failing)).code == (502, "upstream_connect_failed")
        engine = Engine()
        assert (await Asked(paid=paid).of(to, engine)).content == b'{"choices":[]}' and engine.times == 1

    run(claims, story)


@pytest.mark.parametrize(
    "tried", [Try("t", "t/m", 0, "stop", "timeout", 9.0), Try("t", "t/m", 504, "stop", "", 9.0)], ids=["silent", "504"]
)
def test_paid_media_that_may_have_been_made_is_not_made_again(claims: Make, tried: Try) -> None:
    async def story(to: Idempotency) -> None:
        failing = Engine(fault=Fault(504, "upstream_timeout", "No."), tries=(tried,))
        await Asked(paid=True, endpoint=IMAGE).of(to, failing)
        assert (await Asked(paid=True, endpoint=IMAGE).of(to, failing)).code == (409, "idempotency_unknown")
        assert failing.times == 1
        await Asked(key=b"text").of(to, failing)
        await Asked(key=b"text").of(to, failing)
        assert failing.times == 3

    run(claims, story)


@pytest.mark.parametrize("paid", [False, True])
def test_who_leaves_lets_the_next_try_but_not_what_is_paid_by_the_piece(claims: Make, paid: bool) -> None:
    async def story(to: Idempotency) -> None:
        engine = Engine(hold=asyncio.Event())
        leaving = asyncio.create_task(Asked(paid=paid).of(to, engine))
        await until(lambda: engine.times == 1)
        waiting = asyncio.create_task(Asked(paid=paid).of(to, engine))
        await asyncio.sleep(0.01)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        engine.hold.set()  # type: ignore[union-attr]
        done = await waiting
        if paid:
            assert done.code == (409, "idempotency_unknown") and engine.times == 1
        else:
            assert done.content == b'{"choices":[]}' and engine.times == 2

    run(claims, story)


@pytest.mark.parametrize("paid", [False, True])
def test_an_answer_that_broke_off_is_no_answer(claims: Make, paid: bool) -> None:
    async def story(to: Idempotency) -> None:
        broken = Engine(stream=True, outcome="broken")
        await Asked(paid=paid).of(to, broken)
        again = await Asked(paid=paid).of(to, broken)
        assert broken.times == (1 if paid else 2)
        assert (again.refused is not None) == paid

    run(claims, story)


@pytest.mark.parametrize(
    "engine",
    [Engine(pieces=(bytes(3 * MIB),)), Engine(stream=True, pieces=(bytes(2 * MIB),) * 2), Engine(status=206)],
    ids=["whole", "stream", "part"],
)
def test_an_answer_too_large_to_keep_is_not_paid_for_again(claims: Make, engine: Engine) -> None:
    async def story(to: Idempotency) -> None:
        first = await Asked().of(to, engine)
        assert first.content == b"".join(engine.pieces)
        assert (await Asked().of(to, engine)).code == (409, "idempotency_not_kept")
        assert engine.times == 1

    engine.times = 0
    run(claims, story, max_bytes="8MiB")


def test_who_waits_longer_than_it_may_is_told_so(claims: Make) -> None:
    async def story(to: Idempotency) -> None:
        engine = Engine(hold=asyncio.Event())
        first = asyncio.create_task(Asked().of(to, engine))
        await until(lambda: engine.times == 1)
        late = await Asked(patience=0.05).of(to, engine)
        assert late.code == (409, "idempotency_in_progress") and late.refused is not None
        assert late.refused.retry_after == 1.0
        engine.hold.set()  # type: ignore[union-attr]
        await first
        assert engine.times == 1

    run(claims, story)


@pytest.mark.parametrize("key", [b"", b"a" * 256, b"a\tb", b"\xc3\xa4", b"\x7f"])
def test_a_key_that_nobody_can_read_is_refused_by_name(key: bytes) -> None:
    async def story(to: Idempotency) -> None:
        asked = await Asked(key=key).of(to, Engine())
        assert asked.refused is not None and asked.refused.param == "Idempotency-Key" and asked.refused.status == 400
        twice = await Asked(headers=((b"idempotency-key", b"k-1"),)).of(to, Engine())
        assert twice.code == (400, "duplicate_header")
        assert (await Asked(key=b"a" * 255).of(to, Engine())).refused is None

    run(lambda: Memory(MIB, 60.0), story)


def test_an_upload_is_known_by_its_model_and_its_length() -> None:
    async def story(to: Idempotency) -> None:
        engine = Engine()

        async def sent(length: int | None) -> Asked:
            upload = Upload(asyncio.Event().wait, b"b", length, 100)  # type: ignore[arg-type]
            asked = await Asked(upload=upload).of(to, engine)
            upload.close()
            return asked

        await sent(10)
        assert (await sent(10)).told[b"idempotent-replayed"] == b"true"
        assert (await sent(11)).code == (422, "idempotency_key_reused")
        unknown = (await sent(None)).refused
        assert unknown is not None and (unknown.status, unknown.param) == (400, "Idempotency-Key")
        assert engine.times == 1

    run(lambda: Memory(MIB, 60.0), story)


def test_switched_off_the_header_says_nothing() -> None:
    async def story(to: Idempotency) -> None:
        engine = Engine()
        await Asked().of(to, engine)
        await Asked().of(to, engine)
        assert engine.times == 2

    run(lambda: Memory(0, 60.0), story, max_bytes=0)


def test_where_claims_are_away_it_is_refused_rather_than_made_twice(tmp_path: Path) -> None:
    async def story(to: Idempotency) -> None:
        engine = Engine()
        assert (await Asked().of(to, engine)).code == (503, "idempotency_unavailable")
        assert (await Asked(key=None).of(to, engine)).refused is None and engine.times == 1

    run(lambda: HostClaims(tmp_path / "none" / "claims.db", 0, MIB, 60.0), story)


# What is kept, and for how long


def noted(size: int = 0, paid: bool = False) -> Noted:
    return Noted(b"asked", paid, "kept", Kept(200, b"", bytes(size), False, "t", "t/m", 0.1))


RUNNING = Noted(b"asked", False)


def limited(kind: str, tmp_path: Path, clock: Callable[[], float], most: int = 10 * BESIDE) -> Claims:
    return Memory(most, 60.0, clock) if kind == "memory" else HostClaims(tmp_path / "c.db", 0, most, 60.0, clock)


@pytest.mark.parametrize("kind", ["memory", "host"])
def test_a_key_is_forgotten_when_its_time_is_up(kind: str, tmp_path: Path) -> None:
    async def story() -> None:
        now = [1000.0]
        kept = limited(kind, tmp_path, lambda: now[0])
        assert await kept.claim(b"a", RUNNING) is None
        await kept.end(b"a", noted(5))
        now[0] += 59
        assert await kept.claim(b"a", RUNNING) == noted(5)
        now[0] += 1
        assert await kept.claim(b"a", RUNNING) is None
        assert await kept.claim(b"a", RUNNING) == RUNNING
        await kept.release(b"a")
        assert await kept.claim(b"a", RUNNING) is None
        await kept.close()

    asyncio.run(story())


@pytest.mark.parametrize("kind", ["memory", "host"])
def test_room_is_made_of_the_oldest_answers_and_then_of_the_oldest_keys(kind: str, tmp_path: Path) -> None:
    async def story() -> None:
        now = [1000.0]
        kept = limited(kind, tmp_path, lambda: now[0])

        async def state(name: str) -> str:
            found = await kept.claim(name.encode(), RUNNING)
            if found is None:
                await kept.release(name.encode())
            return found.state if found is not None else "none"

        for number in range(4):
            now[0] += 1
            await kept.claim(b"%d" % number, RUNNING)
            await kept.end(b"%d" % number, noted(3 * BESIDE))
        assert [await state(str(number)) for number in range(4)] == ["not_kept", "not_kept", "kept", "kept"]
        await kept.claim(b"runs", RUNNING)
        for number in range(4, 20):
            now[0] += 1
            await kept.claim(b"%d" % number, RUNNING)
            await kept.end(b"%d" % number, Noted(b"asked", False, "not_kept"))
        assert [await state(str(number)) for number in (0, 9, 10, 19)] == ["none", "none", "not_kept", "not_kept"]
        assert await state("runs") == "running"
        await kept.close()

    asyncio.run(story())


# Several workers


def work(path: Path, claimed: Any, paid: bool) -> None:
    async def story() -> None:
        kept = HostClaims(path, 1, MIB, 60.0)
        await kept.claim(b"k", Noted(b"asked", paid))
        claimed.set()
        await asyncio.sleep(60)

    asyncio.run(story())


@pytest.mark.parametrize("paid", [False, True])
def test_what_a_killed_worker_was_at_ends_when_another_takes_its_place(tmp_path: Path, paid: bool) -> None:
    path = tmp_path / "claims.db"
    spawn = multiprocessing.get_context("fork")
    claimed = spawn.Event()
    worker = spawn.Process(target=work, args=(path, claimed, paid))
    worker.start()
    assert claimed.wait(10) and worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()

    async def story() -> None:
        other = HostClaims(path, 0, MIB, 60.0)
        assert await other.claim(b"k", RUNNING) == Noted(b"asked", paid)
        after = HostClaims(path, 1, MIB, 60.0)
        await after.open()
        found = await other.claim(b"k", RUNNING)
        assert found == (Noted(b"asked", True, "unknown") if paid else None)
        await other.changed(b"k", 0.05)
        await other.close()
        await after.close()

    asyncio.run(story())
    assert path.stat().st_mode & 0o777 == 0o600


def test_one_worker_joins_what_runs_in_another(tmp_path: Path) -> None:
    async def story() -> None:
        mine, theirs = (HostClaims(tmp_path / "claims.db", worker, 64 * MIB, 60.0) for worker in range(2))
        engine = Engine(hold=asyncio.Event())
        first = asyncio.create_task(Asked().of(Idempotency(IdempotencySettings(), mine), engine))
        await until(lambda: engine.times == 1)
        second = asyncio.create_task(Asked().of(Idempotency(IdempotencySettings(), theirs), engine))
        await asyncio.sleep(0.03)
        engine.hold.set()  # type: ignore[union-attr]
        assert (await first).content == (await second).content
        assert engine.times == 1
        await mine.close()
        await theirs.close()

    asyncio.run(story())


def test_a_claim_whose_caller_left_while_it_was_made_is_nobodys(tmp_path: Path) -> None:
    async def story() -> None:
        kept = HostClaims(tmp_path / "claims.db", 0, MIB, 60.0)
        for _ in range(20):
            claiming = asyncio.create_task(kept.claim(b"k", RUNNING))
            await asyncio.sleep(0)
            claiming.cancel()
            await asyncio.gather(claiming, return_exceptions=True)
        assert await kept.claim(b"k", RUNNING) is None
        await kept.close()
        with pytest.raises(Unavailable):
            await kept.claim(b"k", RUNNING)

    asyncio.run(story())
