"""FailoverBench's sixteen faults (github.com/failoverbench/failoverbench, September 2026), written anew from its table.

A primary and one fallback, both of `tests/chaos/upstream.py`; two retries and 30 s a try for every gateway. A row's
model is its id, so all rows can run at once and none sees another's failures. *pass*: the caller has the whole answer
and every check of conduct holds. *partial*: the whole answer, and a check does not hold. *safe*: a clean error in
bounded time. *fail*: a hang, or a truncated answer that is shown as a success.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import httpx2

from tests.chaos import answers
from tests.chaos.answers import CHAT_HEAD, LAST, TEXT, chunk, error, events, stream
from tests.chaos.upstream import Attempt, Chaos, End, Script, Step

BOUND: Final = 110.0  # seconds after which a caller has been hung
Grade = Literal["pass", "partial", "safe", "fail"]


@dataclass
class Answer:
    """What a caller had of one streamed chat."""

    status: int = 0
    text: str = ""
    finish: str = ""
    done: bool = False
    error: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    models: list[str] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    began: float = 0.0
    seconds: float = 0.0

    @property
    def whole(self) -> bool:
        return self.status == 200 and self.text == TEXT and bool(self.finish) and not self.error

    @property
    def clean_error(self) -> bool:
        return bool(self.error) and self.seconds < BOUND

    def read(self, payload: str) -> None:
        if payload == "[DONE]":
            self.done = True
            return
        chunk_ = json.loads(payload)
        if "error" in chunk_:
            self.error = str(chunk_["error"])
        self.models.append(chunk_.get("model", ""))
        self.usage = chunk_.get("usage") or self.usage
        for choice in chunk_.get("choices") or []:
            self.text += choice.get("delta", {}).get("content") or ""
            self.finish = choice.get("finish_reason") or self.finish


@dataclass(frozen=True)
class Gateway:
    """Where to ask, and what must go along: a model's name may stand for a header or a path elsewhere."""

    base: str
    headers: Callable[[str], Mapping[str, str]]
    client: httpx2.AsyncClient

    async def ask(self, model: str, **more: Any) -> Answer:
        """One streamed chat, to its end whatever that is."""
        found = Answer(began=time.monotonic())
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "Count to sixty."}],
            "stream": True,
            "stream_options": {"include_usage": True},
            **more,
        }
        try:
            async with asyncio.timeout(BOUND):
                url = self.base + "/v1/chat/completions"
                async with self.client.stream("POST", url, json=body, headers=self.headers(model)) as response:
                    found.status = response.status_code
                    if response.status_code != 200:
                        found.error = (await response.aread()).decode()
                    else:
                        await self._events(response, found)
        except (httpx2.HTTPError, ValueError) as broken:
            found.error = found.error or f"{type(broken).__name__}: {broken}"
        except TimeoutError:
            pass  # no error that the caller was told
        found.seconds = time.monotonic() - found.began
        return found

    async def _events(self, response: httpx2.Response, found: Answer) -> None:
        rest = b""
        async for piece in response.aiter_raw():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line.startswith(b":"):
                    found.comments.append(line.decode())
                elif line.startswith(b"data:"):
                    found.read(line[5:].strip().decode())


Check = Callable[[Answer, list[Attempt], list[Attempt]], dict[str, bool]]  # attempts of the primary, of the fallback


@dataclass(frozen=True)
class Row:
    """One fault. `check`: conduct, each by its name. `context`: of the primary, where the fallback has a larger one."""

    id: str
    says: str
    primary: Script
    check: Check
    fallback: Script = lambda attempt: stream(attempt.model)
    prefill: bool = False  # the fallback is configured as one that continues an assistant's message
    context: int | None = None
    wanted: Literal["answer", "refusal"] = "answer"


def nothing(*_: object) -> dict[str, bool]:
    return {}


def first_fails(*refusals: bytes) -> Script:
    """The first attempts are refused, the rest go well."""

    def script(attempt: Attempt) -> Iterator[Step]:
        if attempt.nth <= len(refusals):
            yield refusals[attempt.nth - 1]
        else:
            yield from stream(attempt.model)

    return script


def refusing(refusal: bytes) -> Script:
    return lambda attempt: iter((refusal,))


def reset_once(attempt: Attempt) -> Iterator[Step]:
    if attempt.nth == 1:
        yield End.RESET
    yield from stream(attempt.model)


def silent(attempt: Attempt) -> Iterator[Step]:
    yield 120.0
    yield End.CLOSE


def slow_first(attempt: Attempt) -> Iterator[Step]:
    yield CHAT_HEAD
    yield 20.0
    for each in events(attempt.model):
        yield chunk(each)
    yield LAST


def dies(after: int, pause: float = 0.0) -> Script:
    """`after` tokens, a pause, and the connection is closed in the middle of the answer."""

    def script(attempt: Attempt) -> Iterator[Step]:
        yield CHAT_HEAD
        for _, each in zip(range(after + 1), events(attempt.model), strict=False):
            yield chunk(each)
            yield 0.002
        if pause:
            yield pause
        yield End.CLOSE

    return script


