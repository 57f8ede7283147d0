"""Pools of keys behind the real server: who serves when some are refused or limited, and what the caller is told."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from tests.flows.raw import FULL, Upstream, full, listening
from tests.running import KEY, Running, serving

SAY = {"messages": [{"role": "user", "content": "hi"}]}


def keys(name: str, number: int) -> list[str]:
    return [f"sk-canary-{name}-{place}-000000000" for place in range(number)]


def refusal(status: int, headers: bytes = b"", **error: object) -> bytes:
    return full(status, json.dumps({"error": {"message": "no", **error}}).encode(), headers)


OK = full(200, FULL)
LIMITED = refusal(429, b"retry-after: 30\r\n", code="rate_limit_exceeded")
REFUSED = refusal(401, code="invalid_api_key")
CREDIT = refusal(
    400, type="invalid_request_error", message="Your credit balance is too low to access the Anthropic API."
)
SIZES = {"five": 5, "gone": 2, "mixed": 3, "soon": 2, "broken": 2, "low": 3, "weighed": 2, "full": 1}
POOLS = {name: keys(name, size) for name, size in SIZES.items()}
WEIGHED = POOLS["weighed"]
MORE = {
    "weighed": f"keys: [{{key: {WEIGHED[0]}, weight: 2}}, {{key: {WEIGHED[1]}, requests: 2/minute, name: small}}]",
    "full": f"keys: [{POOLS['full'][0]}], limits: {{requests: 2/minute}}",
}


def key_in(head: bytes) -> str:
    return head.lower().partition(b"authorization: bearer ")[2].split(b"\r\n")[0].decode()


@dataclass
class Answering:
    """One server's upstreams: each key is answered as the test says, and who was asked is known."""

    base: str
    upstream: Upstream
    answers: dict[str, Callable[[], bytes]] = field(default_factory=dict)

    def ask(self, model: str) -> httpx2.Response:
        body = {"model": model, **SAY}
        headers = {"authorization": f"Bearer {KEY}"}
        return httpx2.post(f"{self.base}/v1/chat/completions", json=body, headers=headers, timeout=20)

    def asked(self, model: str) -> list[str]:
        return [key for key in (key_in(head) for head, _ in self.upstream.seen) if key in POOLS[model]]

    def answer(self, **said: list[bytes]) -> None:
        """By model: what its keys are answered, in their order."""
        for model, answers in said.items():
            for key, answer in zip(POOLS[model], answers, strict=True):
                self.answers[key] = lambda answer=answer: answer  # type: ignore[misc]


def config_of(port: int, **more: str) -> str:
    """`more`: of an upstream, its keys where they are not only listed, and whatever else is set."""
    lines = []
    for name, pool in POOLS.items():
        rest = more.get(name, f"keys: [{', '.join(pool)}]")
        lines.append(
            f'  {name}: {{provider: openai, base_url: "http://127.0.0.1:{port}/v1", models: [{name}], {rest}}}'
        )
    head = f"virtual_keys: [{{name: alice, key: {KEY}}}]\nretry: {{backoff: {{first: 10ms}}}}\ntables: []\nupstreams:\n"
    return head + "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    with listening(upstream):
        yield upstream


