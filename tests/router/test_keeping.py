"""What passes to a caller is kept when it has ended well, and answers the next one who asks the same."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from providers.dialects import DIALECTS
from providers.spec import Fault
from router import envelope
from router.cache import Cache, CacheSettings
from router.call import Call, Endpoint
from router.caller import AsgiCaller, Caller
from router.errors import Refused
from router.keeping import Keeper, Keeping
from router.keys import Identity
from router.routing import Deployment, Route, Row
from router.story import Story

ROUTE = Route("org/m", (Deployment("together", "t/m", Row("t/m")),))
ENDPOINT = Endpoint(DIALECTS["huggingface"], "text-generation")
JSON = b"content-type: application/json\r\ninference-id: theirs\r\n"
TOLD = b"x-request-id: first\r\nserver-timing: router;dur=1\r\nx-router-upstream: together\r\nx-router-attempts: 1\r\n"
EVENTS = b"content-type: text/event-stream; charset=utf-8\r\n"


@dataclass
class Asked:
    """One request over ASGI's own words, and what came of it."""

    body: dict[str, Any] = field(default_factory=lambda: {"inputs": "a"})
    endpoint: Endpoint = ENDPOINT
    stream: bool = False
    route: Route = ROUTE
    sent: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.story = Story("mine", self.endpoint, 0.0)
        raw = json.dumps(self.body).encode()
        self.call = Call(
            "mine", self.endpoint, "org/m", self.stream, envelope.read(raw), raw, Identity("alice"), deadline=1e12
        )

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    async def of(self, keeper: Keeper, answer: Callable[["Asked", Caller], Awaitable[None]]) -> "Asked":
        caller = AsgiCaller({"type": "http", "headers": []}, asyncio.Event().wait, self._send)
        key = keeper.key(self.call, self.route)
        assert key is not None
        await keeper.serve(key, caller, self.call, self.story, lambda to: answer(self, to))
        return self

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def content(self) -> bytes:
        return b"".join(each["body"] for each in self.sent[1:])


@dataclass
class Engine:
    """What the pipeline would do: it answers, and counts how often it was asked to."""

    status: int = 200
    pieces: tuple[bytes, ...] = (b'[{"generated_text":"a b"}]',)
    stream: bool = False
    length: int | None = None
    outcome: str = "ok"
    fault: Fault | None = None
    hold: asyncio.Event | None = None
    times: int = 0

    async def __call__(self, asked: Asked, caller: Caller) -> None:
        self.times += 1
        record = asked.story.record
        if self.hold is not None:
            await self.hold.wait()
        if self.fault is not None:
            raise Refused(self.fault)
        record.upstream, record.provider_id, record.status = "together", "t/m", self.status
        if not self.stream:
            await caller.answer(self.status, JSON + TOLD, b"".join(self.pieces))
        else:
            caller.begin(self.status, EVENTS + TOLD, self.length)
            for piece in self.pieces:
                if not caller.write(piece):
                    await caller.drained()
            record.outcome = self.outcome  # type: ignore[assignment]
            await caller.finish(b"")


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


def keeper(**settings: Any) -> Keeper:
    return Keeper(CacheSettings(**settings))


def test_the_same_again_is_answered_from_what_is_kept() -> None:
    async def story() -> None:
        kept, engine = keeper(), Engine()
        first = await Asked().of(kept, engine)
        again = await Asked().of(kept, engine)
        assert engine.times == 1
        assert first.content == again.content == b'[{"generated_text":"a b"}]'
        assert b"x-compute-type" not in first.headers
        assert again.headers[b"x-compute-type"] == b"cache" and float(again.headers[b"x-compute-time"]) >= 0
        assert again.headers[b"content-type"] == b"application/json"
        assert again.headers[b"x-request-id"] == b"mine" and b"inference-id" not in again.headers
        assert (again.headers[b"x-router-upstream"], again.headers[b"x-router-attempts"]) == (b"together", b"0")
        assert (first.story.record.cache, again.story.record.cache) == ("miss", "hit")
        assert (again.story.record.status, again.story.record.output_tokens) == (200, 0)
        assert (await Asked({"inputs": "b"}).of(kept, engine)).story.record.cache == "miss"

    run(story)


def test_a_stream_is_replayed_whole_and_with_its_length() -> None:
    async def story() -> None:
        kept, engine = keeper(), Engine(stream=True, pieces=(b"data: 1\n\n", b"data: 2\n\n", b"data: [DONE]\n\n"))
        first = await Asked(stream=True).of(kept, engine)
        again = await Asked(stream=True).of(kept, engine)
        assert first.content == again.content == b"data: 1\n\ndata: 2\n\ndata: [DONE]\n\n"
        assert b"content-length" not in first.headers
        assert again.headers[b"content-length"] == b"%d" % len(again.content)
        assert again.headers[b"content-type"].startswith(b"text/event-stream")
        assert engine.times == 1

    run(story)


