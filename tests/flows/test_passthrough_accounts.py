"""What passes through is counted like everything else: asked for by the Hub's own client, read in the ledger.

The upstreams are scripted, byte for byte; each tenant is for one test, so that the tests share a server.
"""

import asyncio
import base64
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx2
import pytest
from huggingface_hub import InferenceClient, constants

from router.sandbox.pictures import png
from router.stores.sql import database
from tests.flows.raw import Upstream, chunked, cut, full, listening
from tests.flows.test_conservation import written
from tests.running import Running, serving

CHAT: Final = "/together/v1/chat/completions"
PICTURES: Final = "/together/v1/images/generations"
SAY: Final = {"model": "vendor/chat", "messages": [{"role": "user", "content": "how are you?"}]}
PAINT: Final = {"model": "vendor/picture", "prompt": "a cat"}
USAGE: Final = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
READ, WROTE = 1000, 3000  # nano-USD for a token

TENANTS: Final = {
    "hub": "dear",
    "plain": "",
    "fused": "dear",
    "ten": "dollar",
    "spent": "dollar",
    "polls": "dear",
    "fails": "dear",
    "leaves": "",
    "large": "",
    "short": "few",
    "refused": "",
    "capped": "",
    "model": "",
    "named": "own",
    "unknown": "",
    "fal": "dollar",
    "tight": "tight",
    "stored": "none",
}


def key_of(tenant: str) -> str:
    return f"hf_CanaryPassage{tenant.ljust(20, '0')}"


