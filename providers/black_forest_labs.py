"""Black Forest Labs: FLUX from its makers. Every image is a task, to be looked after at the region that took it.

docs.bfl.ai/api_integration/integration_guidelines, /errors. A task cannot be cancelled there.
"""

from typing import Any, Final
from urllib.parse import quote, urlsplit

from providers.files import failed_job, json_body, media_at, path_of, polled, renamed
from providers.spec import OWN, TEXT_TO_IMAGE, Adapter, Ask, Failed, Play, Provider, Result, Send

EVERY: Final = 1.0  # seconds between two looks at a task, as the Hub's clients have it

# The key goes to these and to no other host that an answer may name.
REGIONS: Final = tuple(
    f"https://api.{region}bfl.ai"
    for region in ("", "eu.", "us.", "eu1.", "us1.", "eu2.", "us2.", "eu3.", "us3.", "eu4.", "us4.")
)


def text_to_image(ask: Ask) -> Play:
    parameters = renamed(ask.parameters, {"num_inference_steps": "steps", "guidance_scale": "guidance"})
    reply = yield Send("/v1/{id}", json_body({"prompt": ask.inputs, **parameters}))
    task = yield from polled(_look(reply.json()["polling_url"]), _state, EVERY, first=EVERY)
    return Result(media_at(task["result"]["sample"]))


def _look(url: Any) -> Send:
    """A task is known in its region alone, so the host is believed where it is one of BFL's."""
    path = path_of(url)
    place = urlsplit(url)
    origin = f"{place.scheme}://{place.netloc}"
    if origin not in REGIONS:
        raise ValueError("a polling URL at a host that is not BFL's")
    query = f"?{quote(place.query, safe='=&%')}" if place.query else ""
    return Send(path + query, method="GET", origin=origin, safe=True)


def _state(task: Any) -> str:
    """Whatever is no end that BFL documents is on its way: its names for that have changed."""
    status = task["status"]
    if status in ("Request Moderated", "Content Moderated"):
        raise Failed(400, _said(task), "content_policy_violation")
    if status in ("Error", "Failed", "Task not found"):
        raise failed_job(_said(task))
    return "done" if status == "Ready" else ""


def _said(task: Any) -> str:
    """The status, and the reasons beside it where there are some."""
    details = task.get("details")
    reasons = details.get("Moderation Reasons") if isinstance(details, dict) else details
    if isinstance(reasons, list):
        reasons = ", ".join(map(str, reasons))
    return f"{task['status']}: {reasons}" if isinstance(reasons, str) and reasons else str(task["status"])


PROVIDER = Provider(
    name="black-forest-labs",
    base_url="https://api.us1.bfl.ai",
    adapters={(TEXT_TO_IMAGE, OWN): Adapter(play=text_to_image)},
    auth=("x-key", ""),
    env=("BFL_API_KEY",),
    origins=REGIONS,
)