@pytest.mark.parametrize(
    "engine",
    [
        Engine(stream=True, outcome="broken"),
        Engine(stream=True, status=206),
        Engine(status=201),
        Engine(pieces=(b'{"choices":[{"message":{"tool_calls":[{"id":"c"}]}}]}',)),
        Engine(pieces=(bytes(1001),)),
        Engine(stream=True, pieces=(bytes(600), bytes(401))),
        Engine(stream=True, pieces=(bytes(1001),), length=1001),
    ],
)
def test_what_did_not_end_well_or_is_too_large_passes_whole_and_is_not_kept(engine: Engine) -> None:
    async def story() -> None:
        kept = keeper(max_bytes=8000)
        for _ in range(2):
            asked = await Asked(stream=engine.stream).of(kept, engine)
            assert asked.content == b"".join(engine.pieces)
            assert asked.story.record.cache == "miss"
        assert engine.times == 2

    run(story)


def test_a_refusal_is_the_callers_and_is_not_kept() -> None:
    async def story() -> None:
        kept, engine = keeper(), Engine(fault=Fault(503, "busy", "Busy."))
        for _ in range(2):
            with pytest.raises(Refused):
                await Asked().of(kept, engine)
        engine.fault = None
        assert (await Asked().of(kept, engine)).story.record.cache == "miss"
        assert engine.times == 3

    run(story)


def test_thirty_who_ask_the_same_at_once_are_one_request() -> None:
    async def story() -> None:
        kept, engine = keeper(), Engine(hold=asyncio.Event())
        tasks = [asyncio.create_task(Asked().of(kept, engine)) for _ in range(30)]
        await asyncio.sleep(0)
        assert engine.hold is not None
        engine.hold.set()
        answers = await asyncio.gather(*tasks)
        assert engine.times == 1
        assert sorted(each.story.record.cache for each in answers) == ["joined"] * 29 + ["miss"]
        assert {each.content for each in answers} == {answers[0].content}

    run(story)


def test_a_leader_who_leaves_hands_over_and_nobody_is_cancelled() -> None:
    async def story() -> None:
        kept, engine = keeper(), Engine(hold=asyncio.Event())
        tasks = [asyncio.create_task(Asked().of(kept, engine)) for _ in range(5)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        assert engine.hold is not None
        engine.hold.set()
        answers = await asyncio.gather(*tasks[1:])
        assert engine.times == 2 and tasks[0].cancelled()
        assert [each.story.record.cache for each in answers] == ["miss", "joined", "joined", "joined"]

    run(story)


def test_a_leader_whose_answer_grows_too_large_lets_the_others_go_before_its_end() -> None:
    async def story() -> None:
        kept, end = keeper(max_bytes=8000), asyncio.Event()
        times = 0

        async def slow(asked: Asked, caller: Caller) -> None:
            nonlocal times
            times += 1
            caller.begin(200, EVENTS)
            caller.write(bytes(2000))
            await end.wait()
            await caller.finish(b"")

        tasks = [asyncio.create_task(Asked().of(kept, slow)) for _ in range(3)]
        for _ in range(4):
            await asyncio.sleep(0)
        assert times == 3
        end.set()
        await asyncio.gather(*tasks)

    run(story)


def test_what_is_on_its_way_takes_no_more_memory_than_there_is() -> None:
    async def story() -> None:
        kept, end = keeper(max_bytes=8000), asyncio.Event()

        async def slow(asked: Asked, caller: Caller) -> None:
            caller.begin(200, EVENTS)
            caller.write(bytes(1000))
            await end.wait()
            await caller.finish(b"")

        asked = [Asked({"inputs": str(number)}) for number in range(6)]
        tasks = [asyncio.create_task(each.of(kept, slow)) for each in asked]
        await asyncio.sleep(0)
        end.set()
        await asyncio.gather(*tasks)
        again = [await each.of(kept, Engine()) for each in (Asked({"inputs": str(number)}) for number in range(6))]
        assert sorted(each.story.record.cache for each in again) == ["hit"] * 4 + ["miss"] * 2

    run(story)


def test_what_a_caller_is_asked_goes_through_to_it() -> None:
    async def story() -> None:
        asked = Asked()

        async def receive() -> Any:
            return {"type": "http.request", "body": b"abc"}

        caller = AsgiCaller({"type": "http", "headers": [(b"a", b"b")]}, receive, asked._send)
        kept = Keeping(caller, Cache(1000, 60.0))
        assert kept.fields == {b"a": b"b"} and not kept.whole()
        kept.on_gone = story_is_over
        assert caller.on_gone is kept.on_gone is story_is_over
        assert await kept.body(10) == b"abc" and kept.whole()
        caller.close()

    run(story)


def story_is_over() -> None:
    pass


@pytest.mark.parametrize("settings", [{"max_bytes": 0}, {"ttl": 0}, {"tasks": ["summarization"]}])
def test_a_cache_that_is_off_keeps_nothing(settings: dict[str, Any]) -> None:
    assert keeper(**settings).key(Asked().call, ROUTE) is None


def test_other_shapes_are_kept_where_the_route_says_so() -> None:
    chat = Asked({"messages": []}, Endpoint(DIALECTS["openai"], "conversational"))
    assert keeper().key(chat.call, ROUTE) is None
    assert keeper().key(chat.call, Route("org/m", ROUTE.deployments, cache=True)) is not None
