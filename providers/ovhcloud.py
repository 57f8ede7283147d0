"""OVHcloud AI Endpoints, in Europe."""

from providers.openai_shaped import openai_shaped
from providers.spec import CONVERSATIONAL, FEATURE_EXTRACTION, TEXT_GENERATION

# It answers a few requests a minute without a key; one is asked for all the same, so that no prompt leaves unasked.
PROVIDER = openai_shaped(
    "ovhcloud",
    "https://oai.endpoints.kepler.ai.cloud.ovh.net",
    # Embeddings: ovh.github.io/apache-airflow-provider-ovhcloud-ai/ai-endpoints.
    tasks=(CONVERSATIONAL, TEXT_GENERATION, FEATURE_EXTRACTION),
    env=("OVH_AI_ENDPOINTS_ACCESS_TOKEN", "OVHCLOUD_API_KEY"),
    lists_models=True,
)