def invalid_tenth(attempt: Attempt) -> Iterator[Step]:
    yield CHAT_HEAD
    for number, each in enumerate(events(attempt.model), 1):
        if number == 10:
            yield chunk(b'data: {"id": "chatcmpl-1", "choices": [{"delta": {"cont\n\n')
        yield chunk(each)
    yield LAST


def without_done(attempt: Attempt) -> Iterator[Step]:
    yield CHAT_HEAD
    for each in events(attempt.model):
        if each != answers.DONE:
            yield chunk(each)
    yield 60.0  # and the connection stays open
    yield End.CLOSE


def continuing(attempt: Attempt) -> Iterator[Step]:
    """Writes on in an assistant's message, else says the whole."""
    last = attempt.body["messages"][-1]
    said = last["content"] if last["role"] == "assistant" else ""
    assert TEXT.startswith(said)
    yield from stream(attempt.model, [each + " " for each in TEXT[len(said) :].split()])


def no_prefill(attempt: Attempt) -> Iterator[Step]:
    if attempt.body["messages"][-1]["role"] == "assistant":
        yield error(400, "Assistant prefill is not supported by this model.", "invalid_request_error")
    else:
        yield from stream(attempt.model)


def down_for(seconds: float) -> Script:
    def script(attempt: Attempt) -> Iterator[Step]:
        if attempt.after < seconds:
            yield error(503, "down")
        else:
            yield from stream(attempt.model)

    return script


def paced(most: int, within: float, in_all: int) -> Check:
    def check(answer: Answer, primary: list[Attempt], fallback: list[Attempt]) -> dict[str, bool]:
        early = sum(each.at - primary[0].at <= within for each in primary)
        return {
            f"at most {most} attempts in {within:g} s": early <= most,
            f"at most {in_all} in all": len(primary) <= in_all,
        }

    return check


def waited(answer: Answer, primary: list[Attempt], fallback: list[Attempt]) -> dict[str, bool]:
    again = primary[1:2]
    return {
        "asked the primary again": bool(again),
        "1.8 s later or more": bool(again) and again[0].at - primary[0].at >= 1.8,
        "at most 2 attempts in 1.5 s": sum(each.at - primary[0].at <= 1.5 for each in primary) <= 2,
    }


def once(answer: Answer, primary: list[Attempt], fallback: list[Attempt]) -> dict[str, bool]:
    return {"exactly one attempt on the primary": len(primary) == 1}


def again_once(answer: Answer, primary: list[Attempt], fallback: list[Attempt]) -> dict[str, bool]:
    return {"one retry on the primary": len(primary) == 2, "the fallback was left alone": not fallback}


def within(seconds: float, *more: Check) -> Check:
    def check(answer: Answer, primary: list[Attempt], fallback: list[Attempt]) -> dict[str, bool]:
        found = {f"within {seconds:g} s": answer.seconds <= seconds}
        for each in more:
            found |= each(answer, primary, fallback)
        return found

    return check


def with_usage(answer: Answer, *_: object) -> dict[str, bool]:
    return {"usage reported": bool(answer.usage.get("completion_tokens"))}


def larger(answer: Answer, primary: list[Attempt], fallback: list[Attempt]) -> dict[str, bool]:
    return {**once(answer, primary, fallback), "one on the larger": len(fallback) == 1}


def refused(answer: Answer, primary: list[Attempt], fallback: list[Attempt]) -> dict[str, bool]:
    return {
        **once(answer, primary, fallback),
        "not routed around": not fallback,
        "the provider's reason is told": "violates" in answer.error,
    }


def named(answer: Answer, primary: list[Attempt], fallback: list[Attempt]) -> dict[str, bool]:
    return {
        "the model names the fallback": set(answer.models) == {"fallback-model"},
        **with_usage(answer),
        "the fallback was asked once": len(fallback) == 1,
    }


BUSY: Final = error(429, "slow down")
DOWN: Final = error(503, "down")
TOO_LONG: Final = error(400, "This model's maximum context length is 8 tokens.", "context_length_exceeded")
FILTERED: Final = error(400, "The prompt violates the content policy.", "content_policy_violation")

ROWS: Final = (
    Row("s01", "429 with Retry-After: 2, once", first_fails(error(429, "slow down", None, "retry-after: 2")), waited),
    Row("s02", "429 for ever", refusing(BUSY), paced(4, 3.0, 6)),
    Row("s03", "500 once", first_fails(error(500)), again_once),
    Row("s04", "503 for ever", refusing(DOWN), paced(6, 100.0, 6)),
    Row("s05", "reset before any byte, once", reset_once, nothing),
    Row("s06", "accepts and never answers", silent, within(100, once)),
    Row("s07", "first token after 20 s", slow_first, within(15)),
    Row("s08", "dies after 40 of 60 tokens", dies(40), nothing, continuing, prefill=True),
    Row("s09", "silent for 30 s after 20 tokens, then closes", dies(20, 30.0), within(45), continuing, prefill=True),
    Row("s10", "the tenth event is no JSON", invalid_tenth, nothing),
    Row("s11", "complete, no [DONE], stays open", without_done, within(8, with_usage)),
    Row("s12", "400 context_length_exceeded", refusing(TOO_LONG), larger, context=8),
    Row("s13", "400 content_policy_violation", refusing(FILTERED), refused, wanted="refusal"),
    Row("s14", "as s08, the fallback takes no prefill", dies(40), nothing, no_prefill, prefill=True),
    Row("s15", "503 for 60 s, then healthy", down_for(60.0), nothing),
    Row(
        "s16",
        "503 for ever; the fallback is named",
        refusing(DOWN),
        named,
        lambda attempt: stream("fallback-model"),
    ),
)


