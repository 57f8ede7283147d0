"""Jobs in queues, through pass-through: the Hub's client asks after them where it first asked, which is here."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import InferenceClient, constants

from tests.clients.provider_servers import FILM, providers
from tests.running import KEY, serving

KEYS = {"fal-ai": "CanaryFalKey00000000000000", "wavespeed": "CanaryWavespeedKey00000000"}
IDS = {"fal-ai": "fal-ai/films/video", "wavespeed": "vendor/films/video"}
ASKED = {
    f"Key {KEYS['fal-ai']}": [
        ("POST", "/fal-ai/films/video"),
        ("GET", "/fal-ai/films/requests/1/status"),
        ("GET", "/fal-ai/films/requests/1/status"),
        ("GET", "/fal-ai/films/requests/1"),
    ],
    f"Bearer {KEYS['wavespeed']}": [("POST", "/api/v3/vendor/films/video"), ("GET", "/api/v3/predictions/1/result")],
}


def config(elsewhere: str) -> str:
    models = {
        f"org/of-{name}": {"task": "text-to-video", "deployments": [{"upstream": name, "provider_id": known}]}
        for name, known in IDS.items()
    }
    upstreams = {name: {"provider": name, "base_url": elsewhere, "keys": [key]} for name, key in KEYS.items()}
    return json.dumps({"virtual_keys": [{"name": "alice", "key": KEY}], "upstreams": upstreams, "models": models})


def test_films_are_waited_for_here_and_asked_for_with_their_providers_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def filmed(name: str) -> bytes:
        client = InferenceClient(provider=name, token=KEY)  # type: ignore[arg-type]
        return client.text_to_video("a cat walks", model=f"org/of-{name}")

    with providers() as elsewhere, serving(config(elsewhere.base), tmp_path) as running:
        monkeypatch.setattr(constants, "INFERENCE_PROXY_TEMPLATE", running.base + "/{provider}")
        monkeypatch.setattr(constants, "ENDPOINT", running.base)
        with ThreadPoolExecutor() as pool:
            assert list(pool.map(filmed, IDS)) == [FILM, FILM]
        records = running.records(len(elsewhere.asked))
    asked = {key: [(method, path) for method, path, with_key in elsewhere.asked if with_key == key] for key in ASKED}
    assert asked == ASKED
    assert len(records) == len(elsewhere.asked) == 6  # every look at a job came by here, and none went past
    assert {(each["upstream"], each["tenant"], each["billing"]) for each in records} == {
        (name, "alice", "routed") for name in IDS
    }
