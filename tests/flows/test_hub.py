"""The Hub's own client asks the running server what it would ask the Hub; JavaScript's questions go as they are."""

import os
import subprocess
import sys
from collections.abc import Iterator

import httpx2
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from tests.flows.raw import Upstream, full, listening
from tests.running import KEY, Running, serving

POOR = "hf_CanaryVirtualKeyOfBob00000000000"
CHAT = b"""{"id": "c", "object": "chat.completion", "created": 1, "model": "up", "choices": [{"index": 0,
"finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
"usage": {"prompt_tokens": 3, "completion_tokens": 20, "total_tokens": 23}}"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    upstream = Upstream(answer=lambda model, head: [full(200, CHAT)])
    with listening(upstream):
        yield upstream


@pytest.fixture(scope="module")
def running(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    config = f"""
plans: {{pro: {{}}, poor: {{not_models: ["secret/*"]}}}}
virtual_keys: [{{name: alice, key: {KEY}, plan: pro}}, {{name: bob, key: {POOR}, plan: poor}}]
upstreams:
  groq: {{provider: groq, keys: [sk-canary-groq-00000], base_url: "http://127.0.0.1:{upstream.port}/openai"}}
  vllm: {{provider: openai, base_url: "http://127.0.0.1:{upstream.port}/v1"}}
tables: []
models:
  org/chat: {{task: conversational, deployments: [{{upstream: groq, provider_id: g-chat}}, {{upstream: vllm}}]}}
  org/mine: {{task: conversational, deployments: [{{upstream: vllm}}]}}
  secret/one: {{task: conversational, deployments: [{{upstream: vllm}}]}}
  org/vec: {{task: feature-extraction, deployments: [{{upstream: vllm}}]}}
