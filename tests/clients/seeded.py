"""The models of the guides (callers/seeds), each served by the sandbox; and running a guide's program.

A program is the guide's own lines with the URL and the token exchanged, smart quotes and lost characters mended, and
files in place of pictures of the web. What it cannot say in that client's release is left to another program.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from router.sandbox.pictures import png
from tests.running import KEY, Running

REPLICATE_KEY = "r8_CanaryReplicateKey00000000000"
FAL_KEY = "CanaryFalKey00000000000000"
TOGETHER_KEY = "CanaryTogetherKey000000000000"
SEEDS = Path(__file__).parent / "callers" / "seeds"
TASKS = {
    "meta-llama/Meta-Llama-3-8B-Instruct": "conversational",
    "meta-llama/Meta-Llama-3.1-70B-Instruct": "conversational",
    "mistralai/Mistral-7B-Instruct-v0.3": "conversational",
    "codellama/CodeLlama-7b-hf": "text-generation",
    "codellama/CodeLlama-13b-hf": "text-generation",
    "HuggingFaceM4/idefics2-8b-chatty": "text-generation",
    "gpt2": "text-generation",
    "stabilityai/stable-diffusion-xl-base-1.0": "text-to-image",
    "stabilityai/stable-diffusion-2-1": "text-to-image",
    "prompthero/openjourney-v4": "text-to-image",
    "deepfloyd-if": "text-to-image",
    "google/vit-base-patch16-224": "image-classification",
    "BAAI/bge-small-en-v1.5": "feature-extraction",
    "paraphrase-xlm-r-multilingual-v1": "feature-extraction",
    "distilbert-base-uncased-finetuned-sst-2-english": "text-classification",
    "facebook/bart-large-mnli": "zero-shot-classification",
    "typeform/distilbert-base-uncased-mnli": "zero-shot-classification",
    "dslim/bert-base-NER": "token-classification",
    "bert-base-uncased": "fill-mask",
    "suno/bark": "text-to-speech",
}
DEFAULTS = {  # what a client takes that names a task alone
    "text-generation": "meta-llama/Meta-Llama-3-8B-Instruct",
    "text-to-image": "prompthero/openjourney-v4",
    "image-classification": "google/vit-base-patch16-224",
}


def config(elsewhere: str = "http://127.0.0.1:9") -> str:
    """`elsewhere`: where the providers of others are."""
    keys = {"replicate": REPLICATE_KEY, "fal-ai": FAL_KEY, "together": TOGETHER_KEY}
    upstreams = {name: {"provider": name, "base_url": elsewhere, "keys": [key]} for name, key in keys.items()}
    sandbox = {"upstream": "sandbox", "provider_id": "sandbox/echo"}
    schnell = {"upstream": "replicate", "provider_id": "black-forest-labs/flux-schnell"}
    models: dict[str, Any] = {
        **{name: {"task": task, "deployments": [sandbox]} for name, task in TASKS.items()},
        "black-forest-labs/FLUX.1-schnell": {"task": "text-to-image", "deployments": [schnell]},
        "black-forest-labs/FLUX.1-dev": {
            "task": "text-to-image",
            "deployments": [{"upstream": "fal-ai", "provider_id": "fal-ai/flux/dev"}],
        },
    }
    models["meta-llama/Meta-Llama-3-8B-Instruct"]["deployments"] = [
        sandbox,
        {"upstream": "together", "provider_id": "meta-llama/Llama-3-8b-chat-hf"},
    ]
    return json.dumps(
        {
            "virtual_keys": [{"name": "alice", "key": KEY}],
            "upstreams": {"sandbox": {"provider": "sandbox"}, **upstreams},
            "models": models,
            "default_models": DEFAULTS,
        }
    )


def run(command: Sequence[str | Path], running: Running, cwd: Path, **more: str) -> dict[str, Any]:
    """What a program printed last, as JSON. It sees no proxy, and no network but the router."""
    picture = cwd / "picture.png"
    picture.write_bytes(png("a picture of one's own", 32, 32))
    env = {**os.environ, "PYTHONPATH": "", "PYTHONUTF8": "1", "HF_HOME": str(cwd), "SEED_PICTURE": str(picture)}
    env |= {"ROUTER_URL": running.base, "ROUTER_KEY": KEY, "HF_TOKEN": KEY, "HF_ENDPOINT": running.base, **more}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said
