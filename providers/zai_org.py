"""Z.ai: the GLM models from their makers. An exhausted quota is 429 with the code "1113"."""

from providers.openai_shaped import openai_shaped

PROVIDER = openai_shaped(
    "zai-org",
    "https://api.z.ai",
    prefix="/api/paas/v4",
    # Both as huggingface_hub 2.4 sends them; without the language, errors come back in Chinese.
    headers={"accept-language": "en-US,en", "x-source-channel": "hugging_face"},
    env=("ZAI_API_KEY",),
    lists_models=True,
)
