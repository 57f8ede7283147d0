"""OpenAI, and every server that is compatible with it: vLLM, SGLang, llama.cpp, Ollama, LM Studio, transformers serve.

Such a server needs no file of its own: `provider: openai` and a `base_url`, written as for OpenAI's SDKs, with the
/v1 (or whatever stands for it) at its end. Hence no prefix here.
"""

from providers.openai_shaped import PATHS, openai_shaped

# `needs_key` speaks of api.openai.com only: where an upstream has a base_url of its own, the key is optional.
PROVIDER = openai_shaped(
    "openai",
    "https://api.openai.com/v1",
    prefix="",
    tasks=PATHS,
    env=("OPENAI_API_KEY",),
    # Not the bare "sk-": Anthropic, OpenRouter and DeepSeek keys begin with it too, and must not be sent to OpenAI.
    key_prefixes=("sk-proj-", "sk-svcacct-"),
    lists_models=True,
)
