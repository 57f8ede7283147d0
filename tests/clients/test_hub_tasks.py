"""Every method of the Hub's client that has a task, against the running server: by the model, and by the path."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from providers.dialects.hf_tasks import TASKS
from providers.media import sniff
from tests.clients.hub_tasks import BYTES_AS_DATA, CHECKS, Check, checked
from tests.router.sandbox.tasks.requests import REQUESTS
from tests.running import KEY, Running, serving

pytestmark = BYTES_AS_DATA

CONFIG: dict[str, Any] = {
    "virtual_keys": [{"name": "alice", "key": KEY}],
    "upstreams": {"sandbox": {"provider": "sandbox"}},
    "models": {
        **{
            f"org/{task}": {"task": task, "deployments": [{"upstream": "sandbox", "provider_id": "sandbox/echo"}]}
            for task in TASKS
        },
        "org/any": {"deployments": [{"upstream": "sandbox", "provider_id": "sandbox/echo"}]},
    },
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(json.dumps(CONFIG), tmp_path_factory.mktemp("hub-tasks")) as running:
        yield running


@pytest.mark.parametrize("check", CHECKS)
def test_the_task_is_the_models_own(running: Running, check: Check) -> None:
    asyncio.run(checked(check, f"{running.base}/models/org/{{task}}", KEY))


@pytest.mark.parametrize("check", CHECKS)
def test_the_task_is_the_paths_where_a_model_does_any(running: Running, check: Check) -> None:
    asyncio.run(checked(check, f"{running.base}/models/org/any/pipeline/{{task}}", KEY))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("path", ["/models/org/{}", "/pipeline/{}/org/any", "/hf-inference/models/org/any/pipeline/{}"])
def test_every_task_is_answered_on_every_path(running: Running, path: str, task: str) -> None:
    body = REQUESTS[task]
    kind = (sniff(body) or "application/octet-stream") if isinstance(body, bytes) else "application/json"
    reply = httpx2.post(
        running.base + path.format(task),
        content=body if isinstance(body, bytes) else json.dumps(body),
        headers={"authorization": f"Bearer {KEY}", "content-type": kind},
    )
    assert reply.status_code == 200, reply.text
    if reply.headers["content-type"] != "application/json":
        assert reply.headers["content-type"] == sniff(reply.content)
