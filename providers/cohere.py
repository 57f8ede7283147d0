"""Cohere, by its compatibility API for OpenAI's SDKs (docs.cohere.com/docs/compatibility-api)."""

from providers.openai_shaped import openai_shaped
from providers.response_format import as_json_object
from providers.spec import CONVERSATIONAL, FEATURE_EXTRACTION, Fields, without


def chat(fields: Fields) -> Fields:
    """A JSON Schema is spelled Cohere's way; `stream_options` is refused there, and asks only for a usage chunk."""
    return without(as_json_object(fields), "stream_options")


PROVIDER = openai_shaped(
    "cohere",
    "https://api.cohere.com",
    prefix="/compatibility/v1",
    tasks=(CONVERSATIONAL, FEATURE_EXTRACTION),
    adapts={CONVERSATIONAL: chat},
    env=("COHERE_API_KEY", "CO_API_KEY"),
    # strandsagents.com/docs/user-guide/concepts/model-providers/cohere: the compatibility API rejects stream_options.
    usage_option=False,
)
