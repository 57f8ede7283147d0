"""OpenAI's `response_format` as the providers want it that spell a JSON Schema another way.

Each function takes and returns the top-level fields of a chat request. What is not OpenAI's json_schema form, or not
readable at all, goes on as it came: the provider's own refusal says best what it wanted. The schema itself is never
parsed.
"""

import msgspec

from providers.spec import Fields, raw


class JsonSchema(msgspec.Struct):
    schema: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class ResponseFormat(msgspec.Struct):
    type: str = ""
    json_schema: JsonSchema | None = None
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # TGI's own spelling


def read(fields: Fields) -> ResponseFormat | None:
    """The caller's response_format; None where there is none or it is not an object of that form."""
    found = fields.get("response_format")
    if found is None:
        return None
    try:
        return msgspec.json.decode(found, type=ResponseFormat | None)
    except msgspec.ValidationError:
        return None


def schema_of(fields: Fields) -> msgspec.Raw | None:
    """The schema inside OpenAI's json_schema form, still bytes."""
    wanted = read(fields)
    if wanted is None or wanted.type != "json_schema" or wanted.json_schema is None:
        return None
    schema = wanted.json_schema.schema
    return None if schema is msgspec.UNSET else schema


def as_json_object(fields: Fields) -> Fields:
    """`{"type": "json_object", "schema": S}`: Fireworks and Cohere."""
    schema = schema_of(fields)
    return fields if schema is None else fields | {"response_format": raw({"type": "json_object", "schema": schema})}


def as_flat_json_schema(fields: Fields) -> Fields:
    """`{"type": "json_schema", "schema": S}`: Together."""
    schema = schema_of(fields)
    return fields if schema is None else fields | {"response_format": raw({"type": "json_schema", "schema": schema})}


def as_tgi_grammar(fields: Fields) -> Fields:
    """`{"type": "json_object", "value": S}`: TGI, and the Hub's own servers, which speak its form."""
    schema = schema_of(fields)
    return fields if schema is None else fields | {"response_format": raw({"type": "json_object", "value": schema})}
