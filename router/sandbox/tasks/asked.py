"""What a task's request holds: `inputs`, `parameters`, a file. And the head that goes with its answer.

Read as the Serverless API did: a file is the whole body, or base64 in the JSON; a field of a question may stand below
`inputs` or at the top. A refusal names the field.
"""

from typing import Any, Final

import msgspec

from providers.media import from_base64, from_data_url
from router.sandbox import fields as read
from router.sandbox.exchange import Ask, Reply, json_reply

COMPUTE: Final = (("x-compute-type", "cpu"), ("x-compute-time", "0.001"))


def fields_of(body: bytes) -> dict[str, Any]:
    """A JSON body: an object, or a string, which is the inputs."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return read.json_object(body)  # in its words
    return {"inputs": value} if isinstance(value, str) else read.json_object(body)


def parameters(ask: Ask) -> dict[str, Any]:
    return read.mapping(ask.fields, "parameters")


def text(ask: Ask) -> str:
    said = read.text(ask.fields, "inputs")
    if not said:
        raise read.invalid("inputs", "the text is empty.")
    return said


def texts(ask: Ask) -> list[str]:
    """One text, or several."""
    value = read.need(ask.fields, "inputs")
    if isinstance(value, str):
        return [text(ask)]
    return strings(ask.fields, "inputs")


def several(ask: Ask) -> bool:
    """Whether `inputs` is a list, and so the answer one of answers."""
    return isinstance(ask.fields.get("inputs"), list)


def strings(fields: read.Fields, name: str) -> list[str]:
    """Texts, at least one of them, none empty."""
    value = read.need(fields, name)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise read.wrong_type(name, "an array of strings", value)
    if not value or not all(value):
        raise read.invalid(name, "there is no text, or an empty one.")
    return value


def labels(ask: Ask) -> list[str]:
    """`candidate_labels`: a list, or one string with commas."""
    given = parameters(ask)
    value = given.get("candidate_labels")
    if isinstance(value, str):
        value = [label.strip() for label in value.split(",")]
    return strings({"candidate_labels": value}, "candidate_labels")


def parts(ask: Ask) -> dict[str, Any]:
    """`inputs` as an object; where it is none, what else stands at the top."""
    value = ask.fields.get("inputs")
    if isinstance(value, dict):
        return value
    return {name: each for name, each in ask.fields.items() if name not in ("parameters", "options")}


def file(ask: Ask, *names: str) -> bytes:
    """A file's bytes: the body's own, or base64 under the first of the names that is there; `inputs` is always one."""
    if ask.content:
        return ask.content
    within = parts(ask)
    name = next((name for name in names if within.get(name) is not None), "inputs")
    return decoded(read.need(within, name), name)


def file_or_none(ask: Ask, *names: str) -> bytes | None:
    within = parts(ask)
    if ask.content or any(within.get(name) is not None for name in (*names, "inputs")):
        return file(ask, *names)
    return None


def decoded(value: Any, name: str) -> bytes:
    if not isinstance(value, str):
        raise read.wrong_type(name, "a string of base64", value)
    try:
        data = (from_data_url(value) if value.startswith("data:") else from_base64(value)).data
    except ValueError:
        raise read.invalid(name, "not base64.") from None
    if not data:
        raise read.invalid(name, "the file is empty.")
    return data


def answer(value: Any) -> Reply:
    return json_reply(value, headers=COMPUTE)


def media(data: bytes, content_type: str) -> Reply:
    return Reply(data, content_type=content_type, headers=COMPUTE)
