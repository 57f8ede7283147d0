"""The settings of who may come in and what they may do: ways in, plans, virtual keys; and how a key is made.

Keys are long and random, so their SHA-256 is all that is ever kept of one: neither a salt nor a slow hash would add
anything. Who is who by them is router/keys.py's to say.
"""

import hashlib
import re
import secrets
import string
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final, Literal, Self

import msgspec
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from router.bounds import LimitSettings
from router.secrets import Secret
from router.settings import Duration, Matching, Settings

SHORTEST_KEY: Final = 20
SHORTEST_SECRET: Final = 32  # of a secret that signs: as long as what SHA-256 gives
HUB: Final = "https://huggingface.co"
OURS: Final = ("anonymous", "other")  # of callers without a key, and of models that figures do not name
STYLES: Final = {"hf": ("hf_", 34), "sk": ("sk-", 48)}  # as the Hub's and OpenAI's keys look
_LETTERS: Final = string.ascii_letters + string.digits

_SPELLED: Final = WithJsonSchema({"type": ["string", "number"]})
_SHARE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(%?)").fullmatch
_ADDRESS: Final = re.compile(r"https?://[\w.:\[\]-]+(?:/[\w.~/-]*)?").fullmatch


def _long_enough(secret: Secret) -> Secret:
    if secret and len(secret.reveal()) < SHORTEST_KEY:
        raise ValueError(f"has fewer than {SHORTEST_KEY} characters; `inference-router keys create` makes one")
    return secret


def _markup(value: Any) -> float:
    found = _SHARE(str(value).strip()) if isinstance(value, str | int | float) else None
    share = float(found[1]) / (100 if found[2] else 1) if found else -1.0
    if not 0 <= share <= 10:
        raise ValueError("expected what is added to the cost, such as 20% or 0.2; at most 1000%")
    return share


def _moment(value: Any) -> float:
    """An ISO date, or date and time, in UTC where it names no zone; or Unix time."""
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value.strip())
        elif isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day, tzinfo=UTC)
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        value = None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e11:
        return float(value)
    raise ValueError("expected a date and time such as 2027-01-31 or 2027-01-31T18:00:00Z")


def _free(name: str) -> str:
    if name in OURS:
        raise ValueError("is a name that the router uses itself")
    return name


def _address(value: str) -> str:
    if value and not _ADDRESS(value):
        raise ValueError("expected an address such as https://login.example")
    return value


OwnKey = Annotated[Secret, AfterValidator(_long_enough)]
Markup = Annotated[float, BeforeValidator(_markup), _SPELLED]
Moment = Annotated[float, BeforeValidator(_moment), _SPELLED]
Address = Annotated[str, AfterValidator(_address)]
Name = Annotated[str, Matching(r"^[A-Za-z0-9][\w.@-]{0,63}$"), AfterValidator(_free)]
Owner = Annotated[str, Matching(r"^([A-Za-z0-9][\w.@-]{0,63})?$"), AfterValidator(_free)]


class HubSettings(Settings):
    """Tokens of the Hub's users, which the Hub itself is asked about."""

    endpoint: Address = HUB
    # `free`, `pro` or an organisation's name → plan. An organisation (the first in this order) comes before `pro`, and
    # `pro` before `free`; whoever none of them fits is not let in. Without any entry all users of the Hub are.
    plans: dict[str, str] = Field(default={})


class JwtSettings(Settings):
    """JSON web tokens of an OpenID provider: who signed them, for whom, and which claims say who comes."""

    issuer: Address
    audience: str | list[str]
    jwks: Address = ""  # the signer's public keys; empty: as its /.well-known/openid-configuration says
    algorithms: list[str] = Field(default=[])  # empty: RS256, ES256, EdDSA; with a secret HS256
    secret: Secret = Secret("")  # one that both sides have, in place of public keys
    tenant: str = "sub"  # the claim that names the tenant
    plan: str = "plan"  # the claim that names the plan
    plans: dict[str, str] = Field(default={})  # that claim's value → plan; empty: the value is the plan's name
    default_plan: str | None = None  # where no plan is named by the above; None: such a token is refused
    orgs: str = "orgs"  # the claim that lists organisations which may be billed
    leeway: Duration = 30.0

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        known = ("HS256", "HS384", "HS512") if self.secret else ASYMMETRIC
        if wrong := [each for each in self.algorithms if each not in known]:
            raise ValueError(f"algorithms: {', '.join(wrong)[:99]} cannot be used here, only {', '.join(known)}")
        if self.secret and len(self.secret.reveal()) < SHORTEST_SECRET:
            raise ValueError(f"secret: has fewer than {SHORTEST_SECRET} characters")
        return self

    @property
    def accepted(self) -> list[str]:
        return self.algorithms or (["HS256"] if self.secret else ["RS256", "ES256", "EdDSA"])


