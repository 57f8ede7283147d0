"""Streams that break behind the real server: carried on without a seam, or ended by an error, never shown as whole."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.chaos import answers
from tests.chaos.answers import CHAT_HEAD, LAST, TEXT, WORDS, chunk, error, event, events, stream
from tests.chaos.failover import Answer, Gateway, continuing, dies, no_prefill
from tests.chaos.upstream import Attempt, Chaos, End, Script, Step, chaos
from tests.running import KEY, Running, serving

FEW = WORDS[:12]
WAYS = ("fin", "reset", "short", "close-delimited", "stall")


def cut_at(attempt: Attempt) -> Iterator[Step]:
    """A 2 KB stream, cut where and as the caller's `user` field says."""
    at, way = attempt.body["user"].split()
    data = b"".join(events("cut", FEW))[: int(at)]
    if way == "close-delimited":
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    elif way == "short":
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99999\r\n\r\n"
    else:
        yield CHAT_HEAD
    if data:
        yield chunk(data) if way in ("fin", "reset", "stall") else data
    if way == "stall":
        yield 30.0
    elif way == "reset":
        yield 0.002  # a reset overtakes what was not read yet
        yield End.RESET
    yield End.CLOSE


def other_words(attempt: Attempt) -> Iterator[Step]:
    yield from stream(attempt.model, ["something ", "else "])


def completions(words: list[str], finish: str | None, after: int | None = None) -> Script:
    """Text completions; cut after so many words, or whole. A longer prompt is written on from."""

    def script(attempt: Attempt) -> Iterator[Step]:
        asked = attempt.body["prompt"]
        said = (asked if isinstance(asked, str) else asked[0]).removeprefix("Count: ")
        rest = [each for number, each in enumerate(words) if number >= said.count(" ")]
        yield CHAT_HEAD
        for number, word in enumerate(rest):
            if number == after:
                yield End.CLOSE
            yield chunk(event({"id": "c", "choices": [{"index": 0, "text": word, "finish_reason": None}]}))
        yield chunk(event({"id": "c", "choices": [{"index": 0, "text": "", "finish_reason": finish}]}))
        yield chunk(answers.DONE)
        yield LAST

    return script


def begun(*then: Step) -> Iterator[Step]:
    """Eight words, and something that is no answer."""
    yield CHAT_HEAD
    for _, each in zip(range(9), events("x"), strict=False):
        yield chunk(each)
    yield from then
    yield End.CLOSE


def long(attempt: Attempt) -> Iterator[Step]:
    """Cut after as many events as the caller's `user` field says."""
    yield CHAT_HEAD
    yield from map(chunk, [*events("x", ["x "] * 1500)][: int(attempt.body["user"])])
    yield End.CLOSE


PRIMARY: dict[str, Script] = {
    "cut": cut_at,
    "dies": dies(40),
    "dies-twice": dies(20),
    "long": long,
    "dies-early": dies(1),
    "text": completions(WORDS, "stop", 30),
    "errs": lambda attempt: begun(chunk(event({"error": {"message": "boom"}}))),
    "filtered": lambda attempt: begun(chunk(event({"error": {"message": "no", "code": "content_filter"}}))),
    "pings": lambda attempt: begun(*(0.1, chunk(b": ping\n\n")) * 60),
}
FALLBACK: dict[str, Script] = {
    "*": lambda attempt: stream("second"),
    "few": lambda attempt: stream("second", FEW),
    "long": lambda attempt: stream("second", ["x "] * 1500),
    "other": other_words,
    "continuing": continuing,
    "no-prefill": no_prefill,
    "dies-later": dies(40),
    "text": completions(WORDS, "length"),
    "refuses": lambda attempt: iter((error(400, "no such thing"),)),
}


@pytest.fixture(scope="module")
def upstreams() -> Iterator[tuple[Chaos, Chaos]]:
    pair = Chaos(PRIMARY), Chaos(FALLBACK)
    with chaos(*pair):
        yield pair


def route(model: str, primary: str, *fallbacks: str, can: str = "", more: str = "") -> str:
    places = "".join(f", {{upstream: two, provider_id: {each}{can}}}" for each in fallbacks)
    return f"  {model}: {{{more}deployments: [{{upstream: one, provider_id: {primary}}}{places}]}}\n"


PREFILL = ", can: [prefill]"
ROUTES = (
    route("cut", "cut", "few")
    + route("alone", "cut")
    + route("again", "dies", "whole")
    + route("echoed", "dies", "whole", more="echo_model: true, ")
    + route("never", "dies", "whole", more="splice: false, ")
    + route("long", "long", "long")
    + route("never-early", "dies-early", "whole", more="splice: false, ")
    + route("on", "dies", "continuing", can=PREFILL)
    + route("no-prefill", "dies", "no-prefill", can=PREFILL)
    + route("other", "dies", "other")
    + route("third", "dies", "other", "whole")
    + route("twice", "dies-twice", "dies-later", "whole")
    + route("refused", "dies", "refuses")
    + route("text", "text", "text")
    + route("errs", "errs", "whole")
    + route("filtered", "filtered", "whole")
    + route("pings", "pings", "whole")
)


