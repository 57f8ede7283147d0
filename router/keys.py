"""Keys: the virtual ones that we gave out and know callers by.

Virtual keys are compared by the SHA-256 of the whole value, looked up in a dict: they are long and random, so neither a
salt nor a slow hash would add anything, and nothing is ever compared by prefix. Whatever is wrong with a credential,
the answer is the same 401 (FAULTS §3.1 A11). This file refuses to say who may listen where: that is the
configuration's.
"""

import fnmatch
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self

from cachetools import LRUCache
from pydantic import AfterValidator, Field, model_validator

from providers.spec import Fault
from router.errors import Refused, bad_request, unauthorized
from router.secrets import Secret
from router.settings import Duration, Money, Rate, Settings

ANONYMOUS: Final = "anonymous"
SHORTEST_KEY: Final = 20
LONGEST_CREDENTIAL: Final = 4096  # providers' JSON web tokens run to a few kilobytes
KEPT: Final = 4096  # credentials whose owner is remembered

Headers = list[tuple[bytes, bytes]]
_NO_KEYS: Final[Mapping[str, Secret]] = MappingProxyType({})


def _long_enough(secret: Secret) -> Secret:
    if secret and len(secret.reveal()) < SHORTEST_KEY:
        raise ValueError(f"has fewer than {SHORTEST_KEY} characters; `inference-router keys create` makes one")
    return secret


OwnKey = Annotated[Secret, AfterValidator(_long_enough)]


class AuthSettings(Settings):
    """Who is let in."""

    mode: Literal["open", "keys"] = "keys"  # open: also callers without a key
    admin_key: OwnKey = Secret("")  # opens /metrics and /admin to callers who are not on loopback
    user_keys: bool = False  # a bearer that is no virtual key is the caller's own provider key
    ttl: Duration = 600.0  # how long an answer of the Hub about a token is believed


class PlanSettings(Settings):
    """What a tenant may do. Patterns are of model ids: `*` any text, `?` one character, upper or lower case alike."""

    requests: Rate | None = None
    tokens: Rate | None = None
    concurrency: int | None = Field(default=None, ge=1)
    budget: Money | None = None
    models: list[str] = Field(default=["*"])
    not_models: list[str] = Field(default=[])  # wins over `models`


class VirtualKey(Settings):
    """A tenant and the key that it is known by: the key itself, or its SHA-256. An empty `key` switches it off."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.@-]{0,63}$")]
    key: OwnKey = Secret("")
    key_sha256: Annotated[str, Field(pattern=r"^([0-9a-fA-F]{64})?$")] = ""
    plan: str = ""  # empty: everything
    user_keys: dict[str, Secret] = Field(default={})  # upstream or provider → this tenant's own key for it
    orgs: list[Annotated[str, Field(pattern=r"^[\w.-]{1,96}$")]] = Field(default=[])  # that it may have billed instead

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if not {"key", "key_sha256"} & self.model_fields_set:
            raise ValueError("has neither key nor key_sha256")
        if self.key and self.key_sha256:
            raise ValueError("has both key and key_sha256; one is enough")
        return self

    @property
    def digest(self) -> bytes | None:
        """SHA-256 of the key; None where the entry is off."""
        if self.key_sha256:
            return bytes.fromhex(self.key_sha256)
        return hashlib.sha256(self.key.reveal().encode()).digest() if self.key else None


class Rights:
    """A plan's models, as one look at an id: the resolved one, so that an alias or a suffix opens nothing."""

    __slots__ = ("_allowed", "_denied", "all")

    def __init__(self, models: Iterable[str] = ("*",), not_models: Iterable[str] = ()) -> None:
        models = tuple(models)
        self._allowed = None if "*" in models else _any_of(models)
        not_models = tuple(not_models)
        self._denied = _any_of(not_models)
        self.all = self._allowed is None and not not_models

    def allows(self, model: str) -> bool:
        if self.all:
            return True
        folded = model.casefold()
        if self._denied.match(folded):
            return False
        return self._allowed is None or self._allowed.match(folded) is not None


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """One expression for all; of no patterns, the one that matches nothing."""
    return re.compile("|".join(fnmatch.translate(each.casefold()) for each in patterns) or r"(?!)")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, and what they brought. A `user_key` may go only to a place that the call itself names."""

    tenant: str
    rights: Rights = field(default_factory=Rights)
    plan: str = ""
    user_key: Secret | None = None
    stored_keys: Mapping[str, Secret] = field(default_factory=lambda: _NO_KEYS)  # upstream or provider → own key
    concurrency: int | None = None  # requests that may run at once
    orgs: frozenset[str] = frozenset()

    def billed(self, asked: bytes) -> str:
        """Who is billed where `X-HF-Bill-To` names somebody. Raises Refused where that is not this one's to say."""
        org = asked.decode("latin-1")
        if org not in self.orgs and not (self.tenant == ANONYMOUS and self.user_key is None and _ORG(org)):
            message = f"'{self.tenant}' may not have '{org[:96]}' billed."
            raise Refused(Fault(403, "bill_to_forbidden", message, "X-HF-Bill-To"))
        return org

    def allows(self, model: str) -> bool:
        return self.rights.allows(model)