@dataclass
class Result:
    row: Row
    grade: Grade
    answer: Answer
    broken: list[str]  # checks that did not hold
    attempts: tuple[int, int]


def pair() -> tuple[Chaos, Chaos]:
    """The primary and the fallback of all rows."""
    primary = {row.id: row.primary for row in ROWS} | {"ok": lambda attempt: stream("ok")}
    fallback = {row.id: row.fallback for row in ROWS} | {"ok": lambda attempt: stream("ok")}
    return Chaos(primary), Chaos(fallback)


async def run(row: Row, gateway: Gateway, upstreams: tuple[Chaos, Chaos]) -> Result:
    primary, fallback = upstreams
    if row.id == "s15":
        return await _outage(row, gateway, upstreams)
    answer = await gateway.ask(row.id)
    checks = row.check(answer, primary.of(row.id), fallback.of(row.id)) if primary.of(row.id) else {"asked": False}
    if row.id in ("s09", "s10"):
        checks["healthy afterwards"] = (await gateway.ask("ok")).whole
    broken = [name for name, held in checks.items() if not held]
    attempts = len(primary.of(row.id)), len(fallback.of(row.id))
    return Result(row, _grade(row, answer, broken), answer, broken, attempts)


async def _outage(row: Row, gateway: Gateway, upstreams: tuple[Chaos, Chaos]) -> Result:
    """Twenty requests, one each 4 s, and a few more until it is clear when the primary serves again."""
    primary, fallback = upstreams
    began = time.monotonic()
    answers_: list[Answer] = []
    back = 0.0
    while time.monotonic() - began < 100.0 and not (back and len(answers_) >= 20):
        before = len(fallback.of(row.id))
        answers_.append(await gateway.ask(row.id))
        if answers_[-1].whole and len(fallback.of(row.id)) == before:
            back = back or time.monotonic() - began
        await asyncio.sleep(max(0.0, began + 4.0 * len(answers_) - time.monotonic()))
    lost = [each for each in answers_ if not each.whole]
    checks = {"all served": not lost, "back on the primary within 30 s": 60.0 <= back <= 90.0}
    broken = [name for name, held in checks.items() if not held]
    worst = lost[0] if lost else answers_[-1]
    return Result(row, _grade(row, worst, broken), worst, broken, (len(primary.of(row.id)), len(fallback.of(row.id))))


def _grade(row: Row, answer: Answer, broken: list[str]) -> Grade:
    if row.wanted == "refusal":
        reached = answer.status == 400
    else:
        reached = answer.whole
    if reached:
        return "partial" if broken else "pass"
    return "safe" if answer.clean_error and not answer.done else "fail"


async def grid(gateway: Gateway, upstreams: tuple[Chaos, Chaos]) -> list[Result]:
    """All rows at once."""
    waiting: list[Awaitable[Result]] = [run(row, gateway, upstreams) for row in ROWS]
    return list(await asyncio.gather(*waiting))


def config(upstreams: tuple[Chaos, Chaos], key: str) -> str:
    """Ours for these rows: two upstreams, all clocks and budgets as they are shipped."""
    models = "".join(
        f"  {row.id}:\n    deployments:\n"
        f"      - {{upstream: one, provider_id: {row.id}{f', context: {row.context}' if row.context else ''}}}\n"
        f"      - {{upstream: two, provider_id: {row.id}{', can: [prefill]' if row.prefill else ''}"
        f"{', context: 100000' if row.context else ''}}}\n"
        for row in ROWS
    )
    one, two = (f"{{provider: openai, base_url: 'http://127.0.0.1:{each.port}/v1'}}" for each in upstreams)
    return (
        f"virtual_keys: [{{name: alice, key: {key}}}]\nupstreams:\n  one: {one}\n  two: {two}\n"
        f"models:\n{models}  ok: {{deployments: [{{upstream: one}}, {{upstream: two}}]}}\ntables: []\n"
    )


def table(name: str, results: list[Result]) -> str:
    lines = [
        f"{name}: {each.row.id.upper()} {each.grade:8}{each.row.says:46} {each.answer.seconds:6.1f} s "
        f"{each.attempts[0]}+{each.attempts[1]} attempts {'; '.join(each.broken)}"
        + (f" {each.answer.error[:120]!r}" if each.grade in ("safe", "fail") else "")
        for each in results
    ]
    counts = {grade: sum(each.grade == grade for each in results) for grade in ("pass", "partial", "safe", "fail")}
    return "\n".join([*lines, f"{name}: {counts['pass']}/{len(results)} pass, " + str(counts)])
