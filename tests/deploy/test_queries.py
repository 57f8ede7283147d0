"""Every query of the dashboard and of the alerts asks for what a server that runs really shows: each name, each label.

The server has seen traffic of every kind: good, refused, limited, broken, carried on, kept, priced and not.
"""

import contextlib
import re
import threading
from collections.abc import Iterator

import httpx2
import pytest

from tests.chaos.answers import CHAT_HEAD, DONE, LAST, answer, chunk, delta, error
from tests.chaos.answers import event as event_of
from tests.chaos.upstream import Attempt, Chaos, Step, chaos
from tests.deploy import promql, queries
from tests.deploy.stores import redis_server
from tests.running import Running, serving

ALICE, TIGHT = "hf_CanaryAlice000000000000000000000", "hf_CanaryTight000000000000000000000"

PROMETHEUS = {"up": {"job", "instance"}}  # made by Prometheus; it gives those two labels to all that it scrapes

CONFIG = """
cache: {{tasks: [feature-extraction]}}
plans:
  wide: {{requests: 1000/hour, tokens: 1000000/hour, budget: 100 USD/month}}
  one: {{concurrency: 1}}
virtual_keys: [{{name: alice, key: {alice}, plan: wide}}, {{name: tight, key: {tight}, plan: one}}]
upstreams:
  sandbox: {{provider: sandbox}}
  up:
    provider: openai
    base_url: "http://127.0.0.1:{port}/v1"
    keys: [sk-canary-good-000000000, sk-canary-bad-0000000000]
tables: []
models:
  slow: {{deployments: [{{upstream: sandbox, provider_id: sandbox/slow}}]}}
  echo: {{deployments: [{{upstream: sandbox, provider_id: sandbox/echo}}]}}
  torn: {{deployments: [{{upstream: sandbox, provider_id: sandbox/cut}}]}}
  spliced:
    deployments: [{{upstream: sandbox, provider_id: sandbox/cut}}, {{upstream: sandbox, provider_id: sandbox/echo}}]
  gone: {{deployments: [{{upstream: sandbox, provider_id: sandbox/reset}}]}}
  org/priced: {{deployments: [{{upstream: up, provider_id: priced, price: {{input: 1, output: 2}}}}]}}
  org/unpriced: {{deployments: [{{upstream: up, provider_id: priced}}]}}
stores: {{shared: "redis://127.0.0.1:{redis}/0", ledger: "sqlite:///{ledger}"}}
"""
ASKED = ("echo", "org/priced", "org/priced", "org/unpriced", "spliced", "torn", "gone", "nobody/has-it")
SPENT = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 20},
}


def priced(attempt: Attempt) -> Iterator[Step]:
    if "bad" in attempt.headers.get("authorization", ""):
        yield error(401)
        return
    lines = (
        b"x-ratelimit-limit-requests: 100\r\nx-ratelimit-remaining-requests: 40\r\nx-ratelimit-reset-requests: 60s\r\n"
    )
    yield CHAT_HEAD.replace(b"\r\n\r\n", b"\r\n" + lines + b"\r\n")
    yield chunk(delta("priced", content="hi", finish="stop"))
    yield chunk(event_of({"id": "1", "model": "priced", "choices": [], "usage": SPENT})) + chunk(DONE) + LAST


def ask(running: Running, model: str, key: str = ALICE) -> None:
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "one two three"}]}
    headers = {"authorization": f"Bearer {key}"}
    with contextlib.suppress(httpx2.HTTPError):
        httpx2.post(f"{running.base}/v1/chat/completions", json=body, headers=headers, timeout=20)


