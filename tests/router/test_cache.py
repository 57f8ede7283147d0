"""Which requests share an answer, what is kept and for how long, and who waits for whom."""

import asyncio
import json
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects import DIALECTS
from router import cache, envelope, routing
from router.cache import Cache, Flight, Flights, Kept, canonical, digest, key_of, may_keep, wanted
from router.call import Call, Endpoint
from router.errors import Refused
from router.keys import Identity
from router.routing import Deployment, Route, RouteSettings, Row
from router.secrets import Secret
from tests.router.stories import filled

ALICE, BOB = Identity("alice"), Identity("bob")
ROUTE = Route("org/m", (Deployment("together", "t/m", Row("t/m")), Deployment("groq", "g-m", Row("g-m"))))
INPUTS = {
    "inputs": "A cat, please. 한국어 \u2028 é",
    "parameters": {"temperature": 1, "seed": 7, "stop": ["a", "b"]},
    "tools": [{"name": "f"}, {"name": "g"}],
    "n": 1,
}


def call(
    body: bytes | dict[str, Any] = b"{}",
    *,
    identity: Identity = ALICE,
    dialect: str = "huggingface",
    task: str = "text-generation",
    **more: Any,
) -> Call:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    endpoint = Endpoint(DIALECTS[dialect], task, bare="inputs")
    fields = {} if more.get("raw") else envelope.read(raw, "inputs")
    return filled(Call("r", endpoint, "org/m", False, fields, raw, identity, 600.0), more)


def key(asked: Call, route: Route = ROUTE, generation: int = 1) -> bytes:
    return key_of(asked, route, generation)


def changed(**fields: Any) -> dict[str, Any]:
    return {**INPUTS, **fields}


def tuned(**parameters: Any) -> dict[str, Any]:
    return changed(parameters={**INPUTS["parameters"], **parameters})  # type: ignore[dict-item]


THEIRS = Identity("alice", user_key=Secret("sk-canary-of-alices-own-000"))
OTHERS = Identity("alice", user_key=Secret("sk-canary-of-alices-own-001"))
PINNED = Route("org/m", ROUTE.deployments[:1], pinned=True)
ELSEWHERE = Route("org/m", ROUTE.deployments[1:], pinned=True)
ECHO = Route("org/m", ROUTE.deployments, echo_model=True)

# Requests that differ in one thing: none may have another's answer.
NEAR: list[tuple[Call, Route, int]] = [
    (call(INPUTS), ROUTE, 1),
    (call(INPUTS, identity=BOB), ROUTE, 1),
    (call(INPUTS, identity=THEIRS), ROUTE, 1),
    (call(INPUTS, identity=OTHERS), ROUTE, 1),
    (call(INPUTS), Route("org/m2", ROUTE.deployments), 1),
    (call(INPUTS), PINNED, 1),
    (call(INPUTS), ELSEWHERE, 1),
    (call(INPUTS), ECHO, 1),
    (call(INPUTS, model="an-alias"), ECHO, 1),
    (call(INPUTS), ROUTE, 2),
    (call(INPUTS, dialect="tgi"), ROUTE, 1),
    (call(INPUTS, dialect="openai"), ROUTE, 1),
    (call(INPUTS, task="summarization"), ROUTE, 1),
    (call(INPUTS, stream=True), ROUTE, 1),
    (call(INPUTS, accept="image/png"), ROUTE, 1),
    (call(INPUTS, agent="@huggingface/inference/4"), ROUTE, 1),
    (call(changed(stream=True)), ROUTE, 1),
    (call(changed(user="u-1")), ROUTE, 1),
    (call(changed(n=True)), ROUTE, 1),
    (call(changed(n=1.0)), ROUTE, 1),
    (call(changed(n="1")), ROUTE, 1),
    (call(changed(n=None)), ROUTE, 1),
    (call(tuned(temperature=1.0)), ROUTE, 1),
    (call(tuned(temperature=1.1)), ROUTE, 1),
    (call(tuned(seed=2**64)), ROUTE, 1),
    (call(tuned(seed=2**64 + 1)), ROUTE, 1),
    (call(tuned(stop=["b", "a"])), ROUTE, 1),
    (call(tuned(stop=["a,b"])), ROUTE, 1),
    (call(changed(tools=[{"name": "g"}, {"name": "f"}])), ROUTE, 1),
    (call(changed(inputs="A cat, please. 한국어 \u2028 e\u0301")), ROUTE, 1),
    (call(changed(inputs="A cat, please. 한국어 \u2028 é ")), ROUTE, 1),
    (call(b"A cat, please.", raw=True), ROUTE, 1),
    (call(b"A cat, please.", raw=True, mime="audio/flac"), ROUTE, 1),
]


