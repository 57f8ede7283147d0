"""Novita: text in OpenAI's shape below /v3/openai, its ids in lower case; videos below /v3/hf, made while one waits.

huggingface.js asks for the same videos at /v3/async and polls; huggingface_hub, which is followed here, asks once.
"""

from providers.files import json_body, media_at
from providers.openai_shaped import openai_adapters
from providers.spec import (
    CONVERSATIONAL,
    OWN,
    TEXT_GENERATION,
    TEXT_TO_VIDEO,
    Adapter,
    Ask,
    Play,
    Provider,
    Result,
    Send,
)


def text_to_video(ask: Ask) -> Play:
    reply = yield Send("/v3/hf/{id}", json_body({"prompt": ask.inputs, **ask.parameters}))
    return Result(media_at(reply.json()["video"]["video_url"], "video/mp4"))


PROVIDER = Provider(
    name="novita",
    base_url="https://api.novita.ai",
    adapters={
        **openai_adapters("/v3/openai", (CONVERSATIONAL, TEXT_GENERATION)),
        (TEXT_TO_VIDEO, OWN): Adapter(play=text_to_video),
    },
    env=("NOVITA_API_KEY",),
    models_path="/v3/openai/models",
)
