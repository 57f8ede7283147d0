"""The Hub's own router: every Inference Provider of the Hub behind one key, chosen by the id's suffix."""

from providers.openai_shaped import openai_shaped
from providers.spec import CONVERSATIONAL, RESPONSES

PROVIDER = openai_shaped(
    "huggingface",
    "https://router.huggingface.co",
    # Responses (beta): huggingface.co/docs/inference-providers/guides/responses-api.
    tasks=(CONVERSATIONAL, RESPONSES),
    env=("HF_TOKEN",),
    key_prefixes=("hf_",),
    lists_models=True,
)