def scraped(running: Running) -> str:
    return httpx2.get(running.base + "/metrics").text


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    place = tmp_path_factory.mktemp("queries")
    upstream = Chaos({"priced": priced, "*": lambda attempt: iter((answer(404, {}),))})
    with chaos(upstream), redis_server(place) as (redis, server):
        names = {"alice": ALICE, "tight": TIGHT, "port": upstream.port, "redis": redis, "ledger": place / "ledger.db"}
        with serving(CONFIG.format(**names), place) as running:
            busy = [threading.Thread(target=ask, args=(running, "slow", TIGHT)) for _ in range(2)]
            for each in busy:
                each.start()
            for model in ASKED:
                ask(running, model)
            for _ in range(2):
                body, headers = {"inputs": "kept"}, {"authorization": f"Bearer {ALICE}"}
                httpx2.post(f"{running.base}/models/echo/pipeline/feature-extraction", json=body, headers=headers)
            for each in busy:
                each.join()
            text = scraped(running)
            server.kill()
            ask(running, "echo")
            text += scraped(running)
    found = promql.series(text) | {name: set() for name in queries.recorded()}
    for name, labels in found.items():
        labels.update({"job", "instance"} if name not in queries.recorded() else ())
    return found | PROMETHEUS


def test_every_query_asks_for_what_a_server_shows(shown: dict[str, set[str]]) -> None:
    asked = {place: promql.read(query).labels for place, query in queries.everything().items()}
    unknown = {place: name for place, wanted in asked.items() for name in wanted if name not in shown}
    assert unknown == {}
    lacking = {
        f"{place}: {name}": labels - shown[name]
        for place, wanted in asked.items()
        for name, labels in wanted.items()
        if name in shown and labels - shown[name]
    }
    assert lacking == {}


def test_what_a_server_counts_is_on_the_dashboard(shown: dict[str, set[str]]) -> None:
    drawn = {name for query in queries.of_dashboard().values() for name in promql.read(query).labels}
    counted = {re.sub("_(sum|count|bucket)$", "_bucket", name) for name in shown if name.startswith("router_")}
    assert counted - drawn == {"router_build_info"}


def test_the_dashboards_choices_are_labels_that_a_server_shows(shown: dict[str, set[str]]) -> None:
    assert {name: label for name, (metric, label) in queries.of_variables().items() if label not in shown[metric]} == {}


def test_no_legend_and_no_message_names_a_label_that_the_query_drops() -> None:
    lost = {}
    for panel in queries.panels():
        for target in panel.get("targets", ()):
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            lost[panel["title"]] = named - promql.read(target["expr"].replace("$__", "").replace("$", "")).shown
    for rule in queries.rules():
        wanted = promql.read(rule["expr"])
        named = set(re.findall(r"\$labels\.(\w+)", str(rule.get("annotations", ""))))
        lost[str(rule.get("alert"))] = named - (wanted.shown if wanted.grouped else {"instance", "job"})
    assert {place: labels for place, labels in lost.items() if labels} == {}


def test_an_alert_says_how_grave_it_is_and_what_to_do() -> None:
    alerts = [rule for rule in queries.rules() if "alert" in rule]
    assert {rule["labels"]["severity"] for rule in alerts} == {"page", "ticket"}
    assert [rule["alert"] for rule in alerts if not {"summary", "description"} <= rule["annotations"].keys()] == []
    assert len({rule["alert"] for rule in alerts}) == len(alerts)


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        ('sum by (a) (rate(m{b=~"x", c!="y"}[5m]))', {"m": {"a", "b", "c"}}),
        ("histogram_quantile(0.9, sum by (le, t) (rate(m_bucket[5m]))) > 2.5", {"m_bucket": {"le", "t"}}),
        ("(max(m) != min(n)) unless (max(resets(m[15m])) > 0)", {"m": set(), "n": set()}),
        ("sum by (a) (m) / on (a) sum by (a) (n) or vector(0)", {"m": {"a"}, "n": {"a"}}),
        ('rec:orded > 14.4 * 0.001 and up{job="x"} == 0', {"rec:orded": set(), "up": {"job"}}),
    ],
)
def test_the_reader_of_queries_sees_names_and_labels(query: str, labels: dict[str, set[str]]) -> None:
    assert promql.read(query).labels == labels
