"""Nscale: text and images in OpenAI's shape. Of the Hub's parameters for images it takes fewer than others."""

from providers.dialects.openai import DIALECT as OPENAI
from providers.files import json_body
from providers.openai_shaped import openai_adapters
from providers.spec import CONVERSATIONAL, OWN, TEXT_TO_IMAGE, Adapter, Ask, Play, Provider, Send


def text_to_image(ask: Ask) -> Play:
    """What Nscale has no field for is left out, as huggingface_hub does, so that it need not refuse the whole."""
    parameters = {name: value for name, value in ask.parameters.items() if name not in _UNKNOWN}
    if "width" in parameters and "height" in parameters:
        parameters["size"] = f"{parameters.pop('width')}x{parameters.pop('height')}"
    body = {"response_format": "b64_json", "prompt": ask.inputs, **parameters, "model": ask.provider_id}
    reply = yield Send("/v1/images/generations", json_body(body))
    return OPENAI.tasks[TEXT_TO_IMAGE].decode(reply, ask)


_UNKNOWN = ("num_inference_steps", "cfg_scale")

PROVIDER = Provider(
    name="nscale",
    base_url="https://inference.api.nscale.com",
    adapters={
        **openai_adapters("/v1", (CONVERSATIONAL, TEXT_TO_IMAGE)),
        (TEXT_TO_IMAGE, OWN): Adapter(play=text_to_image),
    },
    env=("NSCALE_SERVICE_TOKEN", "NSCALE_API_KEY"),
    models_path="/v1/models",
)