ASYMMETRIC: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


class AuthSettings(Settings):
    """Who is let in."""

    mode: Literal["open", "keys", "hub"] = "keys"  # open: also callers without a key; hub: also the Hub's users
    admin_key: OwnKey = Secret("")  # opens /metrics and /admin to callers who are not on loopback
    user_keys: bool = False  # a bearer that is no virtual key is the caller's own provider key
    ttl: Duration = 600.0  # how long an answer of the Hub about a token, or a verified JSON web token, is believed
    hub: HubSettings = HubSettings()
    jwt: JwtSettings | None = None


class PlanSettings(LimitSettings):
    """What a tenant may do. Patterns are of model ids: `*` any text, `?` one character, upper or lower case alike."""

    models: list[str] = Field(default=["*"])
    not_models: list[str] = Field(default=[])  # wins over `models`
    per_model: dict[str, LimitSettings] = Field(default={})  # pattern → what all models that match it have together
    providers: list[str] = Field(default=[])  # upstreams or providers that may serve; empty: all
    markup: Markup = 0.0  # added to the provider's price: 20%
    user_keys_first: bool = True  # a tenant's own provider keys before ours; false: where ours cannot serve


class VirtualKey(Settings):
    """A key that we gave out, or its SHA-256, and whose it is. An empty `key` switches it off.

    What the plan allows and what the key allows must both hold; `limits` are this key's own, beside the plan's, which
    all keys of a tenant share.
    """

    name: Name
    key: OwnKey = Secret("")
    key_sha256: Annotated[str, Matching(r"^([0-9a-fA-F]{64})?$")] = ""
    tenant: Owner = ""  # empty: as the key is named
    plan: str = ""  # empty: everything
    limits: LimitSettings = LimitSettings()
    models: list[str] = Field(default=["*"])
    not_models: list[str] = Field(default=[])
    providers: list[str] = Field(default=[])
    expires: Moment | None = None
    user_keys: dict[str, Secret] = Field(default={})  # upstream or provider → this tenant's own key for it
    orgs: list[Annotated[str, Matching(r"^[\w.-]{1,96}$")]] = Field(default=[])  # that it may have billed instead
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] = Field(
        default={}, max_length=32
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if not {"key", "key_sha256"} & self.model_fields_set:
            raise ValueError("has neither key nor key_sha256")
        if self.key and self.key_sha256:
            raise ValueError("has both key and key_sha256; one is enough")
        return self

    @property
    def owner(self) -> str:
        return self.tenant or self.name

    @property
    def digest(self) -> bytes | None:
        """SHA-256 of the key; None where the entry is off."""
        if self.key_sha256:
            return bytes.fromhex(self.key_sha256)
        return digest_of(self.key.reveal().encode()) if self.key else None


class KeyRow(msgspec.Struct, frozen=True):
    """A virtual key as a store has it. `settings`: JSON of what a VirtualKey says beside its name, tenant and key.

    A key that was rotated has two rows of one name, of which the older expires.
    """

    digest: str  # SHA-256 in hexadecimal
    name: str
    tenant: str
    hint: str  # the key's last four characters
    settings: str
    created: float
    expires: float | None = None
    revoked: float | None = None


class Snapshot(msgspec.Struct, frozen=True):
    """All keys that a store has, revoked ones too. `generation` only grows. `sure`: the store says so, not a file that
    was written by a process before this one: there may be more keys since.
    """

    generation: int
    rows: tuple[KeyRow, ...] = ()
    sure: bool = True


def key_of(row: KeyRow) -> VirtualKey:
    """Raises ValueError where the row makes no sense to this version."""
    try:
        settings = msgspec.json.decode(row.settings or "{}", type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None
    given = {"name": row.name, "tenant": row.tenant, "key_sha256": row.digest, "expires": row.expires}
    return VirtualKey.model_validate({**settings, **given})


def mint(style: str) -> str:
    """A new key. 34 letters and digits are 202 bits."""
    prefix, length = STYLES[style]
    return prefix + "".join(secrets.choice(_LETTERS) for _ in range(length))


def digest_of(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
