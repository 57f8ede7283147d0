"""What an upstream's headers say of waiting, and of how much a key has left: parsed here and nowhere else.

`hint_of` is read where an answer refuses; `room_of` of every answer that has such headers, so it looks first at
whether there is one at all. Both are pure: the time is passed in. Nothing said here is believed for over an hour.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import product
from typing import Final, NamedTuple

LONGEST: Final = 3600.0
LOW: Final = 0.5  # of a limit: with more than that left, a key counts as whole
UNTOLD: Final = 10.0  # seconds until a limit is whole again, where nobody says
UNREAD: Final = 3.0
_EPOCH: Final = 1e8  # a reset above that is a moment, not a while
_MILLISECONDS: Final = 1e11  # and above that a moment in them (OpenRouter)

Fields = Mapping[bytes, bytes]


class Room(NamedTuple):
    """What is left of a key's tightest limit: a share of it, until it is whole again in so many seconds."""

    share: float
    resets: float
    of: str  # requests, tokens, …


def _named() -> dict[bytes, tuple[str, bytes, bytes]]:
    """A header that says what is left → of what, and the headers that say of how much, and until when."""
    found: dict[bytes, tuple[str, bytes, bytes]] = {
        b"ratelimit-remaining": ("requests", b"ratelimit-limit", b"ratelimit-reset"),
        b"x-ratelimit-remaining": ("requests", b"x-ratelimit-limit", b"x-ratelimit-reset"),
        b"x-tokenlimit-remaining": ("tokens", b"x-tokenlimit-limit", b"x-tokenlimit-reset"),  # Together
    }
    kinds = ["requests", "tokens", "input-tokens", "output-tokens", "tokens-prompt", "tokens-generated"]
    kinds += [f"{kind}-{span}" for kind, span in product(("requests", "tokens"), ("minute", "hour", "day"))]
    for kind in kinds:
        stem = b"x-ratelimit-%b-" + kind.encode()
        found[stem % b"remaining"] = (kind, stem % b"limit", stem % b"reset")
    for kind in ("requests", "tokens", "input-tokens", "output-tokens"):
        stem = b"anthropic-ratelimit-" + kind.encode()
        found[stem + b"-remaining"] = (kind, stem + b"-limit", stem + b"-reset")
    return found


_LEFT: Final = _named()
_POLICED: Final = b"ratelimit"  # IETF: all of it in one, `"api";r=0;t=55`
NAMES: Final = frozenset({*_LEFT, _POLICED})
says_nothing: Final = NAMES.isdisjoint  # of an answer's fields: none of these is there


def room_of(fields: Fields, wall: float) -> Room | None:
    """The tightest of the limits told of; None where none could be read. `wall`: Unix time."""
    least, found = 2.0, b""
    for name in NAMES.intersection(fields):
        if name != _POLICED:
            share = _share(fields[name], fields.get(_LEFT[name][1]))
            if share < least:
                least, found = share, name
    policed = _policed(fields) if _POLICED in fields else None
    if policed is not None and policed.share < least:
        return policed
    if not found:
        return None
    kind, _, reset = _LEFT[found]
    return Room(least, 0.0 if least >= LOW else _resets(fields, reset, wall), kind)


def _share(left: bytes, limit: bytes | None) -> float:
    """Of the limit; UNREAD where it cannot be read."""
    try:
        remaining = float(left)
        whole = float(limit) if limit else 0.0
    except ValueError:
        return _share(left, limit.partition(b",")[0]) if limit and b"," in limit else UNREAD  # `100, 100;w=60`
    if 0.0 < remaining < whole < math.inf:
        return remaining / whole
    if remaining <= 0.0:
        return 0.0
    return 1.0 if whole < math.inf and remaining < math.inf else UNREAD  # of an unknown limit nobody knows how near


def _resets(fields: Fields, name: bytes, wall: float) -> float:
    said = reset_of(fields[name], wall) if name in fields else None
    if said is None:
        said = hint_of([*fields.items()])
    return UNTOLD if said is None else said


def reset_of(value: bytes, wall: float) -> float | None:
    """Seconds until then, of `55`, `6m0s`, `120ms`, a moment in Unix time (also in milliseconds) or in RFC 3339."""
    text = value[:128].decode("latin-1").strip()
    seconds = None if text[4:5] == "-" and text[10:11] == "T" else _span(text)
    if seconds is None:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - wall
    elif seconds > _EPOCH:
        seconds = (seconds / 1000 if seconds > _MILLISECONDS else seconds) - wall
    return _usable(seconds)


