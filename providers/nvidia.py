"""NVIDIA's hosted NIM endpoints. Their embeddings want an `input_type` that OpenAI has not, so chat is what is here."""

from providers.openai_shaped import openai_shaped

PROVIDER = openai_shaped(
    "nvidia",
    "https://integrate.api.nvidia.com",
    env=("NVIDIA_API_KEY",),
    key_prefixes=("nvapi-",),
    lists_models=True,
)
