"""Pools of keys behind the real server: who serves when some are refused or limited, and what the caller is told."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

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
POOLS = {"five": keys("five", 5), "gone": keys("gone", 2)}


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
    with serving(config_of(upstream.port), tmp_path_factory.mktemp("keypools")) as running:
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
