"""Nebius AI Studio (Token Factory): text in OpenAI's shape, images nearly so: a width and a height for the size."""

from providers.dialects.openai import DIALECT as OPENAI
from providers.files import json_body
from providers.openai_shaped import openai_adapters
from providers.response_format import schema_of
from providers.spec import (
    CONVERSATIONAL,
    FEATURE_EXTRACTION,
    OWN,
    TEXT_GENERATION,
    TEXT_TO_IMAGE,
    Adapter,
    Ask,
    Fields,
    Play,
    Provider,
    Send,
)


def with_guided_json(fields: Fields) -> Fields:
    """Nebius obeys a JSON Schema only as vLLM's `guided_json`, beside response_format."""
    schema = schema_of(fields)
    return fields if schema is None else fields | {"guided_json": schema}


def text_to_image(ask: Ask) -> Play:
    """`guidance_scale` is no field of theirs, and left out as huggingface_hub does."""
    parameters = {name: value for name, value in ask.parameters.items() if name != "guidance_scale"}
    if parameters.get("response_format") not in ("b64_json", "url"):
        parameters["response_format"] = "b64_json"
    body = {"prompt": ask.inputs, **parameters, "model": ask.provider_id}
    reply = yield Send("/v1/images/generations", json_body(body))
    return OPENAI.tasks[TEXT_TO_IMAGE].decode(reply, ask)


PROVIDER = Provider(
    name="nebius",
    base_url="https://api.studio.nebius.ai",
    adapters={
        **openai_adapters(
            "/v1", (CONVERSATIONAL, TEXT_GENERATION, FEATURE_EXTRACTION), {CONVERSATIONAL: with_guided_json}
        ),
        (TEXT_TO_IMAGE, OWN): Adapter(play=text_to_image),
    },
    env=("NEBIUS_API_KEY",),
    models_path="/v1/models",
)
