"""A stream ends where its reservation does and no more is to be had: not before, and with one error event."""

import json
from collections.abc import Iterator

import httpx2
import pytest

from tests.running import KEY, Running, serving

CONFIG = f"""
plans:
  few: {{output_tokens: 100/hour}}
  poor: {{budget: 0.0002 USD/year}}
virtual_keys:
  - {{name: few, key: {KEY}, plan: few}}
  - {{name: some, key: {KEY}1, plan: few}}
  - {{name: poor, key: {KEY}2, plan: poor}}
upstreams: {{sandbox: {{provider: sandbox}}}}
tables: []
models:
  echo: {{deployments: [{{upstream: sandbox, provider_id: sandbox/echo, price: {{input: 0, output: 2}}}}]}}
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(CONFIG, tmp_path_factory.mktemp("fuse")) as running:
        yield running


def said(running: Running, key: str, words: int, **more: object) -> tuple[int, list[dict[str, object]], bool]:
    """The status, the events as JSON, and whether [DONE] came."""
    body = {"model": "echo", "stream": True, "messages": [{"role": "user", "content": "word " * words}], **more}
    answer = httpx2.post(
        f"{running.base}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"}, timeout=30
    )
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    return answer.status_code, [json.loads(line) for line in lines if line != "[DONE]"], "[DONE]" in lines


def test_a_stream_may_write_all_that_was_reserved_for_it(running: Running) -> None:
    status, events, done = said(running, KEY, 90, max_tokens=100)
    assert status == 200 and done and not any("error" in each for each in events)


@pytest.mark.parametrize(
    ("key", "limit"), [(f"{KEY}1", "100 output tokens per hour"), (f"{KEY}2", "0.0002 USD a year")]
)
def test_a_stream_that_names_no_end_is_ended_where_its_limit_is(running: Running, key: str, limit: str) -> None:
    status, events, done = said(running, key, 500)
    assert status == 200 and not done
    error = events[-1]["error"]
    assert isinstance(error, dict)
    assert error["code"] == "budget_exceeded" and limit in str(error["message"])
    assert sum("error" in each for each in events) == 1
    words = sum(bool(each["choices"][0]["delta"].get("content")) for each in events[:-1])  # type: ignore[index]
    assert 95 <= words <= 101
    status, events, _ = said(running, key, 5)
    assert status in (402, 429), "what was written is used"