def test_thirty_and_more_near_identical_requests_have_their_own_answers_and_nobody_elses() -> None:
    kept = Cache(1 << 20, 60.0)
    for number, asked in enumerate(NEAR):
        assert kept.get(key(*asked)) is None, number
        kept.put(key(*asked), answer(b"%d" % number))
    own = [kept.get(key(*asked)) for asked in NEAR]
    assert [each and each.body for each in own] == [b"%d" % number for number in range(len(NEAR))]
    assert len(NEAR) >= 30


@pytest.mark.parametrize(
    "twin",
    [
        json.dumps(INPUTS, indent=3).encode(),
        json.dumps(INPUTS, ensure_ascii=False).encode(),
        json.dumps(dict(reversed(INPUTS.items()))).encode(),
        json.dumps({**INPUTS, "options": {"wait_for_model": True}, "model": "whatever"}).encode(),
        json.dumps(tuned() | {"parameters": {"stop": ["a", "b"], "seed": 7, "temperature": 1}}).encode(),
    ],
)
def test_what_tells_nothing_is_not_in_the_key(twin: bytes) -> None:
    assert key(call(twin)) == key(call(INPUTS))


def test_options_are_ours_in_the_hubs_shape_and_part_of_what_goes_up_in_others() -> None:
    hot, cold = {"prompt": "a", "options": {"temperature": 1}}, {"prompt": "a", "options": {"temperature": 0}}
    assert key(call(hot)) == key(call(cold))
    for dialect in ("ollama", "openai"):
        assert key(call(hot, dialect=dialect)) != key(call(cold, dialect=dialect))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"p":{"x":1,"x":2}}', b'{"p":{"x":2}}'),
        (b'{"p":{"x":1,"x":2}}', b'{"p":{"x":2,"x":2}}'),
        (b'{"p":[{"\\u0078":1,"x":2}]}', b'{"p":[{"x":2}]}'),
        (b'{"p":[1e400]}', b'{"p":[1e401]}'),
        (b'{"p":[0.1]}', b'{"p":[0.10000000000000000001]}'),
        (b'{"p":[1e2]}', b'{"p":[100]}'),
        (b'{"p":"a\\u0000b"}', b'{"p":"a\\u0000c"}'),
        (b'{"p":[], "q":"x"}', b'{"p":["q","x"]}'),
        (b'{"a":"","b":1}', b'{"ab":1,"":1}'),
    ],
)
def test_bodies_that_two_readers_could_take_for_two_things_share_nothing(one: bytes, other: bytes) -> None:
    assert key(call(one)) != key(call(other))


@pytest.mark.parametrize("body", [b'{"a":1,"a":2}', b'\xef\xbb\xbf{"a":1}', b'{"a":1}{"b":2}', b'{"a":1} x'])
def test_bodies_that_are_two_things_never_come_to_a_key(body: bytes) -> None:
    with pytest.raises(Refused):
        call(body)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
BODIES = st.dictionaries(st.sampled_from(["inputs", "parameters", "seed", "a", "b"]), VALUES, max_size=4)


def typed(value: Any) -> Any:
    """As JSON tells values apart: 1, 1.0 and true are three."""
    if isinstance(value, dict):
        return {name: typed(each) for name, each in value.items()}
    if isinstance(value, list):
        return [typed(each) for each in value]
    return type(value).__name__, repr(value)


def shuffled(value: Any, dice: random.Random) -> Any:
    if isinstance(value, dict):
        names = list(value)
        dice.shuffle(names)
        return {name: shuffled(value[name], dice) for name in names}
    return [shuffled(each, dice) for each in value] if isinstance(value, list) else value


@given(BODIES, BODIES)
def test_bodies_share_a_key_where_they_are_the_same_and_nowhere_else(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert (key(call(one)) == key(call(other))) == (typed(one) == typed(other))


@given(BODIES, st.integers(0, 99), st.sampled_from([None, 1]), st.booleans())
def test_neither_order_nor_spaces_nor_escapes_tell(
    body: dict[str, Any], seed: int, indent: int | None, escaped: bool
) -> None:
    twin = json.dumps(shuffled(body, random.Random(seed)), indent=indent, ensure_ascii=escaped)
    assert key(call(twin.encode("utf-8"))) == key(call(body))


@given(st.lists(st.binary(max_size=6), max_size=5), st.lists(st.binary(max_size=6), max_size=5))
def test_no_two_lists_of_parts_run_together(one: list[bytes], other: list[bytes]) -> None:
    assert (digest(*one) == digest(*other)) == (one == other)


def test_a_long_text_is_in_the_key_as_it_stands() -> None:
    text = b'"' + b"x" * 1000 + b'"'
    assert list(canonical(envelope.read(b'{"inputs":%b}' % text))) == [b"inputs", text]


# Which requests, which answers


@pytest.mark.parametrize(
    ("dialect", "route", "tasks", "more", "expected"),
    [
        ("huggingface", None, (), {}, True),
        ("huggingface", None, ("text-generation",), {}, True),
        ("huggingface", None, ("summarization",), {}, False),
        ("huggingface", False, (), {}, False),
        ("huggingface", True, ("summarization",), {}, True),
        ("huggingface", None, (), {"use_cache": False}, False),
        ("openai", None, ("text-generation",), {}, False),
        ("tgi", None, (), {}, False),
        ("openai", True, (), {}, True),
        ("openai", True, (), {"use_cache": False}, False),
        ("openai", True, (), {"upload": object()}, False),
    ],
)
def test_the_hubs_shape_is_kept_unless_told_and_others_only_where_told(
    dialect: str, route: bool | None, tasks: tuple[str, ...], more: dict[str, Any], expected: bool
) -> None:
    routed = Route("org/m", ROUTE.deployments, cache=route)
    assert wanted(call(INPUTS, dialect=dialect, **more), routed, frozenset(tasks)) is expected


@pytest.mark.parametrize("said", [None, True, False])
def test_a_route_of_the_file_says_whether_its_answers_are_kept(said: bool | None) -> None:
    route = routing.build([], {"m": RouteSettings(cache=said)}, {}).route("m")
    assert route is not None and route.cache is said


@pytest.mark.parametrize(
    ("body", "openai", "hub"),
    [
        (b'{"choices":[{"finish_reason":"stop","message":{"content":"hi","tool_calls":[]}}]}', True, True),
        (b'{"choices":[{"finish_reason":"stop","message":{"content":"hi","tool_calls":null}}]}', True, True),
        (b'{"choices":[{"finish_reason":"stop","message":{"content":"\\"tool_calls\\": [{"}}]}', True, True),
        (b'{"choices":[{"message":{"tool_calls": [ {"id":"c"}]}}]}', False, False),
        (b'data: {"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}\n\n', False, False),
        (b'{"choices":[{"finish_reason": "tool_calls"}]}', False, False),
        (b'{"choices":[{"message":{"function_call":{"name":"f"}}}]}', False, False),
        (b'{"output":[{"type":"function_call","name":"f"}]}', False, False),
        (b'{"status":"incomplete","output":[]}', False, True),
        (b'{"choices":[{"finish_reason":"length"}]}', False, True),
        (b'[{"generated_text":"a","details":{"finish_reason":"length"}}]', False, True),
    ],
)
def test_calls_of_tools_and_texts_that_were_cut_short_are_not_kept(body: bytes, openai: bool, hub: bool) -> None:
    assert may_keep("openai", "conversational", body) is openai
    assert may_keep("huggingface", "text-generation", body) is hub
    assert may_keep("openai", "feature-extraction", body), "only texts call tools"


# The store


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def answer(body: bytes = b"{}") -> Kept:
    return Kept(200, b"content-type: application/json\r\n", body, False, "together", "t/m", 0.25)


def test_an_answer_is_kept_for_its_time() -> None:
    clock = Clock()
    kept = Cache(1 << 20, 60.0, clock)
    kept.put(b"k", answer(b"mine"))
    clock.now = 59.9
    found = kept.get(b"k")
    assert found is not None and found.body == b"mine"
    clock.now = 60.1
    assert kept.get(b"k") is None and len(kept) == 0 and kept.size == 0


def test_the_bytes_are_bounded_and_the_least_used_go_first() -> None:
    kept = Cache(64 * 1024, 60.0)
    dice = random.Random(1)
    for number in range(1000):
        kept.put(b"%d" % number, answer(bytes(dice.randrange(8 * 1024))))
        kept.get(b"0")
        assert kept.size <= 64 * 1024
    assert kept.get(b"0") is not None and kept.get(b"1") is None and kept.get(b"999") is not None


def test_empty_answers_are_bounded_too() -> None:
    kept = Cache(64 * 1024, 60.0)
    for number in range(1000):
        kept.put(b"%d" % number, answer(b""))
    assert len(kept) <= 64 * 1024 // cache.BESIDE


def test_an_answer_larger_than_its_share_is_not_kept() -> None:
    kept = Cache(80_000, 60.0)
    assert kept.put(b"k", answer(bytes(10_000))) and not kept.put(b"l", answer(bytes(10_001)))
    assert kept.get(b"l") is None
    assert not Cache(0, 60.0).put(b"k", answer(b""))


def test_answers_on_their_way_are_bounded_together() -> None:
    kept = Cache(1000, 60.0)
    assert kept.borrow(400) and kept.borrow(100) and not kept.borrow(1)
    kept.give_back(400)
    assert kept.borrow(400)


def test_a_kept_answer_says_so_and_what_it_took_at_first() -> None:
    assert answer().head() == (
        b"content-type: application/json\r\nx-compute-type: cache\r\nx-compute-time: 0.250\r\n"
    )  # fmt: skip
    theirs = Kept(200, b"x-compute-time: 0.033\r\n", b"", False, "u", "i", 9.0)
    assert theirs.head() == b"x-compute-time: 0.033\r\nx-compute-type: cache\r\n"


# Requests at the same time


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


async def others(flights: Flights, count: int, patience: float = 60.0) -> list[asyncio.Task[Kept | Flight | None]]:
    """Tasks that wait for the one who leads."""
    tasks = [asyncio.create_task(flights.board(b"k", patience)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def leader(flights: Flights) -> Flight:
    seat = await flights.board(b"k", 60.0)
    assert isinstance(seat, Flight)
    return seat


def test_all_who_wait_get_what_the_first_one_kept() -> None:
    async def story() -> None:
        flights = Flights()
        seat = await leader(flights)
        waiting = await others(flights, 30)
        made = answer()
        seat.land(made)
        seat.leave()
        assert all(each is made for each in await asyncio.gather(*waiting))
        assert len(flights) == 0

    run(story)


def test_other_keys_wait_for_nobody() -> None:
    async def story() -> None:
        flights = Flights()
        await leader(flights)
        assert isinstance(await flights.board(b"other", 60.0), Flight)

    run(story)


def test_where_the_first_fails_the_next_leads_and_nobody_else_goes() -> None:
    async def story() -> None:
        flights = Flights()
        seat = await leader(flights)
        waiting = await others(flights, 3)
        seat.leave()
        await asyncio.sleep(0)
        assert [each.done() for each in waiting] == [True, False, False]
        second = await waiting[0]
        assert isinstance(second, Flight)
        made = answer()
        second.land(made)
        assert [await each for each in waiting[1:]] == [made, made]
        assert len(flights) == 0

    run(story)


def test_where_the_answer_will_not_be_kept_all_go_their_own_way_at_once() -> None:
    async def story() -> None:
        flights = Flights()
        seat = await leader(flights)
        waiting = await others(flights, 3)
        seat.free()
        assert await asyncio.gather(*waiting) == [None, None, None]
        seat.leave()
        assert len(flights) == 0 and isinstance(await flights.board(b"k", 60.0), Flight)

    run(story)


def test_one_who_leaves_takes_nobody_along_whoever_it_is() -> None:
    async def story() -> None:
        flights = Flights()

        async def leads() -> None:
            seat = await leader(flights)
            try:
                await asyncio.Event().wait()
            finally:
                seat.leave()

        first = asyncio.create_task(leads())
        await asyncio.sleep(0)
        waiting = await others(flights, 4)
        waiting[1].cancel()
        first.cancel()
        await asyncio.sleep(0)
        waiting[0].cancel()  # told to lead, and gone before it could
        second = await waiting[2]
        assert isinstance(second, Flight)
        assert [each.cancelled() for each in waiting[:2]] == [True, True]
        made = answer()
        second.land(made)
        assert await waiting[3] is made
        assert len(flights) == 0

    run(story)


def test_who_waited_long_enough_goes_alone_and_the_others_wait_on() -> None:
    async def story() -> None:
        flights = Flights()
        seat = await leader(flights)
        (hasty,) = await others(flights, 1, patience=0.0)
        (patient,) = await others(flights, 1)
        assert await hasty is None
        assert not patient.done()
        seat.leave()
        assert isinstance(await patient, Flight)

    run(story)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_becomes_of_anybody_nobody_waits_for_nothing(seed: int) -> None:
    """Each of many asks for the same, and at random leads to an end, fails, leaves, or loses patience."""

    async def story() -> None:
        dice, flights = random.Random(seed), Flights()
        made, ended = answer(), 0

        async def one() -> None:
            nonlocal ended
            seat = await flights.board(b"k", dice.choice([0.0, 60.0, 60.0]))
            try:
                if isinstance(seat, Flight):
                    for _ in range(dice.randrange(4)):
                        await asyncio.sleep(0)
                    match dice.randrange(4):
                        case 0:
                            seat.land(made)
                        case 1:
                            seat.free()
                        case _:
                            raise ConnectionError
            except ConnectionError:
                pass
            finally:
                ended += 1
                if isinstance(seat, Flight):
                    seat.leave()

        tasks = [asyncio.create_task(one()) for _ in range(20)]
        for task in dice.sample(tasks, 6):
            for _ in range(dice.randrange(3)):
                await asyncio.sleep(0)
            task.cancel()
        async with asyncio.timeout(5):
            await asyncio.gather(*tasks, return_exceptions=True)
        assert len(flights) == 0

    run(story)
