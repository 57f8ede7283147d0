"""The server inside this program that answers every task deterministically, and fails on demand: every path it has."""

from providers.dialects.hf_tasks import TASKS
from providers.openai_shaped import openai_adapters
from providers.spec import TEXT_GENERATION, TOKENIZE, Adapter, Provider

PROVIDER = Provider(
    name="sandbox",
    base_url=None,
    adapters={
        **openai_adapters("/v1"),
        (TEXT_GENERATION, "huggingface"): Adapter("/"),
        **{(task, "huggingface"): Adapter(f"/pipeline/{task}") for task in TASKS},
        (TEXT_GENERATION, "tgi"): Adapter("/generate", stream_path="/generate_stream"),
        (TOKENIZE, "tgi"): Adapter("/tokenize"),
    },
    # Its TGI paths and the Hub's name no model; this is how a fault, sandbox/NAME, is asked for there too.
    headers={"x-sandbox-model": "{id}"},
    models_path="/v1/models",
    needs_key=False,
)