default_models: {{conversational: org/mine}}
"""
    with serving(config, tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def hub(running: Running) -> HfApi:
    return HfApi(endpoint=running.base, token=False)


def test_the_python_client_finds_who_serves_a_model_without_a_token(hub: HfApi) -> None:
    info = hub.model_info("org/chat", expand=["inferenceProviderMapping"])
    assert info.inference_provider_mapping is not None
    told = [(each.provider, each.provider_id, each.task, each.status) for each in info.inference_provider_mapping]
    assert told == [
        ("groq", "g-chat", "conversational", "live"),
        ("hf-inference", "org/chat", "conversational", "live"),
    ]


def test_the_python_client_finds_what_a_model_is_for(hub: HfApi) -> None:
    info = hub.model_info("org/chat")
    assert (info.pipeline_tag, info.tags) == ("text-generation", ["text-generation", "conversational"])
    assert hub.model_info("org/chat", expand=["inference"]).inference == "warm"


def test_a_model_that_nobody_has_is_the_hubs_not_found(hub: HfApi) -> None:
    with pytest.raises(RepositoryNotFoundError):
        hub.model_info("nobody/has-it", expand=["inferenceProviderMapping"])


def test_what_a_plan_keeps_from_a_tenant_is_not_there_for_it(running: Running) -> None:
    bobs = HfApi(endpoint=running.base, token=POOR)
    with pytest.raises(RepositoryNotFoundError):
        bobs.model_info("secret/one")
    assert "secret/one" not in [each.id for each in bobs.list_models(inference_provider="all")]


def test_lists_go_on_over_pages_and_need_a_key(running: Running, hub: HfApi) -> None:
    alices = HfApi(endpoint=running.base, token=KEY)
    whole = list(alices.list_models(inference_provider="all", expand=["inferenceProviderMapping"]))
    assert [each.id for each in whole] == ["org/chat", "org/mine", "org/vec", "secret/one"]
    assert whole[0].inference_provider_mapping is not None and whole[0].inference_provider_mapping[0].provider == "groq"
    assert [each.id for each in alices.list_models(inference_provider=["groq", "together"])] == ["org/chat"]
    assert [each.id for each in alices.list_models(pipeline_tag="feature-extraction")] == ["org/vec"]
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        list(hub.list_models(inference_provider="all"))

    url: str | None = f"{running.base}/api/models?limit=1&expand[]=pipeline_tag&search=org"
    ids = []
    while url is not None:
        answer = httpx2.get(url, headers={"authorization": f"Bearer {KEY}"})
        (model,) = answer.json()
        assert set(model) == {"_id", "id", "modelId", "pipeline_tag"}
        ids.append(model["id"])
        url = answer.links.get("next", {}).get("url")
    assert ids == ["org/chat", "org/mine", "org/vec"]


@pytest.mark.parametrize("query", ["limit=many", "limit=-1", "cursor=%FF", "cursor=!"])
def test_a_page_that_cannot_be_is_said_to_be_none(running: Running, query: str) -> None:
    answer = httpx2.get(f"{running.base}/api/models?{query}", headers={"authorization": f"Bearer {KEY}"})
    assert answer.status_code == 400 and isinstance(answer.json()["error"], str)


def test_a_tenant_is_who_its_key_says(running: Running, hub: HfApi) -> None:
    told = hub.whoami(token=KEY)
    assert (told["name"], told["isPro"], told["auth"]["accessToken"]["role"]) == ("alice", True, "fineGrained")
    assert hub.whoami(token=POOR)["isPro"] is False
    answer = httpx2.get(f"{running.base}/api/whoami-v2", headers={"authorization": "Bearer hf_canary_not_one_of_ours"})
    assert (answer.status_code, answer.json()) == (401, {"error": "Invalid credentials in Authorization header"})


def test_javascripts_questions_are_answered(running: Running) -> None:
    for headers in ({}, {"authorization": f"Bearer {KEY}"}, {"authorization": "Bearer hf_canary_of_the_hub_itself"}):
        answer = httpx2.get(f"{running.base}/api/models/org/chat?expand[]=inferenceProviderMapping", headers=headers)
        assert list(answer.json()["inferenceProviderMapping"]) == ["groq", "hf-inference"]
    missing = httpx2.get(f"{running.base}/api/models/no/no?expand[]=inferenceProviderMapping")
    assert (missing.status_code, missing.headers["x-error-code"]) == (404, "RepoNotFound")
    tasks = httpx2.get(f"{running.base}/api/tasks").json()
    assert tasks["conversational"]["models"] == [{"id": "org/mine"}] and "feature-extraction" not in tasks
    mine = httpx2.get(f"{running.base}/api/tasks", headers={"authorization": f"Bearer {KEY}"}).json()
    assert mine["feature-extraction"]["models"] == [{"id": "org/vec"}]


def test_the_serverless_apis_states_are_told(running: Running) -> None:
    state = httpx2.get(f"{running.base}/status/org/chat").json()
    assert state == {
        "loaded": True, "state": "Loaded", "compute_type": "gpu", "framework": "text-generation-inference",
    }  # fmt: skip
    assert httpx2.get(f"{running.base}/status/no/no").json() == {"error": "Model no/no does not exist"}
    listed = httpx2.get(
        f"{running.base}/framework/sentence-transformers", headers={"authorization": f"Bearer {KEY}"}
    ).json()
    assert [(each["model_id"], each["task"]) for each in listed] == [("org/vec", "feature-extraction")]


# What the README says: HF_ENDPOINT moves the look-ups; where the request goes is a constant in the client.
CLIENT = """
import sys
from huggingface_hub import constants
constants.INFERENCE_PROXY_TEMPLATE = constants.ENDPOINT + "/{provider}"
from huggingface_hub import InferenceClient
client = InferenceClient(provider=sys.argv[1], api_key=sys.argv[2])
print(client.chat_completion([{"role": "user", "content": "hi"}], model="org/chat").choices[0].message.content)
"""


@pytest.mark.parametrize("named", ["groq", "hf-inference"])
def test_a_client_that_names_a_provider_flows_through(running: Running, upstream: Upstream, named: str) -> None:
    upstream.seen.clear()
    command = [sys.executable, "-c", CLIENT, named, KEY]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_ENDPOINT": running.base})
    assert done.stdout == "Hello.\n", done.stderr
    head, body = upstream.seen[-1]
    assert b"canary-groq" in head.lower() and b'"g-chat"' in body


def test_what_was_measured_stands_in_the_list_of_models(running: Running) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    body = {"model": "org/mine", "messages": [{"role": "user", "content": "hi"}]}
    assert httpx2.post(f"{running.base}/v1/chat/completions", headers=headers, json=body).status_code == 200
    (place,) = httpx2.get(f"{running.base}/v1/models/org/mine", headers=headers).json()["providers"]
    assert place["first_token_latency_ms"] >= 0
