"""hf-inference: every task that either official client asks it for, at the path where huggingface_hub asks."""

from typing import Any

import pytest
from huggingface_hub.inference import _providers
from huggingface_hub.inference._providers import hf_inference as helpers

from providers.dialects.huggingface import DIALECT
from providers.hf_inference import OF_SENTENCES, PROVIDER, TASKS
from providers.spec import CONVERSATIONAL, TEXT_GENERATION
from tests.providers.compared import WAV, tasks_of_the_hub

INPUTS: dict[type, Any] = {
    helpers.HFInferenceBinaryInputTask: WAV,
    helpers.HFInferenceTask: "hi",
    helpers.HFInferenceFeatureExtractionTask: "hi",
}
OF_THE_CLIENT = sorted(tasks_of_the_hub("hf-inference") - {CONVERSATIONAL})
ONLY_OF_HUGGINGFACE_JS = {"tabular-regression", "text-to-audio"}
ONLY_OF_THE_SCHEMAS = {"depth-estimation", "zero-shot-object-detection"}


@pytest.mark.parametrize("task", OF_THE_CLIENT)
def test_the_official_client_asks_at_the_same_path_with_the_same_headers(
    monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.setattr(helpers, "_check_supported_task", lambda model, task: None)
    helper = _providers.PROVIDERS["hf-inference"][task]
    theirs = helper.prepare_request(
        inputs=INPUTS[type(helper)], parameters={}, headers={}, model="org/model", api_key="KEY"
    )
    path = PROVIDER.adapters[task, "huggingface"].path.replace("{id}", "org/model")
    assert f"{PROVIDER.base_url}{path}" == theirs.url
    header, prefix = PROVIDER.auth
    assert theirs.headers[header] == f"{prefix}KEY"
    assert set(theirs.headers) <= {header, "user-agent", "content-type"} and not PROVIDER.headers


def test_it_has_every_task_of_both_official_clients_and_those_of_the_hubs_schemas() -> None:
    tasks = {task for task, dialect in PROVIDER.adapters if dialect == "huggingface"}
    assert tasks == {*OF_THE_CLIENT, *ONLY_OF_HUGGINGFACE_JS, *ONLY_OF_THE_SCHEMAS}
    assert len(TASKS) + len(OF_SENTENCES) == len(tasks)


@pytest.mark.parametrize("task", [*TASKS, *OF_SENTENCES])
def test_the_hubs_callers_are_relayed_and_all_others_are_read_into_the_hubs_dialect(task: str) -> None:
    adapter = PROVIDER.adapters[task, "huggingface"]
    assert adapter.adapt is None and adapter.play is None
    assert task in (DIALECT.codecs if task == TEXT_GENERATION else DIALECT.tasks)
