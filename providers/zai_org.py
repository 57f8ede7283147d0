"""Z.ai: the GLM models from their makers. Chat in OpenAI's shape, images as jobs, documents read into Markdown.

An answer of 200 may be an error: docs.z.ai/api-reference/api-code. A job cannot be cancelled there.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from providers import media
from providers.files import failed_job, input_file, json_body, media_at, polled
from providers.openai_shaped import openai_adapters
from providers.spec import (
    CONVERSATIONAL,
    IMAGE_TO_TEXT,
    OWN,
    TEXT_TO_IMAGE,
    Adapter,
    Ask,
    Failed,
    Play,
    Provider,
    Result,
    Send,
)

EVERY: Final = 5.0  # seconds between two looks at a job, as the Hub's clients have it


def text_to_image(ask: Ask) -> Play:
    parameters = dict(ask.parameters)
    if "width" in parameters and "height" in parameters:
        parameters["size"] = f"{parameters.pop('width')}x{parameters.pop('height')}"
    body = {"prompt": ask.inputs, **parameters, "model": ask.provider_id}
    reply = yield Send("/api/paas/v4/async/images/generations", json_body(body))
    job = reply.json()
    if _state(job) != "done":
        poll = Send(f"/api/paas/v4/async-result/{quote(job['id'], safe='')}", method="GET", safe=True)
        job = yield from polled(poll, _state, EVERY, first=EVERY)
    return Result(media_at(job["image_result"][0]["url"]))


def image_to_text(ask: Ask) -> Play:
    file = media.to_url(input_file(ask), "image/png")
    body = {"file": file, **ask.parameters, "model": ask.provider_id}
    reply = yield Send("/api/paas/v4/layout_parsing", json_body(body))
    answer = _checked(reply.json())
    if not isinstance(answer["md_results"], str):
        raise ValueError("no text")
    return Result({"generated_text": answer["md_results"]}, answer.get("usage"))


def _state(job: Any) -> str:
    status = _checked(job)["task_status"]
    if status == "FAIL":
        raise failed_job("Z.ai could not make the image.")
    return "done" if status == "SUCCESS" else ""


def _checked(answer: Any) -> Any:
    """The answer, if it is no error."""
    error = answer.get("error")
    if not error:
        return answer
    status, code = _ERRORS.get(str(error.get("code")), (502, "job_failed"))
    raise Failed(status, str(error.get("message")), code)


_ERRORS: Final[Mapping[str, tuple[int, str]]] = {
    **dict.fromkeys(("1000", "1001", "1002", "1003", "1004"), (401, "invalid_api_key")),
    **dict.fromkeys(("1110", "1111", "1112", "1121", "1220"), (403, "permission_denied")),
    **dict.fromkeys(("1113", "1309"), (429, "insufficient_quota")),
    **dict.fromkeys(("1302", "1303", "1304", "1305", "1308", "1310"), (429, "rate_limit_exceeded")),
    **dict.fromkeys(("1210", "1212", "1213", "1214", "1215"), (400, "invalid_request")),
    **dict.fromkeys(("1211", "1221", "1222"), (404, "model_not_found")),
    **dict.fromkeys(("1300", "1301"), (400, "content_policy_violation")),
}

PROVIDER = Provider(
    name="zai-org",
    base_url="https://api.z.ai",
    adapters={
        **openai_adapters("/api/paas/v4", (CONVERSATIONAL,)),
        (TEXT_TO_IMAGE, OWN): Adapter(play=text_to_image),
        (IMAGE_TO_TEXT, OWN): Adapter(play=image_to_text),
    },
    # Both as huggingface_hub 2.4 sends them; without the language, errors come back in Chinese.
    headers={"accept-language": "en-US,en", "x-source-channel": "hugging_face"},
    env=("ZAI_API_KEY",),
    models_path="/api/paas/v4/models",
)