class Keyring:
    """Headers → Identity, or the 401. Default deny; a ring without any key is open, which loopback alone may have."""

    def __init__(
        self, auth: AuthSettings, plans: Mapping[str, PlanSettings], virtual_keys: Iterable[VirtualKey]
    ) -> None:
        rights = {name: Rights(plan.models, plan.not_models) for name, plan in plans.items()}
        self._known: dict[bytes, Identity] = {}
        for each in virtual_keys:
            if (digest := each.digest) is not None:
                stored = MappingProxyType({name: key for name, key in each.user_keys.items() if key})
                bound = plans[each.plan].concurrency if each.plan in plans else None
                right = rights.get(each.plan, Rights())
                orgs = frozenset(each.orgs)
                self._known[digest] = Identity(each.name, right, each.plan, None, stored, bound, orgs)
        self._anonymous = Identity(ANONYMOUS)
        self._open = auth.mode == "open" or not self._known
        self._user_keys = auth.user_keys
        self._admin = hashlib.sha256(auth.admin_key.reveal().encode()).digest() if auth.admin_key else None
        # By the whole raw header value: a hash and three slices less for each request of a caller seen before.
        self._seen: LRUCache[bytes | None, Identity] = LRUCache(KEPT)

    def tenants(self) -> list[str]:
        """The names that records may carry."""
        return [*dict.fromkeys(each.tenant for each in self._known.values()), ANONYMOUS]

    def identify(self, headers: Headers, fields: Mapping[bytes, bytes] | None = None) -> Identity:
        """`fields`: the same by name, where the caller of this has it."""
        if (
            fields is not None
            and len(fields) == len(headers)
            and b"x-api-key" not in fields
            and b"api-key" not in fields
        ):
            seen = self._seen.get(fields.get(b"authorization"))
            if seen is not None:
                return seen
        raw, credential = _credential(headers)
        if raw is None:
            if self._open:
                return self._anonymous
            raise unauthorized()
        seen = self._seen.get(raw)
        if seen is not None:
            return seen
        if credential:
            known = self._known.get(hashlib.sha256(credential).digest())
            if known is not None:
                self._seen[raw] = known
                return known
            if self._user_keys and _VISIBLE(credential):
                return Identity(ANONYMOUS, user_key=Secret(credential.decode("ascii")))
        if self._open:
            return self._anonymous
        raise unauthorized()

    def is_admin(self, headers: Headers) -> bool:
        """Whether the caller holds `auth.admin_key`. False where none is set: then loopback alone is trusted."""
        _, credential = _credential(headers)
        if self._admin is None or not credential:
            return False
        return hmac.compare_digest(hashlib.sha256(credential).digest(), self._admin)


_ORG: Final = re.compile(r"[\w.-]{1,96}", re.ASCII).fullmatch
_OTHERS: Final = frozenset({b"x-api-key", b"api-key"})
_NAMES: Final = frozenset({b"authorization", *_OTHERS})
_BEARER: Final = re.compile(rb"bearer +(\S+) *", re.IGNORECASE).fullmatch
_VISIBLE: Final = re.compile(rb"[\x21-\x7e]+").fullmatch


def _credential(headers: Headers) -> tuple[bytes | None, bytes]:
    """The raw header value (None where there is none) and the credential in it (empty where it is unusable).

    The same header twice is a request that two parties could read differently: 400. Two headers that disagree are no
    credential at all.
    """
    raw: bytes | None = None
    credential = b""
    names: tuple[bytes, ...] = ()
    for name, value in headers:
        if name not in _NAMES:
            continue
        if name in names:
            raise bad_request(f"The request has two {name.decode()} headers.", code="duplicate_header")
        bearer = _BEARER(value) if name == b"authorization" else None
        found = (bearer[1] if bearer else b"") if name == b"authorization" else value.strip()
        if names and found != credential:
            raw, credential = b"", b""
        else:
            raw, credential = value, found if len(found) <= LONGEST_CREDENTIAL else b""
        names = (*names, name)
    return raw, credential