def _policed(fields: Fields) -> Room | None:
    """IETF `ratelimit: "api";r=9;t=55`, its limit in `ratelimit-policy: "api";q=100;w=60`; before that
    `limit=100, remaining=9, reset=55`. Of several policies the one with the smallest share.
    """
    value = fields[_POLICED][:512].decode("latin-1")
    if "remaining=" in value:
        told = dict(each.strip().partition("=")[::2] for each in value.replace(";", ",").split(","))
        found = [_one_policy(told.get("remaining", ""), told.get("limit", ""), told.get("reset", ""))]
    else:
        policies = fields.get(b"ratelimit-policy", b"")[:512].decode("latin-1").split(",")
        quotas = {_policy(each): _parameters(each).get("q", "") for each in policies}
        only = next(iter(quotas.values())) if len(quotas) == 1 else ""
        found = []
        for each in value.split(","):
            told = _parameters(each)
            found.append(_one_policy(told.get("r", ""), quotas.get(_policy(each), only), told.get("t", "")))
    return min((each for each in found if each is not None), default=None)


def _policy(item: str) -> str:
    """The name of a policy: the last quoted word (the Hub puts the kind of policy before it)."""
    return item.rpartition('"')[0].rpartition('"')[2]


def _parameters(item: str) -> dict[str, str]:
    return dict(each.strip().partition("=")[::2] for each in item.split(";"))


def _one_policy(left: str, limit: str, reset: str) -> Room | None:
    share = _share(left.encode(), limit.encode())
    if share == UNREAD:
        return None
    seconds = _number(reset)
    return Room(share, (_usable(seconds) if seconds is not None else None) or UNTOLD, "requests")


def hint_of(headers: list[tuple[bytes, bytes]]) -> float | None:
    """Seconds that the upstream asks us to wait, from the forms in use; None where it says nothing usable.

    `retry-after-ms`, `retry-after` in seconds (also fractions) or as an HTTP date (read against its own `date`),
    `x-ratelimit-reset-*` (`6m0s`, `1s`) of what is used up, IETF `ratelimit: "api";r=0;t=55`.
    """
    found = {
        name: value.decode("latin-1").strip()[:128] for name, value in headers if name in _HINTS or name == b"date"
    }
    for name, factor in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        seconds = _number(found.get(name, ""))
        if seconds is not None:
            return _usable(seconds * factor)
    if b"retry-after" in found:
        return _usable(_until(found[b"retry-after"], found.get(b"date", "")))
    for left in ("0", None):  # of what is used up first; what has some left is not what it refuses for
        for name, remaining in _RESETS.items():
            if name in found and found.get(remaining) == left:
                return _usable(_from(found[name], found.get(b"date", "")))
    if b"ratelimit" in found:
        parts = _parameters(found[b"ratelimit"])
        return _usable(_number(parts.get("t", "")) if parts.get("r") == "0" else None)
    return None


_RESETS: Final = {
    b"x-ratelimit-reset-requests": b"x-ratelimit-remaining-requests",
    b"x-ratelimit-reset-tokens": b"x-ratelimit-remaining-tokens",
    b"x-ratelimit-reset": b"x-ratelimit-remaining",
}
_HINTS: Final = frozenset({b"retry-after-ms", b"retry-after", b"ratelimit", *_RESETS, *_RESETS.values()})
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _usable(seconds: float | None) -> float | None:
    """Nothing below a moment, and never more than an hour: what is asked for beyond it is asked for in error."""
    return min(seconds, LONGEST) if seconds is not None and seconds > 0.0 else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) or "_" in text else value


def _until(date: str, now: str) -> float | None:
    try:
        return (parsedate_to_datetime(date) - parsedate_to_datetime(now)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _from(text: str, date: str) -> float | None:
    """A reset as a while, or as a moment in Unix time, read against the server's own date."""
    seconds = _span(text)
    if seconds is None or not _EPOCH < seconds < math.inf:
        return seconds
    try:
        now = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (seconds / 1000 if seconds > _MILLISECONDS else seconds) - now


def _span(text: str) -> float | None:
    """`6m0s`, `1.5s`, `20ms`, or plain seconds."""
    plain = _number(text)
    if plain is not None:
        return plain
    if text[-1:] == "s" and text[-2:] != "ms" and (plain := _number(text[:-1])) is not None:
        return plain  # as it is most often
    total = 0.0
    number = ""
    position = 0
    while position < len(text):
        if text[position] in "0123456789.":
            number += text[position]
            position += 1
            continue
        unit = next((each for each in ("ms", "s", "m", "h", "d") if text.startswith(each, position)), "")
        value = _number(number)
        if not unit or value is None:
            return None
        total += value * _UNITS[unit]
        number = ""
        position += len(unit)
    return None if number else total
