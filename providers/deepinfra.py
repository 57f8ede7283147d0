"""DeepInfra, below /v1/openai."""

from providers.openai_shaped import openai_shaped
from providers.spec import CONVERSATIONAL, FEATURE_EXTRACTION, SPEECH_RECOGNITION, TEXT_GENERATION, TEXT_TO_SPEECH

PROVIDER = openai_shaped(
    "deepinfra",
    "https://api.deepinfra.com",
    prefix="/v1/openai",
    tasks=(CONVERSATIONAL, TEXT_GENERATION, FEATURE_EXTRACTION, TEXT_TO_SPEECH, SPEECH_RECOGNITION),
    env=("DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"),
    lists_models=True,
)