@pytest.fixture(scope="module")
def running(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(config_of(upstream.port, **MORE), tmp_path_factory.mktemp("keypools")) as running:
        yield running


@pytest.fixture
def pools(running: Running, upstream: Upstream) -> Answering:
    pools = Answering(running.base, upstream)
    upstream.answer = lambda model, head: [pools.answers.get(key_in(head), lambda: OK)()]
    return pools


def test_where_four_of_five_keys_are_refused_or_limited_the_fifth_serves_within_one_request(pools: Answering) -> None:
    pools.answer(five=[LIMITED, REFUSED, LIMITED, CREDIT, OK])
    assert pools.ask("five").status_code == 200
    assert pools.asked("five") == POOLS["five"]
    assert [pools.ask("five").status_code for _ in range(3)] == [200] * 3
    assert pools.asked("five")[5:] == POOLS["five"][4:] * 3  # the others rest, and are asked no more


def test_where_all_keys_are_refused_the_pool_is_at_fault_and_not_the_caller(pools: Answering) -> None:
    pools.answer(gone=[REFUSED, REFUSED])
    for _ in range(2):
        answer = pools.ask("gone")
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_credentials_exhausted")
    assert len(pools.asked("gone")) == 2  # and is left alone from then on


def test_where_some_keys_are_refused_and_one_is_limited_the_caller_is_told_when_to_come_again(pools: Answering) -> None:
    pools.answer(mixed=[LIMITED, REFUSED, REFUSED])
    for _ in range(2):
        answer = pools.ask("mixed")
        assert answer.status_code == 429 and 28 <= float(answer.headers["retry-after"]) <= 30, answer.text
    assert len(pools.asked("mixed")) == 3


def test_a_key_that_comes_back_soon_is_waited_for(pools: Answering) -> None:
    began = time.monotonic()
    limited = refusal(429, b"retry-after-ms: 300\r\n")
    for key in POOLS["soon"]:
        pools.answers[key] = lambda: OK if time.monotonic() - began > 0.25 else limited
    assert pools.ask("soon").status_code == 200 and 0.25 < time.monotonic() - began < 3.0
    assert pools.ask("soon").status_code == 200


def test_a_rotation_is_no_retry_so_that_what_fails_behind_it_is_tried_again(pools: Answering) -> None:
    first, second = POOLS["broken"]
    failing = iter([full(500, b"{}")])
    pools.answers |= {first: lambda: LIMITED, second: lambda: next(failing, OK)}
    assert pools.ask("broken").status_code == 200
    assert pools.asked("broken") == [first, second, second]


def test_a_key_with_little_left_is_asked_less_and_one_with_nothing_left_not_at_all(pools: Answering) -> None:
    def left(of: int) -> bytes:
        told = b"x-ratelimit-limit-requests: 100\r\nx-ratelimit-remaining-requests: %d\r\n" % of
        return full(200, FULL, told + b"x-ratelimit-reset-requests: 6m0s\r\n")

    pools.answer(low=[left(0), left(10), left(100)])
    assert {pools.ask("low").status_code for _ in range(3 + 33)} == {200}
    none, little, much = (Counter(pools.asked("low"))[key] for key in POOLS["low"])
    assert none == 1 and 3 <= little <= 4 and none + little + much == 36


def test_a_key_is_used_by_its_weight_and_no_more_than_it_may(pools: Answering) -> None:
    assert {pools.ask("weighed").status_code for _ in range(9)} == {200}
    assert [POOLS["weighed"].index(key) for key in pools.asked("weighed")] == [0, 1, 0, 0, 1, 0, 0, 0, 0]


def test_an_upstream_that_has_given_what_it_may_is_a_limit_with_a_time(pools: Answering) -> None:
    assert [pools.ask("full").status_code for _ in range(3)] == [200, 200, 429]
    assert 0 < float(pools.ask("full").headers["retry-after"]) <= 30 and len(pools.asked("full")) == 2


def test_a_refused_key_rests_in_every_worker_within_a_tenth_of_a_second(upstream: Upstream, tmp_path: Path) -> None:
    with serving(config_of(upstream.port) + "server: {workers: 2}\n", tmp_path) as running:
        pools = Answering(running.base, upstream)
        upstream.seen.clear()
        upstream.answer = lambda model, head: [pools.answers.get(key_in(head), lambda: OK)()]
        pools.answer(gone=[REFUSED, OK])
        while POOLS["gone"][0] not in pools.asked("gone"):
            assert pools.ask("gone").status_code == 200
        time.sleep(0.1)
        for _ in range(12):  # over connections of their own, so that both workers are asked
            assert pools.ask("gone").status_code == 200
        assert Counter(pools.asked("gone"))[POOLS["gone"][0]] == 1
