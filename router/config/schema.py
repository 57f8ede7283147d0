"""The JSON Schema of config.yaml, for editors. Made from the settings; the shipped copy is held equal by a test."""

import json
from typing import Any

from router.config.model import Config
from router.secrets import HIDDEN

_VARIABLE = {"type": "string", "pattern": r"\$\{"}


def schema() -> str:
    made = Config.model_json_schema()
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["title"] = "Inference Router config.yaml"
    return json.dumps(_for_editors(made), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _for_editors(value: Any) -> Any:
    """Numbers and switches may also be variables; titles only repeat names; a hidden default is an empty one."""
    if isinstance(value, list):
        return [_for_editors(each) for each in value]
    if not isinstance(value, dict):
        return "" if value == HIDDEN else value
    made = {name: _for_editors(each) for name, each in value.items() if name != "title" or not isinstance(each, str)}
    if made.get("type") in ("integer", "number", "boolean"):
        default = {"default": made.pop("default")} if "default" in made else {}
        return {"anyOf": [made, _VARIABLE], **default}
    return made
