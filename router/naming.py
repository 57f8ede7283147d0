"""Which models a passed-through request names: what a key's rights are held against.

Whoever reads the body in the end may be more lenient than we are, and look elsewhere first: so every name counts that
it may go by, in the body and in the path, and a body in which names cannot be told from other bytes is no request of a
key that may not have everything.
"""

import re
from collections.abc import Iterable
from typing import Final

from providers import multipart
from providers.media import sniff
from providers.spec import Provider
from router import envelope
from router.errors import bad_request
from router.uploads import boundary_of

_NAMES: Final = ("model", "model_name", "version")
_BY_PATH: Final = frozenset({"black-forest-labs", "fal-ai", "hf-inference", "novita", "replicate", "wavespeed"})
_NAMELESS: Final = frozenset({"/v1/predictions"})  # of Replicate's, with a version in the body
_REPLICATE: Final = re.compile(r"/v1/models/([^/]+/[^/]+)(?:/.*)?").fullmatch
LONGEST: Final = 512


def models(body: bytes, content_type: bytes, path: str, provider: Provider, ids: Iterable[str]) -> list[str]:
    """The provider's ids, the likeliest first. `ids`: those that are known there. Raises Refused."""
    named = [each[:LONGEST] for each in in_body(body, content_type)]
    if provider.name == "replicate":  # owner/name:version
        named = [each.partition(":")[0] if "/" in each else each for each in named]
    plain = {each.path for each in provider.adapters.values() if each.path and "{id}" not in each.path} | _NAMELESS
    if not named or (provider.name in _BY_PATH and path not in plain):
        named.append(_in_path(path, ids))
    return named


def in_body(body: bytes, content_type: bytes) -> list[str]:
    """Whatever it says it is, an object in braces is JSON."""
    if body.lstrip()[:1] == b"{":
        fields = envelope.read(body)
        return [envelope.text(fields, name) for name in _NAMES if name in fields]
    if content_type[:10].lower() == b"multipart/":
        try:
            parts = multipart.parse(body, boundary_of(content_type))
        except ValueError as error:
            raise bad_request(f"The multipart body cannot be read: {error}.", code="invalid_multipart") from None
        return [value for name, value in parts if name in _NAMES and isinstance(value, str)]
    return []


def readable(body: bytes, content_type: bytes) -> bool:
    """Whether `in_body` has seen all the names that there are: in JSON, in a form, or in a file, which has none."""
    begins = body.lstrip()[:1]
    return not body or begins == b"{" or content_type[:10].lower() == b"multipart/" or bool(sniff(body))


def _in_path(path: str, ids: Iterable[str]) -> str:
    """The longest of the known ids that stands in it; else Replicate's owner and name, else all of it."""
    folded = f"{path}/".casefold()
    known = max((each for each in ids if each and f"/{each}/".casefold() in folded), key=len, default="")
    found = _REPLICATE(path)
    return (known or (found[1] if found else path.strip("/").partition("/requests/")[0]))[:LONGEST]
