"""Many at once: keep-alive races, callers who leave, an upstream that is down for all. Nobody pays twice."""

import asyncio
import random
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.chaos.answers import answer, error, stream, whole
from tests.chaos.upstream import Attempt, Chaos, End, Step, chaos
from tests.running import KEY, Running, serving

HEADERS = {"authorization": f"Bearer {KEY}"}
SAY = {"messages": [{"role": "user", "content": "hi"}]}
PICTURE = {"created": 1, "data": [{"b64_json": "aGk="}]}


def racing(attempt: Attempt) -> Iterator[Step]:
    """A whole answer, and then the connection is closed, now or a moment later: just when it is used again."""
    yield answer(200, PICTURE) if "images" in attempt.path else whole("racing")
    yield random.Random(attempt.nth).choice([0.0, 0.0005, 0.001, 0.002, 0.004])
    yield End.CLOSE


def closing_unanswered(attempt: Attempt) -> Iterator[Step]:
    """Every other request is read whole and answered by closing, as by a server that died while it generated."""
    if attempt.nth % 2:
        yield answer(200, PICTURE) if "images" in attempt.path else whole("dying")
    else:
        yield End.CLOSE


SCRIPTS = {
    "racing": racing,
    "dying": closing_unanswered,
    "down": lambda attempt: iter((error(503),)),
    "paced": lambda attempt: stream("paced", pace=0.01),
    "*": lambda attempt: iter((whole("good"),)),
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Chaos]:
    upstream = Chaos(SCRIPTS)
    with chaos(upstream):
        yield upstream


@pytest.fixture(scope="module")
def running(upstream: Chaos, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    base = f"base_url: 'http://127.0.0.1:{upstream.port}/v1'"
    config = f"""
virtual_keys: [{{name: alice, key: {KEY}}}]
retry: {{backoff: {{first: 10ms}}}}
rest: {{after: 1000000 failures/1s}}
upstreams: {{up: {{provider: openai, {base}}}, spare: {{provider: openai, {base}}}}}
models:
  racing: {{deployments: [{{upstream: up}}]}}
  dying: {{deployments: [{{upstream: up}}]}}
  down: {{deployments: [{{upstream: spare}}]}}
  paced: {{deployments: [{{upstream: up}}]}}
  good: {{deployments: [{{upstream: up}}]}}
tables: []
"""
    with serving(config, tmp_path_factory.mktemp("storms")) as running:
        yield running


async def many(running: Running, path: str, body: dict[str, Any], count: int, at_once: int) -> list[int]:
    limit = asyncio.Semaphore(at_once)
    async with httpx2.AsyncClient(headers=HEADERS, timeout=20) as client:

        async def one() -> int:
            async with limit:
                return (await client.post(running.base + path, json=body)).status_code

        return list(await asyncio.gather(*(one() for _ in range(count))))


def test_a_thousand_keep_alive_races_are_answered_with_one_more_attempt_at_most(
    running: Running, upstream: Chaos
) -> None:
    statuses = asyncio.run(many(running, "/v1/chat/completions", {"model": "racing", **SAY}, 1000, 4))
    assert statuses == [200] * 1000
    assert len(upstream.of("racing")) <= 2000


def test_a_thousand_races_of_paid_media_make_no_picture_twice(running: Running, upstream: Chaos) -> None:
    before = len(upstream.of("racing"))
    body = {"model": "racing", "prompt": "a router"}
    statuses = asyncio.run(many(running, "/v1/images/generations", body, 1000, 4))
    made = len(upstream.of("racing")) - before
    assert set(statuses) <= {200, 502}
    assert made <= 1000  # what was sent was never sent again
    assert statuses.count(200) == made  # and who was told of a failure was charged nothing


def test_one_that_dies_while_it_generates_is_asked_again_for_text_and_never_for_a_picture(
    running: Running, upstream: Chaos
) -> None:
    assert asyncio.run(many(running, "/v1/chat/completions", {"model": "dying", **SAY}, 100, 1)) == [200] * 100
    before = len(upstream.of("dying"))
    body = {"model": "dying", "prompt": "a router"}
    statuses = asyncio.run(many(running, "/v1/images/generations", body, 100, 1))
    assert len(upstream.of("dying")) - before == 100
    assert statuses.count(502) == 50


def test_callers_who_come_and_go_leave_nothing_behind(running: Running, upstream: Chaos) -> None:
    dice = random.Random(3)

    async def churn() -> list[int]:
        async with httpx2.AsyncClient(headers=HEADERS, timeout=20) as client:

            async def one() -> None:
                until = time.monotonic() + 1.5
                body = {"model": "paced", **SAY, "stream": True}
                while time.monotonic() < until:
                    task = asyncio.create_task(client.post(running.base + "/v1/chat/completions", json=body))
                    await asyncio.sleep(dice.uniform(0.0, 0.15))
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

            await asyncio.gather(*(one() for _ in range(20)))
        return await many(running, "/v1/chat/completions", {"model": "good", **SAY}, 100, 10)

    assert asyncio.run(churn()) == [200] * 100
    assert running.is_idle()
    assert len(upstream.of("paced")) > 200
    assert all(each.ended is not None for each in upstream.of("paced"))


def test_an_upstream_that_is_down_is_asked_little_more_than_its_callers_ask(running: Running, upstream: Chaos) -> None:
    statuses = asyncio.run(many(running, "/v1/chat/completions", {"model": "down", **SAY}, 500, 50))
    assert set(statuses) == {503}
    assert len(upstream.of("down")) <= 600


@pytest.mark.long
def test_for_a_minute_and_in_no_bursts(running: Running, upstream: Chaos) -> None:
    before = len(upstream.of("down"))

    async def minute() -> None:
        async with httpx2.AsyncClient(headers=HEADERS, timeout=20) as client:
            asking = []
            for _ in range(600):
                body = {"model": "down", **SAY}
                asking.append(asyncio.create_task(client.post(running.base + "/v1/chat/completions", json=body)))
                await asyncio.sleep(0.1)
            await asyncio.gather(*asking)

    asyncio.run(minute())
    seen = upstream.of("down")[before:]
    assert len(seen) <= 720
    tenths = [round((each.at - seen[0].at) * 10) for each in seen]
    most = max(tenths.count(tenth) for tenth in set(tenths))
    assert most <= 3 * len(seen) / 600 + 2
