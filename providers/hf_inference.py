"""Hugging Face's own serverless servers, one path a model. `provider: huggingface` is the Hub's router instead."""

from providers.response_format import as_tgi_grammar
from providers.spec import CONVERSATIONAL, TEXT_GENERATION, Adapter, Provider

PROVIDER = Provider(
    name="hf-inference",
    base_url="https://router.huggingface.co/hf-inference",
    adapters={
        (CONVERSATIONAL, "openai"): Adapter("/models/{id}/v1/chat/completions", adapt=as_tgi_grammar),
        (TEXT_GENERATION, "openai"): Adapter("/models/{id}/v1/completions"),
        (TEXT_GENERATION, "huggingface"): Adapter("/models/{id}"),
    },
    env=("HF_TOKEN",),
)
