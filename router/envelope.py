"""JSON bodies, top level only: bytes → field names with values that stay bytes, and back.

Strict where a lenient reader would let two programs see two things (FAULTS §3.1 A17, A18): doubled keys, invalid UTF-8,
NaN, nesting deeper than 64 are refused. How a doubled key is found without a second parse: msgspec keeps one value a
key, so walking the body from kept value to kept value meets exactly `key : value` pairs and then the closing brace,
unless some pair was dropped.
"""

import json
import re
from typing import Final

import msgspec

from providers.spec import Fields
from router.errors import Refused, bad_request

DEPTH: Final = 64
FORBIDDEN: Final = frozenset({"api_base", "base_url", "api_key", "custom_host", "user_config"})  # SSRF by body, A1

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode
_flag = msgspec.json.Decoder(bool).decode
_lead = re.compile(rb'[ \t\r\n]*[{,][ \t\r\n]*"(?:[^"\\]|\\.)*"[ \t\r\n]*:[ \t\r\n]*').match
_tail = re.compile(rb"[ \t\r\n]*\}[ \t\r\n]*").fullmatch
_escape = re.compile(rb"\\.", re.DOTALL)
_string = re.compile(rb'"[^"]*"')
_PLAIN: Final = bytes(byte for byte in range(256) if byte not in b'[]{}"')


def read(body: bytes, bare: str = "") -> Fields:
    """The top level of a JSON object. `bare` names the field that a body which is just a JSON string stands for."""
    try:
        body.decode()
        if bare and body.lstrip()[:1] == b'"':
            return {bare: msgspec.Raw(msgspec.json.encode(_text(body)))}
        fields = _decode(body)
    except UnicodeDecodeError:
        raise bad_request("The request body is not valid UTF-8.", code="invalid_json") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _unreadable(body, error) from None
    if body.count(b"[") + body.count(b"{") > DEPTH and _depth(body) > DEPTH:
        raise bad_request(f"The request body is nested deeper than {DEPTH} levels.", code="invalid_json")
    if _doubled(body, fields):
        raise bad_request("A field of the request body stands in it twice.", _first_doubled(body), "duplicate_field")
    if not FORBIDDEN.isdisjoint(fields):
        name = min(FORBIDDEN.intersection(fields))
        raise bad_request(f"The field '{name}' is not accepted: where a request goes is the server's to say.", name)
    return fields


def write(fields: Fields) -> bytes:
    return msgspec.json.encode(fields)


def text(fields: Fields, name: str, default: str | None = None) -> str:
    """A field that must be a string."""
    value = fields.get(name)
    if value is None:
        if default is not None:
            return default
        raise bad_request(f"The field '{name}' is required.", name, "missing_field")
    try:
        return _text(value)
    except msgspec.DecodeError:
        raise bad_request(f"The field '{name}' must be a string.", name, "invalid_type") from None


def flag(fields: Fields, name: str) -> bool:
    """A field that must be a boolean; null and absence mean false."""
    value = fields.get(name)
    if value is None:
        return False
    try:
        return _flag(value)
    except msgspec.DecodeError:
        if bytes(value) == b"null":
            return False
        raise bad_request(f"The field '{name}' must be a boolean.", name, "invalid_type") from None


def _unreadable(body: bytes, error: Exception) -> Refused:
    if not body.strip():
        return bad_request("The request body is empty; a JSON object was expected.", code="invalid_json")
    if isinstance(error, msgspec.ValidationError):
        return bad_request("The request body must be a JSON object.", code="invalid_json")
    if isinstance(error, RecursionError):
        return bad_request(f"The request body is nested deeper than {DEPTH} levels.", code="invalid_json")
    return bad_request(f"The request body is not valid JSON: {error}.", code="invalid_json")


def _doubled(body: bytes, fields: Fields) -> bool:
    # What n pairs need at least: {, n × "":, n - 1 commas, }. A body of just that length has room for no other pair.
    least = 1
    for name, value in fields.items():
        least += len(name) + len(value) + 4
    if len(body) == least:
        return False
    position = 0
    for value in fields.values():
        lead = _lead(body, position)
        if lead is None:
            return True
        position = lead.end()
        raw = bytes(value)
        if not body.startswith(raw, position):
            return True
        position += len(raw)
    return bool(fields) and _tail(body, position) is None


def _first_doubled(body: bytes) -> str | None:
    """The name of the doubled field, for the message; only walked when something is known to be wrong."""
    pairs = json.loads(body, object_pairs_hook=list, parse_int=str)  # int() refuses more than 4300 digits
    names = [name for name, _ in pairs]
    return next((name for name in names if names.count(name) > 1), None)


def _depth(body: bytes) -> int:
    """The deepest nesting. What carries no structure goes first, at C speed; strings and escapes after it."""
    bare = _escape.sub(b"", body) if b"\\" in body else body
    skeleton = _string.sub(b"", bare.translate(None, _PLAIN))
    deepest = depth = 0
    for byte in skeleton:
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest
