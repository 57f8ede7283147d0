"""Hyperbolic: chat in OpenAI's shape, images in fields of its own."""

from providers.files import blob_of, json_body, renamed
from providers.openai_shaped import openai_adapters
from providers.spec import CONVERSATIONAL, OWN, TEXT_TO_IMAGE, Adapter, Ask, Play, Provider, Result, Send


def text_to_image(ask: Ask) -> Play:
    """A width and a height must be there, and the Hub's callers need not give them."""
    parameters = renamed(ask.parameters, {"num_inference_steps": "steps", "guidance_scale": "cfg_scale"})
    body = {"prompt": ask.inputs, "width": 512, "height": 512, **parameters, "model_name": ask.provider_id}
    reply = yield Send("/v1/images/generations", json_body(body))
    return Result(blob_of(reply.json()["images"][0]["image"]))


PROVIDER = Provider(
    name="hyperbolic",
    base_url="https://api.hyperbolic.xyz",
    adapters={
        **openai_adapters("/v1", (CONVERSATIONAL,)),
        (TEXT_TO_IMAGE, OWN): Adapter(play=text_to_image),
    },
    env=("HYPERBOLIC_API_KEY",),
    models_path="/v1/models",
)
