"""JSON web tokens: whether one was signed by whom we trust, for us, and is good now; and whom its claims name.

PyJWT (the extra `jwt`) does the arithmetic. Only algorithms of the configuration are taken, never the token's own word
for it: no `none`, no shared secret where public keys are meant. The signer's keys come by `fetch`, which is given, and
stay through an outage; a key that is not among them is looked for at most every 30 s.
"""

import asyncio
import base64
import binascii
import contextlib
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from providers.spec import Fault
from router.errors import Refused, unauthorized
from router.plans import JwtSettings

try:
    import jwt
except ImportError:  # the extra is not installed
    jwt = None  # type: ignore[assignment]

INSTALLED: Final = jwt is not None
AGAIN: Final = 30.0  # seconds between two looks for a key that is unknown
AWAY: Final = 2.0  # the same while there is no key at all
OLD: Final = 600.0  # seconds after which the keys are fetched anew: one may have been withdrawn
MOST_KEYS: Final = 64
LONGEST_NAME: Final = 200
_SAFE: Final = "@:|+=~"

Fetch = Callable[[str], Awaitable[bytes]]  # raises Unreachable


class Unreachable(Exception):
    """Who was asked gave no answer that means anything."""


class Missing(Exception):
    """PyJWT is not installed."""


class Bearer(msgspec.Struct, frozen=True):
    """Whom a token names. `expires`: Unix time."""

    tenant: str
    plan: str | None  # None: none that the configuration would have it get
    orgs: tuple[str, ...]
    expires: float


class Verifier:
    """One issuer's tokens."""

    def __init__(self, settings: JwtSettings, fetch: Fetch, now: Callable[[], float] = time.monotonic) -> None:
        if jwt is None:
            raise Missing("auth.jwt: PyJWT is not installed; pip install 'inference-router[jwt]'")
        self._settings = settings
        self._keys = _Keys(settings, fetch, now)

    def theirs(self, token: bytes) -> bool:
        """Whether it says that it is this issuer's. Of no other can anything be said."""
        return _part(token, 1).get("iss") == self._settings.issuer

    async def verify(self, token: bytes) -> Bearer:
        """Raises Refused: 401 for whatever is wrong with it, 503 where the signer's keys cannot be had."""
        head = _part(token, 0)
        algorithm = head.get("alg")
        if algorithm not in self._settings.accepted:
            raise unauthorized()
        key = await self._keys.find(head.get("kid"), algorithm)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=self._settings.leeway,
                options={"require": ["exp", "iss", "aud", self._settings.tenant]},
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            raise unauthorized() from None
        return self._bearer(claims)

    def _bearer(self, claims: Mapping[str, Any]) -> Bearer:
        settings = self._settings
        name = claims[settings.tenant]
        tenant = urllib.parse.quote(name, safe=_SAFE) if isinstance(name, str) else ""
        plan = self._plan(claims.get(settings.plan))
        if not tenant or len(tenant) > LONGEST_NAME:
            raise unauthorized()
        expires = float(claims["exp"]) + settings.leeway
        return Bearer(f"jwt:{tenant}", plan, _names(claims.get(settings.orgs)), expires)

    def _plan(self, claimed: Any) -> str | None:
        settings = self._settings
        values = claimed if isinstance(claimed, list) else [claimed]
        named = [each for each in values if isinstance(each, str) and each]
        if settings.plans:
            named = [plan for value, plan in settings.plans.items() if value in named]
        if named or settings.default_plan is not None:
            return named[0] if named else settings.default_plan
        return None


class _Keys:
    """The signer's public keys, or the one secret."""

    def __init__(self, settings: JwtSettings, fetch: Fetch, now: Callable[[], float]) -> None:
        self._settings = settings
        self._fetch = fetch
        self._now = now
        self._found: list[tuple[dict[str, Any], Any]] = []  # as it was published, and PyJWK of it
        self._tried = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def find(self, kid: object, algorithm: str) -> Any:
        if self._settings.secret:
            return self._settings.secret.reveal()
        key = self._get(kid, algorithm)
        now = self._now()
        if key is None and (self._asking is not None or now - self._tried >= (AGAIN if self._found else AWAY)):
            await asyncio.shield(self._begin())
            key = self._get(kid, algorithm)
        elif now - self._tried >= OLD:
            self._begin()
        if key is not None:
            return key
        if not self._found:
            message = "The keys that tokens are signed with cannot be had now; ask again."
            raise Refused(Fault(503, "identity_unavailable", message, retry_after=2.0))
        raise unauthorized()

    def _get(self, kid: object, algorithm: str) -> Any:
        fitting = [each for data, each in self._found if _fits(data, algorithm)]
        if kid is None:
            return fitting[0].key if len(fitting) == 1 else None
        return next((each.key for each in fitting if each.key_id == kid), None)

    def _begin(self) -> asyncio.Task[None]:
        if self._asking is None:
            self._asking = asyncio.create_task(self._refresh())
        return self._asking

    async def _refresh(self) -> None:
        try:
            with contextlib.suppress(Unreachable):
                self._found = _read(await self._fetch(await self._place()))
        finally:
            self._tried = self._now()
            self._asking = None

    async def _place(self) -> str:
        if self._settings.jwks:
            return self._settings.jwks
        issuer = self._settings.issuer
        told = _object(await self._fetch(issuer.rstrip("/") + "/.well-known/openid-configuration"))
        place = told.get("jwks_uri")
        scheme = urllib.parse.urlsplit(issuer).scheme
        if (
            told.get("issuer") != issuer
            or not isinstance(place, str)
            or not place.startswith(("https://", scheme + "://"))
        ):
            raise Unreachable
        return place


def _read(body: bytes) -> list[tuple[dict[str, Any], Any]]:
    """Those of a key set that can verify a signature; what this version does not know is passed over."""
    keys = _object(body).get("keys")
    found = []
    for each in keys[:MOST_KEYS] if isinstance(keys, list) else []:
        try:
            key = jwt.PyJWK.from_dict(each)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
            continue
        if key.public_key_use in (None, "sig") and key.key_type != "oct":
            found.append((each, key))
    if not found:
        raise Unreachable
    return found


_TYPES: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


def _fits(data: dict[str, Any], algorithm: str) -> bool:
    """Whether a key is one for that algorithm: of its type and curve, and meant for it where it says."""
    if data.get("kty") != _TYPES.get(algorithm[:2]) or data.get("alg", algorithm) != algorithm:
        return False
    return algorithm not in _CURVES or data.get("crv") == _CURVES[algorithm]


def _names(value: Any) -> tuple[str, ...]:
    found = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(each for each in found if isinstance(each, str))


def _object(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Unreachable from None


def _part(token: bytes, number: int) -> dict[str, Any]:
    """A part of a token that nobody has verified; empty where it is none."""
    try:
        part = token.split(b".")[number]
        return msgspec.json.decode(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, ValueError, IndexError):
        return {}