_CONFIG = """
stores: {{ledger: "{ledger}", directory: "{state}"}}
server: {{drain_delay: 0s}}
plans:
  dear: {{budget: 1000 USD/month, tokens: 100000000/hour, markup: 50%}}
  dollar: {{budget: 1 USD/month}}
  few: {{budget: 0.0005 USD/month}}
  tight: {{output_tokens: 100/hour}}
  own: {{per_model: {{"org/cha*": {{requests: 2/hour}}}}}}
  none: {{budget: 0.000000001 USD/month, providers: [together]}}
virtual_keys:
{keys}
upstreams:
  together: {{provider: together, base_url: "{here}", keys: [tgp_v1_canary0000000000]}}
  fal-ai: {{provider: fal-ai, base_url: "{here}", keys: [fal-canary-000000000]}}
  pool: {{provider: together, base_url: "{here}", keys: [tgp_v1_canary1111111111, tgp_v1_canary2222222222]}}
  capped: {{provider: together, base_url: "{here}", keys: [{{key: tgp_v1_canary3333333333, budget: 0.05 USD/day}}]}}
  full: {{provider: together, base_url: "{here}", keys: [tgp_v1_canary4444444444], limits: {{requests: 2/hour}}}}
tables: []
models:
  org/chat: {{task: conversational, deployments: [{{upstream: together, provider_id: vendor/chat, price: {price}}},
    {{upstream: pool, provider_id: vendor/chat, price: {price}}},
    {{upstream: full, provider_id: vendor/chat, price: {price}}}]}}
  org/embed: {{task: feature-extraction,
    deployments: [{{upstream: together, provider_id: vendor/embed, price: {{input: 1}}}}]}}
  org/picture: {{task: text-to-image, deployments:
    [{{upstream: together, provider_id: vendor/picture, price: {{image: 0.1}}}},
     {{upstream: capped, provider_id: vendor/picture, price: {{image: 0.1}}}}]}}
  org/film: {{task: text-to-image, deployments:
    [{{upstream: fal-ai, provider_id: fal-ai/slow, price: {{image: 0.1}}}}]}}
  org/few: {{limits: {{requests: 2/hour}}, deployments: [{{upstream: together, provider_id: vendor/few}}]}}
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    found = Upstream()
    with listening(found):
        yield found


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"


@pytest.fixture(scope="module")
def running(upstream: Upstream, ledger: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    place = tmp_path_factory.mktemp("passages")
    keys = []
    for tenant, plan in TENANTS.items():
        own = ", user_keys: {together: tgp_v1_canaryown0000000}" if tenant == "stored" else ""
        keys.append(f"  - {{name: {tenant}, key: {key_of(tenant)}{f', plan: {plan}' if plan else ''}{own}}}")
    price = json.dumps({"input": 1, "output": 3})
    text = _CONFIG.format(
        ledger=ledger,
        state=place / "state",
        keys="\n".join(keys),
        here=f"http://127.0.0.1:{upstream.port}",
        price=price,
    )
    with serving(text, place) as found:
        yield found


def told(value: Any, status: int = 200, headers: bytes = b"") -> bytes:
    return full(status, json.dumps(value).encode(), headers)


def completion(**more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "fine, and you?"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "vendor/chat",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **more}  # fmt: skip


def events(words: int, usage: dict[str, int] | None = None, text: str = "word ") -> bytes:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "vendor/chat"}
    parts: list[dict[str, Any]] = [{"index": 0, "delta": {"content": text}} for _ in range(words)]
    parts.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    said = [json.dumps({**chunk, "choices": [each]}) for each in parts]
    said += [json.dumps({**chunk, "choices": [], "usage": usage})] if usage else []
    return b"".join(f"data: {each}\n\n".encode() for each in said) + b"data: [DONE]\n\n"


def is_stream(upstream: Upstream) -> bool:
    return bool(json.loads(upstream.seen[-1][1]).get("stream"))


class Asking:
    """One tenant, and what the ledger has of it."""

    def __init__(self, running: Running, ledger: str, tenant: str) -> None:
        self._running = running
        self._ledger = ledger
        self._tenant = tenant
        self.http = httpx2.Client(
            base_url=running.base, headers={"authorization": f"Bearer {key_of(tenant)}"}, timeout=20
        )

    def rows(self) -> list[dict[str, Any]]:
        written(self._running)
        names = ("model", "provider_id", "upstream", "task", "billing", "provider_key", "status", "outcome", "stream",
                 "input_tokens", "output_tokens", "images", "estimated", "cost", "charge")  # fmt: skip
        opened = database(self._ledger)
        opened.open()
        try:
            query = f"SELECT {', '.join(names)} FROM entries WHERE tenant = '{self._tenant}' ORDER BY time"
            return [dict(zip(names, row, strict=True)) for row in opened.rows(query)]
        finally:
            opened.close()


@pytest.fixture
def asking(running: Running, ledger: str, upstream: Upstream) -> Iterator[Callable[[str], Asking]]:
    made: list[Asking] = []

    def of(tenant: str) -> Asking:
        made.append(Asking(running, ledger, tenant))
        return made[-1]

    upstream.seen.clear()
    upstream.answer = lambda model, head: [told(completion(usage=USAGE))]
    yield of
    for each in made:
        each.http.close()


def test_what_the_hub_s_own_client_asks_of_a_provider_has_its_tokens_cost_and_charge(
    running: Running, upstream: Upstream, asking: Callable[[str], Asking], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(model: str, head: bytes) -> list[bytes]:
        if model == "vendor/embed":
            return [told({"data": [{"embedding": [0.5, 1.0], "index": 0}], "usage": {"prompt_tokens": 7}})]
        if model == "vendor/picture":
            made = [{"b64_json": base64.b64encode(png("x", 8, 8)).decode()}] * 2
            return [told({"data": made})]
        if is_stream(upstream):  # in one piece: the client leaves at [DONE], whether that was all or not
            return [b"".join(chunked([events(5, USAGE)]))]
        return [told(completion(usage=USAGE))]

    upstream.answer = answer
    monkeypatch.setattr(constants, "INFERENCE_PROXY_TEMPLATE", running.base + "/{provider}")
    monkeypatch.setattr(constants, "ENDPOINT", running.base)
    client = InferenceClient(provider="together", api_key=key_of("hub"))
    messages = [{"role": "user", "content": "how are you?"}]
    said = client.chat_completion(messages, model="org/chat", max_tokens=50)
    assert said.choices[0].message.content == "fine, and you?"
    chunks = list(client.chat_completion(messages, model="org/chat", max_tokens=50, stream=True))
    assert sum(1 for each in chunks if each.choices and each.choices[0].delta.content) == 5
    assert client.feature_extraction("hello", model="org/embed").tolist() == [[0.5, 1.0]]
    assert client.text_to_image("a cat", model="org/picture", extra_body={"n": 2}).size == (8, 8)
    rows = asking("hub").rows()
    figures = [
        (each["model"], each["input_tokens"], each["output_tokens"], each["images"], each["cost"]) for each in rows
    ]
    chat = 20 * READ + 5 * WROTE
    assert figures == [
        ("org/chat", 20, 5, 0, chat),
        ("org/chat", 20, 5, 0, chat),
        ("org/embed", 7, 0, 0, 7 * READ),
        ("org/picture", 0, 0, 2, 200_000_000),
    ]
    assert [each["charge"] for each in rows] == [each["cost"] * 3 // 2 for each in rows]
    assert [each["stream"] for each in rows] == [0, 1, 0, 0]
    assert not any(each["estimated"] for each in rows)
    assert {(each["billing"], each["outcome"], each["task"]) for each in rows} == {("routed", "ok", "pass-through")}


@pytest.mark.parametrize("tenant", ["plain", "fused"])
def test_streams_pass_byte_for_byte_whatever_is_counted(
    tenant: str, upstream: Upstream, asking: Callable[[str], Asking]
) -> None:
    dice = random.Random(3)
    one = asking(tenant)
    for ending in (b"", b": a comment\r\n\r\n", b"data: {no json\n\n", b"event: odd"):
        said = events(30, USAGE, "wörd\u2028 ") + ending
        upstream.answer = lambda model, head, said=said: chunked(cut(said, dice))  # type: ignore[misc]
        with one.http.stream("POST", CHAT, json={**SAY, "stream": True}) as answer:
            assert answer.read() == said
    rows = one.rows()
    assert [(each["input_tokens"], each["output_tokens"], each["estimated"]) for each in rows] == [(20, 5, 0)] * 4


def test_a_stream_that_does_not_say_what_it_used_is_estimated(
    upstream: Upstream, asking: Callable[[str], Asking]
) -> None:
    upstream.answer = lambda model, head: chunked([events(12)])
    one = asking("large")
    one.http.post(CHAT, json={**SAY, "stream": True})
    [row] = one.rows()
    assert (row["output_tokens"], row["estimated"]) == (12, 1) and row["input_tokens"] > 0
    assert row["cost"] == row["input_tokens"] * READ + 12 * WROTE


def test_usage_is_found_at_the_end_of_an_answer_of_any_size(
    upstream: Upstream, asking: Callable[[str], Asking]
) -> None:
    vector = [0.25] * 400_000
    said = {"data": [{"embedding": vector, "index": 0}], "usage": {"prompt_tokens": 9000, "total_tokens": 9000}}
    upstream.answer = lambda model, head: [told(said)]
    one = asking("large")
    answer = one.http.post("/together/v1/embeddings", json={"model": "vendor/embed", "input": "x"})
    assert answer.json() == said
    assert one.rows()[-1]["input_tokens"] == 9000 and one.rows()[-1]["cost"] == 9000 * READ


def test_ten_pictures_are_had_of_thirty_at_once(
    running: Running, upstream: Upstream, asking: Callable[[str], Asking]
) -> None:
    upstream.answer = lambda model, head: [told({"data": [{"url": "https://x/y.png"}]})]

    async def race() -> list[int]:
        headers = {"authorization": f"Bearer {key_of('ten')}"}
        async with httpx2.AsyncClient(base_url=running.base, headers=headers, timeout=20) as client:
            answers = await asyncio.gather(*(client.post(PICTURES, json=PAINT) for _ in range(30)))
        return [each.status_code for each in answers]

    statuses = asyncio.run(race())
    assert (statuses.count(200), statuses.count(402)) == (10, 20), statuses
    assert len(upstream.seen) == 10
    rows = asking("ten").rows()
    assert len(rows) == 10 and sum(each["charge"] for each in rows) == 1_000_000_000


def test_who_has_used_up_its_budget_is_told_so_and_nothing_is_sent(
    upstream: Upstream, asking: Callable[[str], Asking]
) -> None:
    one = asking("spent")
    dear = {"prompt_tokens": 10, "completion_tokens": 333_333}
    upstream.answer = lambda model, head: [told(completion(usage=dear))]
    assert one.http.post(CHAT, json={**SAY, "max_tokens": 300_000}).status_code == 200
    answer = one.http.post(CHAT, json=SAY)
    assert answer.status_code == 402 and "budget" in answer.json()["error"] and "'spent'" in answer.json()["error"]
    assert len(upstream.seen) == 1 and len(one.rows()) == 1
    assert one.http.get("/together/v1/files/1").status_code == 200  # what was paid for can be looked at


def test_a_caller_with_a_key_of_its_own_owes_nothing_and_has_no_budget_to_pass(
    upstream: Upstream, asking: Callable[[str], Asking]
) -> None:
    one = asking("stored")
    assert one.http.post(CHAT, json=SAY).status_code == 200
    [row] = one.rows()
    assert (row["billing"], row["cost"], row["charge"]) == ("direct", 20 * READ + 5 * WROTE, 0)
    assert b"tgp_v1_canaryown" in upstream.seen[-1][0]
    assert one.http.post("/fal-ai/fal-ai/slow", json={"prompt": "a cat"}).status_code == 404  # its plan's providers


def test_the_request_that_makes_a_job_is_paid_for_and_looks_at_it_are_not(
    upstream: Upstream, asking: Callable[[str], Asking]
) -> None:
    one = asking("fal")
    upstream.answer = lambda model, head: [told({"request_id": "r1", "status": "IN_QUEUE"})]
    job = "/fal-ai/fal-ai/slow"
    assert one.http.post(job, json={"prompt": "a cat", "num_images": 3}).status_code == 200
    for _ in range(3):
        assert one.http.get(f"{job}/requests/r1/status").status_code == 200
    assert one.http.put(f"{job}/requests/r1/cancel").status_code == 200
    [row] = one.rows()
    assert (row["model"], row["images"], row["cost"], row["charge"]) == ("org/film", 3, 300_000_000, 300_000_000)
    # A name in the body is none of an app's in the path.
    assert one.http.post(job, json={"prompt": "a cat", "model": "free", "num_images": 8}).status_code == 402


def test_an_answer_that_failed_costs_nothing(upstream: Upstream, asking: Callable[[str], Asking]) -> None:
    one = asking("fails")
    said = {"error": {"message": "no", "code": "boom"}, "usage": USAGE}
    upstream.answer = lambda model, head: [told(said, 500)]
    answer = one.http.post(CHAT, json=SAY)
    assert answer.status_code == 500 and answer.json() == said
    [row] = one.rows()
    assert (row["outcome"], row["status"], row["cost"], row["charge"]) == ("error", 500, 0, 0)


def test_who_leaves_pays_for_what_was_asked_and_said_as_far_as_that_can_be_told(
    upstream: Upstream, asking: Callable[[str], Asking]
) -> None:
    one = asking("leaves")
    upstream.answer = lambda model, head: chunked([events(40)])[:-1]  # and never ends
    with one.http.stream("POST", CHAT, json={**SAY, "stream": True}) as answer:
        next(answer.iter_bytes())
    upstream.answer = lambda model, head: None
    for path, body in ((CHAT, SAY), (PICTURES, {**PAINT, "n": 2})):
        with pytest.raises(httpx2.ReadTimeout):
            one.http.post(path, json=body, timeout=0.2)
    streamed, chat, picture = one.rows()
    assert {each["outcome"] for each in (streamed, chat, picture)} == {"client_gone"}
    assert all(each["estimated"] for each in (streamed, chat, picture))
    assert streamed["output_tokens"] >= 40 and streamed["cost"] > 40 * WROTE
    assert chat["input_tokens"] > 0 and chat["cost"] == chat["input_tokens"] * READ
    assert (picture["images"], picture["cost"]) == (2, 200_000_000)


def test_a_stream_ends_where_its_tokens_do(upstream: Upstream, asking: Callable[[str], Asking]) -> None:
    one = asking("tight")
    upstream.answer = lambda model, head: chunked([each + b"\n\n" for each in events(400).split(b"\n\n")[:-1]])
    answer = one.http.post(CHAT, json={**SAY, "stream": True})
    *words, last = answer.text.rstrip().split("\n\n")
    assert 90 <= len(words) <= 101 and "[DONE]" not in answer.text
    assert "leaves no room" in json.loads(last.removeprefix("data: "))["error"]["message"]
    [row] = one.rows()
    assert row["outcome"] == "broken" and len(words) <= row["output_tokens"] <= 100
    again = one.http.post(CHAT, json={**SAY, "stream": True})
    assert again.status_code in (400, 429) and "'tight'" in again.json()["error"]
    assert len(upstream.seen) == 1


def test_the_limits_of_a_model_hold_under_its_provider_s_id_in_any_case(
    upstream: Upstream, asking: Callable[[str], Asking]
) -> None:
    one = asking("model")
    ids = ("vendor/few", "Vendor/FEW", "vendor/few")
    statuses = [one.http.post(CHAT, json={**SAY, "model": each}).status_code for each in ids]
    assert statuses == [200, 200, 429]
    answer = one.http.post("/v1/chat/completions", json={**SAY, "model": "org/few"})
    assert answer.status_code == 429 and "org/few" in answer.text


def test_a_plan_s_limits_for_some_models_hold_here_too(upstream: Upstream, asking: Callable[[str], Asking]) -> None:
    one = asking("named")
    assert [one.http.post(CHAT, json=SAY).status_code for _ in range(3)] == [200, 200, 429]
    assert one.http.post(CHAT, json={**SAY, "model": "vendor/few2"}).status_code == 200
    both = {**SAY, "model": "vendor/few2", "version": "vendor/chat"}
    assert one.http.post(CHAT, json=both).status_code == 429


def test_a_key_that_is_refused_rests_where_models_are_asked(
    upstream: Upstream, asking: Callable[[str], Asking]
) -> None:
    one = asking("refused")
    refused = told({"error": {"message": "no", "code": "invalid_api_key"}}, 401)
    upstream.answer = lambda model, head: [refused if b"1111111111" in head else told(completion(usage=USAGE))]
    odd = [one.http.post("/pool/v1/organization/users", json={}).status_code for _ in range(4)]
    assert sorted(odd) == [200, 200, 401, 401], "what the key may not have says nothing of it"
    statuses = [one.http.post("/pool/v1/chat/completions", json=SAY).status_code for _ in range(6)]
    assert statuses.count(401) == 1
    upstream.answer = lambda model, head: [told({"error": {"message": "slow"}}, 429, b"retry-after: 30\r\n")]
    answers = [one.http.post("/pool/v1/chat/completions", json=SAY) for _ in range(2)]
    assert [each.status_code for each in answers] == [429, 429]
    assert answers[1].json()["error"].startswith("All keys for the upstream 'pool'")
    assert len([head for head, _ in upstream.seen if b"2222222222" in head and b"/chat/" in head]) == 6


def test_what_a_key_may_cost_and_an_upstream_may_be_used_for_holds(
    upstream: Upstream, asking: Callable[[str], Asking]
) -> None:
    one = asking("capped")
    upstream.answer = lambda model, head: [told({"data": [{"url": "https://x/y.png"}]})]
    painting = "/capped/v1/images/generations"
    assert one.http.post(painting, json=PAINT).status_code == 200
    written_off = one.http.post(painting, json=PAINT)
    for _ in range(400):  # what a key has left is looked at four times a second
        if written_off.status_code != 200:
            break
        written_off = one.http.post(painting, json=PAINT)
    assert written_off.status_code == 429
    assert one.http.get("/capped/v1/jobs/1").status_code == 200  # what it has paid for can be looked at
    upstream.answer = lambda model, head: [told(completion(usage=USAGE))]
    statuses = [one.http.post("/full/v1/chat/completions", json=SAY).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]


def test_a_price_that_nobody_knows_is_no_zero_and_is_counted(
    running: Running, upstream: Upstream, asking: Callable[[str], Asking]
) -> None:
    def unpriced() -> float:
        found = re.findall(r"^router_unpriced_\S*\{(?=[^}]*unknown)?[^}]*\} (\S+)$", metrics(running), re.MULTILINE)
        return sum(map(float, found))

    one = asking("unknown")
    before = unpriced()
    assert one.http.post(CHAT, json={**SAY, "model": "vendor/new"}).status_code == 200
    assert one.http.get("/together/v1/models").status_code == 200
    [row] = one.rows()
    assert (row["model"], row["input_tokens"], row["cost"], row["charge"]) == ("other", 20, None, None)
    assert unpriced() == before + 1


def metrics(running: Running) -> str:
    return httpx2.get(f"{running.base}/metrics").text
