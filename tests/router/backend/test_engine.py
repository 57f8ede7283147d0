"""The line in front of a model: who is served, who is told to come again, who is forgotten."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from providers.spec import Ask, Fault, Result, Unreadable
from router.backend.engine import AGAIN, Engine
from router.errors import Refused
from tests.router.backend.fakes import SOON, Clock, Model


def ask(inputs: str) -> Ask:
    return Ask("text-classification", inputs)


async def refusal(answer: Coroutine[Any, Any, Result]) -> Fault:
    with pytest.raises(Refused) as refused:
        await answer
    return refused.value.fault


async def ready(model: Model, most: int = 2) -> Engine:
    engine = Engine("org/model", model.load, most)
    model.may_load.set()
    engine.begin()
    await engine.settled()
    return engine


async def begun(model: Model) -> Any:
    return await asyncio.to_thread(model.begun.get, timeout=SOON)


def test_the_first_request_loads_the_model_and_is_told_how_long_that_takes() -> None:
    async def story() -> None:
        model, clock, learned = Model(), Clock(), list[float]()
        engine = Engine("org/model", model.load, 2, expected=40.0, learn=learned.append, clock=clock)
        assert [engine.state, engine.device] == ["idle", None]
        fault = await refusal(engine.run(ask("a"), wait=False))
        assert (fault.status, fault.message, fault.estimated_time) == (503, "Model org/model is currently loading", 40)
        clock.now += 15
        assert (await refusal(engine.run(ask("b"), wait=False))).estimated_time == 25
        clock.now += 60
        assert (await refusal(engine.run(ask("c"), wait=False))).estimated_time == 1
        model.may_load.set()
        await engine.settled()
        assert [engine.state, engine.device, engine.loaded_in, learned] == ["ready", "cpu", 75.0, [75.0]]
        model.may_end.put(1.0)
        assert (await engine.run(ask("d"), wait=False)).value == [{"label": "d", "score": 1.0}]
        assert model.loads == 1
        engine.close()

    asyncio.run(story())


def test_who_waits_for_the_model_is_served_once_it_is_there() -> None:
    async def story() -> None:
        model = Model()
        engine = Engine("org/model", model.load, 2)
        patient = asyncio.create_task(engine.run(ask("a"), wait=True))
        await asyncio.sleep(0)
        assert engine.state == "loading" and engine.waiting == 1
        model.may_load.set()
        model.may_end.put(1.0)
        assert (await patient).value[0]["label"] == "a"
        engine.close()

    asyncio.run(story())


def test_a_model_that_cannot_be_loaded_says_why_and_is_tried_again_later() -> None:
    async def story() -> None:
        model, clock = Model(), Clock()
        model.fails = OSError("no such file: weights\n\nand a page of advice")
        engine = Engine("org/model", model.load, 2, clock=clock)
        model.may_load.set()
        fault = await refusal(engine.run(ask("a"), wait=True))
        assert fault.status == 500
        assert fault.message == "Model org/model could not be loaded: OSError: no such file: weights"
        assert (await refusal(engine.run(ask("b"), wait=True))).code == "model_failed" and model.loads == 1
        clock.now += AGAIN
        model.fails = None
        model.may_end.put(1.0)
        assert (await engine.run(ask("c"), wait=True)).value[0]["label"] == "c" and model.loads == 2
        engine.close()

    asyncio.run(story())


def test_the_line_is_first_come_first_served_and_no_longer_than_was_said() -> None:
    async def story() -> None:
        model = Model()
        engine = await ready(model, most=2)
        tasks = [asyncio.create_task(engine.run(ask(each), wait=False)) for each in "abc"]
        assert await begun(model) == "a"
        assert [engine.waiting, engine.progress] == [2, 0.0]
        fault = await refusal(engine.run(ask("d"), wait=False))
        assert fault.status == 503 and fault.code == "model_busy"
        assert fault.message.startswith("Model too busy, unable to get response in less than")
        assert fault.retry_after == 3
        for _ in tasks:
            model.may_end.put(1.0)
        assert [(await each).value[0]["label"] for each in tasks] == ["a", "b", "c"]
        assert [engine.waiting, engine.progress] == [0, None]
        engine.close()

    asyncio.run(story())


def test_who_leaves_the_line_is_never_served_and_makes_room() -> None:
    async def story() -> None:
        model = Model()
        engine = await ready(model, most=1)
        first, second = (asyncio.create_task(engine.run(ask(each), wait=False)) for each in "ab")
        assert await begun(model) == "a" and engine.waiting == 1
        second.cancel()
        await asyncio.wait([second])
        assert engine.waiting == 0
        third = asyncio.create_task(engine.run(ask("c"), wait=False))
        model.may_end.put(1.0)
        await first
        assert await begun(model) == "c"
        model.may_end.put(1.0)
        assert (await third).value[0]["label"] == "c"
        engine.close()

    asyncio.run(story())


def test_an_answer_that_nobody_waits_for_stops_at_its_next_step() -> None:
    async def story() -> None:
        model = Model()
        engine = await ready(model)
        left, next_one = (asyncio.create_task(engine.run(ask(each), wait=False)) for each in "ab")
        assert await begun(model) == "a"
        left.cancel()
        await asyncio.wait([left])
        model.may_end.put(0.25)
        assert await asyncio.to_thread(model.ended.get, timeout=SOON) == "a"
        assert await begun(model) == "b"
        model.may_end.put(1.0)
        assert (await next_one).value[0]["label"] == "b"
        engine.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("error", "status", "code", "said"),
    [
        (ValueError("`height` must be divisible by 8"), 400, "invalid_request", "`height` must be divisible by 8"),
        (TypeError("unexpected"), 400, "invalid_request", "TypeError: unexpected"),
        (MemoryError("CUDA out of memory"), 503, "out_of_memory", "Out of memory: MemoryError: CUDA out of memory"),
        (RuntimeError("x" * 5000), 500, "model_error", "RuntimeError: " + "x" * 600),
    ],
)
def test_what_a_model_raises_says_whose_fault_it_is(error: Exception, status: int, code: str, said: str) -> None:
    async def story() -> None:
        def broken(ask: Ask) -> Any:
            raise error

        model = Model(broken)
        engine = await ready(model)
        model.may_end.put(1.0)
        fault = await refusal(engine.run(ask("a"), wait=False))
        assert (fault.status, fault.code, fault.message) == (status, code, said)
        engine.close()

    asyncio.run(story())


def test_a_parameter_that_the_model_refuses_keeps_its_name() -> None:
    async def story() -> None:
        def refuses(ask: Ask) -> Any:
            raise Unreadable("parameters.top_k", "`top_k` must be an integer above 0", status=400)

        model = Model(refuses)
        engine = await ready(model)
        model.may_end.put(1.0)
        with pytest.raises(Unreadable) as refused:
            await engine.run(ask("a"), wait=False)
        assert refused.value.param == "parameters.top_k"
        engine.close()

    asyncio.run(story())
