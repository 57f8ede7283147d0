"""Reading a JSON or form body the way OpenAI's servers do, and refusing it in their words, naming the field."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from router.sandbox.exchange import Wrong

Fields = Mapping[str, Any]

UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}
DURATION: Final = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(ms|s|m|)")


def json_object(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise Wrong(f"We could not parse the JSON body of your request. ({fault})") from None
    if not isinstance(value, dict):
        raise Wrong(f"Invalid type for the request body: expected an object, but got {kind(value)} instead.")
    return value


def kind(value: Any) -> str:
    """A JSON value's type with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list():
            return "an array"
    return "an object"


def missing(name: str) -> Wrong:
    return Wrong(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")


def wrong_type(name: str, expected: str, value: Any) -> Wrong:
    return Wrong(
        f"Invalid type for '{name}': expected {expected}, but got {kind(value)} instead.", name, "invalid_type"
    )


def invalid(name: str, why: str) -> Wrong:
    return Wrong(f"Invalid '{name}': {why}", name, "invalid_value")


def need(fields: Fields, name: str) -> Any:
    value = fields.get(name)
    if value is None:
        raise missing(name)
    return value


def text(fields: Fields, name: str) -> str:
    """A string that must be there."""
    value = need(fields, name)
    if not isinstance(value, str):
        raise wrong_type(name, "a string", value)
    return value


def choice(fields: Fields, name: str, *allowed: str) -> str:
    """One of a few words; the first where the field is absent."""
    value = fields.get(name)
    if value is None:
        return allowed[0]
    if value not in allowed:
        listed = ", ".join(f"'{word}'" for word in allowed)
        raise Wrong(f"Invalid value: {value!r}. Supported values are: {listed}.", name, "invalid_value")
    return str(value)


def whole(fields: Fields, name: str, least: int, most: int) -> int | None:
    """A whole number in its bounds, or None where the field is absent. Forms spell theirs as text."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(name, "an integer", value)
    if not least <= value <= most:
        raise invalid(name, f"integer out of bounds. Expected a value from {least} to {most}, but got {value} instead.")
    return value


def number(fields: Fields, name: str, least: float, most: float) -> None:
    """Refuses what is no number in its bounds; a parameter of sampling, which changes nothing here."""
    value = fields.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(name, "a decimal", value)
    if not least <= value <= most:
        raise invalid(name, f"decimal out of bounds. Expected a value from {least} to {most}, but got {value} instead.")


def flag(fields: Fields, name: str) -> bool:
    value = fields.get(name)
    if isinstance(value, str) and value in ("true", "false"):
        return value == "true"  # forms
    if value is not None and not isinstance(value, bool):
        raise wrong_type(name, "a boolean", value)
    return bool(value)


def mapping(fields: Fields, name: str) -> dict[str, Any]:
    """An object, empty where the field is absent."""
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong_type(name, "an object", value)
    return value


def stops(fields: Fields, name: str = "stop") -> tuple[str, ...]:
    """Stop sequences: one, up to four, or none."""
    value = fields.get(name)
    if value is None:
        return ()
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(stop, str) for stop in listed):
        raise wrong_type(name, "a string or an array of strings", value)
    if len(listed) > 4:
        raise invalid(name, f"array too long. Expected an array with maximum length 4, but got {len(listed)} instead.")
    return tuple(stop for stop in listed if stop)


def duration(value: Any) -> float:
    """Seconds from `20ms`, `1.5s`, `2m` or a number of seconds."""
    found = DURATION.fullmatch(str(value).strip())
    if found is None or isinstance(value, bool):
        raise invalid("x-sandbox-delay", f"expected a duration such as 20ms or 1.5s, but got {value!r} instead.")
    return float(found[1]) * UNITS[found[2]]
