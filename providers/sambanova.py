"""SambaNova Cloud."""

import msgspec

from providers.openai_shaped import openai_shaped
from providers.response_format import schema_of
from providers.spec import CONVERSATIONAL, FEATURE_EXTRACTION, Fields, raw


def without_strict(fields: Fields) -> Fields:
    """A strict JSON Schema is refused there, and strict is its default: it must be switched off by name."""
    if schema_of(fields) is None:
        return fields
    wanted = msgspec.json.decode(fields["response_format"], type=Fields)
    json_schema = msgspec.json.decode(wanted["json_schema"], type=Fields)
    if bytes(json_schema.get("strict", raw(None))) not in (b"true", b"null"):
        return fields
    json_schema["strict"] = raw(False)
    return fields | {"response_format": raw(wanted | {"json_schema": raw(json_schema)})}


PROVIDER = openai_shaped(
    "sambanova",
    "https://api.sambanova.ai",
    tasks=(CONVERSATIONAL, FEATURE_EXTRACTION),
    adapts={CONVERSATIONAL: without_strict},
    env=("SAMBANOVA_API_KEY",),
    lists_models=True,
)