@pytest.fixture(scope="module")
def running(upstreams: tuple[Chaos, Chaos], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    one, two = upstreams
    clocks = "timeouts: {silence: 400ms, first_event: 1s, last_candidate: 400ms}"
    config = (
        f"virtual_keys: [{{name: alice, key: {KEY}}}]\n"
        f"upstreams:\n  one: {{provider: openai, base_url: 'http://127.0.0.1:{one.port}/v1', {clocks}}}\n"
        f"  two: {{provider: openai, base_url: 'http://127.0.0.1:{two.port}/v1', {clocks}}}\n"
        f"models:\n{ROUTES}tables: []\nrest: {{after: 1000000 failures/1s}}\nretry: {{budget: 100%}}\n"
    )
    with serving(config, tmp_path_factory.mktemp("splicing")) as running:
        yield running


def ask(running: Running, model: str, request_id: str = "", **more: Any) -> Answer:
    async def one() -> Answer:
        async with httpx2.AsyncClient(timeout=20) as client:
            headers = {"authorization": f"Bearer {KEY}", "x-request-id": request_id or "r", **more.pop("headers", {})}
            return await Gateway(running.base, lambda _: headers, client).ask(model, **more)

    return asyncio.run(one())


def test_a_stream_that_dies_is_said_anew_and_the_caller_sees_each_token_once(running: Running) -> None:
    answer = ask(running, "again", "anew")
    assert answer.whole and answer.done and answer.usage["completion_tokens"] == 60
    assert answer.models[0] == "dies" and answer.models[-1] == "second"  # the last event names who finished
    assert answer.comments == [": restarted by two"]
    noted = running.looked_up("anew")
    assert noted["outcome"] == "ok" and noted["upstream"] == "two" and noted["output_tokens"] == 60
    assert noted["splices"] == [{"upstream": "one", "reason": "closed", "result": "restarted", "to": "two/whole"}]
    assert [each["verdict"] for each in noted["tries"]] == ["serve", "serve"]


def test_a_stream_is_continued_where_the_deployment_writes_on(running: Running, upstreams: tuple[Chaos, Chaos]) -> None:
    answer = ask(running, "on", "on", max_tokens=100)
    assert answer.whole and answer.done
    asked = upstreams[1].of("continuing")[-1].body
    assert asked["messages"][-1] == {"role": "assistant", "content": "".join(WORDS[:40])}
    assert asked["max_tokens"] == 60 and asked["continue_final_message"] is True
    assert running.looked_up("on")["splices"][0]["result"] == "continued"
    assert answer.usage["completion_tokens"] == 60  # of both parts


def test_one_that_takes_no_prefill_is_asked_to_say_it_anew(running: Running, upstreams: tuple[Chaos, Chaos]) -> None:
    answer = ask(running, "no-prefill", "no-prefill")
    assert answer.whole and not answer.error
    assert [len(each.body["messages"]) for each in upstreams[1].of("no-prefill")] == [2, 1]
    assert running.looked_up("no-prefill")["splices"][0]["result"] == "restarted"


def test_a_text_completion_goes_on_from_its_prompt(running: Running, upstreams: tuple[Chaos, Chaos]) -> None:
    body = {"model": "text", "prompt": "Count: ", "stream": True, "max_tokens": 99}
    headers = {"authorization": f"Bearer {KEY}"}
    text = httpx2.post(running.base + "/v1/completions", json=body, headers=headers, timeout=20).text
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert "".join(each["choices"][0]["text"] for each in chunks) == TEXT
    assert text.endswith("data: [DONE]\n\n")
    assert upstreams[1].of("text")[-1].body["max_tokens"] == 69


@pytest.mark.parametrize("path", ["/models/text", "/models/text/generate_stream"])
def test_what_crosses_shapes_is_carried_on_too(running: Running, path: str) -> None:
    body = {"inputs": "Count: ", "stream": True, "parameters": {"max_new_tokens": 99, "details": True}}
    headers = {"authorization": f"Bearer {KEY}"}
    text = httpx2.post(running.base + path, json=body, headers=headers, timeout=20).text
    chunks = [json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:")]
    assert "".join(each["token"]["text"] for each in chunks if not each["token"]["special"]) == TEXT
    assert chunks[-1]["generated_text"].removeprefix("Count: ") == TEXT
    assert chunks[-1]["details"]["finish_reason"] == "length"
    assert not any("error" in each for each in chunks)


def test_it_may_break_more_than_once(running: Running) -> None:
    answer = ask(running, "twice", "twice")
    assert answer.whole and answer.done
    assert [each["result"] for each in running.looked_up("twice")["splices"]] == ["restarted", "restarted"]


def test_another_answer_is_never_joined_to_the_first(running: Running) -> None:
    answer = ask(running, "other", "other")
    assert answer.text == "".join(WORDS[:40]) and answer.error and not answer.done and not answer.finish
    assert running.looked_up("other")["outcome"] == "broken"
    assert ask(running, "third").whole  # the next one may still say the same


@pytest.mark.parametrize(
    "more",
    [
        {"headers": {"x-router-splice": "0"}},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"n": 2},
        {"logprobs": True},
    ],
    ids=str,
)
def test_who_may_not_have_it_gets_an_error(
    running: Running, upstreams: tuple[Chaos, Chaos], more: dict[str, Any]
) -> None:
    before = len(upstreams[1].attempts)
    answer = ask(running, "again", **more)
    assert answer.error and not answer.done and not answer.finish
    assert len(upstreams[1].attempts) == before


@pytest.mark.parametrize("model", ["never", "never-early"])
def test_a_route_may_say_never(running: Running, upstreams: tuple[Chaos, Chaos], model: str) -> None:
    before = len(upstreams[1].attempts)
    assert ask(running, model).error and len(upstreams[1].attempts) == before


@pytest.mark.parametrize("prompt", [["Count: "], "Count: "])
def test_a_prompt_that_is_not_one_text_is_said_anew(
    running: Running, upstreams: tuple[Chaos, Chaos], prompt: str | list[str]
) -> None:
    body = {"model": "text", "prompt": prompt, "stream": True}
    text = httpx2.post(running.base + "/v1/completions", json=body, headers={"authorization": f"Bearer {KEY}"}).text
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert "".join(each["choices"][0]["text"] for each in chunks) == TEXT and text.endswith("data: [DONE]\n\n")


def test_a_refusal_of_who_should_carry_on_does_not_reach_the_caller(running: Running) -> None:
    answer = ask(running, "refused")
    assert "no such thing" not in answer.error and "connection" in answer.error and not answer.done


def test_an_error_in_the_stream_is_rescued_but_a_filter_is_not_routed_around(
    running: Running, upstreams: tuple[Chaos, Chaos]
) -> None:
    assert ask(running, "errs").whole
    before = len(upstreams[1].attempts)
    answer = ask(running, "filtered")
    assert "content_filter" in answer.error and not answer.done
    assert len(upstreams[1].attempts) == before


def test_comments_do_not_pass_for_an_answer(running: Running) -> None:
    answer = ask(running, "pings", "pings")
    assert answer.whole and answer.seconds < 3
    assert running.looked_up("pings")["splices"][0]["reason"] == "silence"


def test_the_model_is_the_callers_where_the_route_says_so(running: Running) -> None:
    assert set(ask(running, "echoed").models) - {""} == {"echoed"}


@pytest.mark.parametrize(("words", "rescued"), [(900, True), (1100, False)])
def test_a_stream_that_is_too_long_to_be_kept_ends_in_an_error(running: Running, words: int, rescued: bool) -> None:
    answer = ask(running, "long", user=str(words))
    assert (answer.error == "" and answer.text == "x " * 1500) is rescued
    assert rescued or (answer.error and not answer.done)


def test_splices_are_counted(running: Running) -> None:
    ask(running, "again")
    assert 'router_splices_total{result="restarted",upstream="one"}' in httpx2.get(running.base + "/metrics").text


def truncated(answers_: list[Answer], text: str) -> list[Answer]:
    """Those who were told that half an answer is a whole one, or given something else."""
    whole = [each for each in answers_ if each.text == text and each.finish and not each.error]
    told = [each for each in answers_ if each.error and not each.done]
    return [each for each in answers_ if each not in whole and each not in told]


@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("way", WAYS)
def test_no_cut_at_any_byte_is_shown_as_a_success(running: Running, way: str, step: int) -> None:
    size = len(b"".join(events("cut", FEW)))
    text = "".join(FEW)

    async def all_of(model: str) -> list[Answer]:
        headers = {"authorization": f"Bearer {KEY}"}
        limit = asyncio.Semaphore(64)
        async with httpx2.AsyncClient(timeout=20) as client:
            gateway = Gateway(running.base, lambda _: headers, client)

            async def one(at: int) -> Answer:
                async with limit:
                    return await gateway.ask(model, user=f"{at} {way}")

            return list(await asyncio.gather(*(one(at) for at in range(0, size, step))))

    async def both() -> list[list[Answer]]:
        return list(await asyncio.gather(all_of("cut"), all_of("alone")))

    rescued, alone = asyncio.run(both())
    assert not truncated(rescued, text)
    assert sum(each.text == text for each in rescued) == len(rescued)  # the fallback carries on from anywhere
    assert not truncated(alone, text)
