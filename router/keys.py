"""Headers → who calls: by the virtual keys of the file and of a store, without waiting for anybody.

Keys are looked up in a dict by the SHA-256 of the whole value, and nothing is ever compared by prefix. Whatever is
wrong with a credential, the answer is the same 401 (FAULTS §3.1 A11). Where somebody else must be asked (the Hub, the
signer of a token) the answer is a `Question`, which router/doorman.py answers.

All that is known stands in one `_Known`, replaced whole when the store's keys change, with the memory of credentials
seen before in it: what was found in an old one cannot be remembered in a new one. This file refuses to say who may
listen where: that is the configuration's.
"""

import hmac
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from providers.spec import Fault
from router.errors import Refused, bad_request, unauthorized
from router.identity import ANONYMOUS, Identity, Licence, Rights
from router.plans import AuthSettings, KeyRow, PlanSettings, Snapshot, VirtualKey, digest_of, key_of
from router.secrets import Secret

__all__ = [
    "ANONYMOUS",
    "AuthSettings",
    "Headers",
    "Identity",
    "Keyring",
    "PlanSettings",
    "Question",
    "Rights",
    "VirtualKey",
]

LONGEST_CREDENTIAL: Final = 4096  # providers' JSON web tokens run to a few kilobytes
KEPT: Final = 4096  # credentials whose owner is remembered
STRIDE: Final = 1000  # of a store's keys, made known between two chances for other threads
RETRY: Final = 2.0  # seconds after which to ask again for what a store that is away would know

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True, eq=False)
class _Known:
    """`whole`: nothing is missing that a store has; `sure`: nor what it may have had since. `gone`: digests of revoked
    keys. `rows`: what was made of each.
    """

    by_digest: dict[bytes, Identity]
    open: bool
    whole: bool = True
    generation: int = -1
    gone: frozenset[bytes] = frozenset()
    rows: dict[KeyRow, Identity] = field(default_factory=dict)
    sure: bool = True
    # By the whole raw header value: a hash and three slices less for each request of a caller seen before.
    seen: dict[bytes | None, Identity] = field(default_factory=dict)

    def remember(self, raw: bytes, identity: Identity) -> None:
        if raw not in self.seen and len(self.seen) >= KEPT:  # who came first goes: he is found again by his digest
            del self.seen[next(iter(self.seen))]
        self.seen[raw] = identity


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A bearer that somebody else knows, or nobody. It belongs to what was known when it came."""

    kind: Literal["hub", "jwt"]
    raw: bytes = field(repr=False)
    credential: bytes = field(repr=False)
    digest: bytes
    known: _Known = field(repr=False)


class Keyring:
    """Default deny; a ring without any key is open, which loopback alone may have.

    `stored`: a store has keys that must be known before a bearer is called unknown; `adopt` brings them, from any
    thread. `loopback`: only this machine can reach us.
    """

    def __init__(
        self,
        auth: AuthSettings,
        plans: Mapping[str, PlanSettings],
        virtual_keys: Iterable[VirtualKey],
        *,
        stored: bool = False,
        loopback: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.licence = Licence(plans)
        self._clock = clock
        by_digest = {each.digest: self.licence.of_key(each) for each in virtual_keys if each.digest is not None}
        self._of_file: Mapping[bytes, Identity] = MappingProxyType(by_digest)
        self._anonymous = Identity(ANONYMOUS)
        self._always_open = auth.mode == "open"
        self._may_be_open = auth.mode == "keys" and auth.jwt is None and loopback and not by_digest
        self._user_keys = auth.user_keys
        self._hub = auth.mode == "hub"
        self._jwt = auth.jwt is not None
        self._admin = digest_of(auth.admin_key.reveal().encode()) if auth.admin_key else None
        is_open = self._always_open or (self._may_be_open and not stored)
        self._known = _Known(dict(by_digest), is_open, whole=not stored)

    def adopt(self, snapshot: Snapshot) -> int:
        """The store's keys, in place of those known before; how many of them make no sense to this version.

        An older snapshot than the present one is passed over. A key of the file stays the file's.
        """
        before = self._known
        if snapshot.generation < before.generation or (
            snapshot.generation == before.generation and before.sure >= snapshot.sure
        ):
            return 0
        by_digest: dict[bytes, Identity] = {}
        rows, gone, bad = {}, set(), 0
        for number, row in enumerate(snapshot.rows):
            if not number % STRIDE:
                time.sleep(0)  # the loop's turn, which compiled code does not give by itself
            try:
                digest = bytes.fromhex(row.digest)
                if row.revoked is None:
                    by_digest[digest] = rows[row] = before.rows.get(row) or self.licence.of_key(key_of(row))
                else:
                    gone.add(digest)
            except ValueError:
                bad += 1
        by_digest.update(self._of_file)
        is_open = self._always_open or (self._may_be_open and not snapshot.rows)
        self._known = _Known(by_digest, is_open, True, snapshot.generation, frozenset(gone), rows, snapshot.sure)
        return bad

    def of_file(self) -> Iterable[Identity]:
        return self._of_file.values()

    def tenants(self) -> list[str]:
        """The names that records may carry as a label: those of the file."""
        return [*dict.fromkeys(each.tenant for each in self._of_file.values()), ANONYMOUS]

    def recognise(self, headers: Headers, fields: Mapping[bytes, bytes] | None = None) -> Identity | Question:
        """`fields`: the same by name, where the caller of this has it."""
        known = self._known
        if (
            fields is not None
            and len(fields) == len(headers)
            and b"x-api-key" not in fields
            and b"api-key" not in fields
        ):
            seen = known.seen.get(fields.get(b"authorization"))
            if seen is not None and (seen.expires is None or seen.expires > self._clock()):
                return seen
        raw, credential = _credential(headers)
        if raw is None:
            if known.open:
                return self._anonymous
            raise unauthorized()
        seen = known.seen.get(raw)
        if seen is not None and (seen.expires is None or seen.expires > self._clock()):
            return seen
        if not credential:
            return self._nobody(known)
        return self._find(known, raw, credential)

    def identify(self, headers: Headers, fields: Mapping[bytes, bytes] | None = None) -> Identity:
        """The same for those who cannot wait: whom somebody else would have to be asked about is nobody."""
        found = self.recognise(headers, fields)
        return found if isinstance(found, Identity) else self.otherwise(found)

    def _find(self, known: _Known, raw: bytes, credential: bytes) -> Identity | Question:
        digest = digest_of(credential)
        found = known.by_digest.get(digest)
        if found is not None:
            if found.expires is not None and found.expires <= self._clock():
                raise unauthorized()
            known.remember(raw, found)
            return found
        if digest in known.gone:
            raise unauthorized()
        if self._jwt and credential.count(b".") == 2:
            return Question("jwt", raw, credential, digest, known)
        if self._hub and _OF_THE_HUB(credential):
            return Question("hub", raw, credential, digest, known)
        return self._unknown(known, credential)

    def otherwise(self, question: Question) -> Identity:
        """Who it is where those who were asked do not know the bearer."""
        return self._unknown(question.known, question.credential)

    def remember(self, question: Question, identity: Identity) -> None:
        """Until it expires. What was asked before the store's keys changed is remembered with what was known then."""
        question.known.remember(question.raw, identity)

    def _unknown(self, known: _Known, credential: bytes) -> Identity:
        missing = not (known.whole and (known.sure or self._user_keys))  # a bearer is likelier a provider's
        if missing and (self._user_keys or not self._always_open):  # it may be ours: no 401, and to no provider
            message = "The keys that callers have cannot be looked up now; ask again."
            raise Refused(Fault(503, "keys_unavailable", message, retry_after=RETRY))
        if self._user_keys and _VISIBLE(credential):
            return Identity(ANONYMOUS, user_key=Secret(credential.decode("ascii")))
        return self._nobody(known)

    def _nobody(self, known: _Known) -> Identity:
        if known.open:
            return self._anonymous
        raise unauthorized()

    def is_admin(self, headers: Headers) -> bool:
        """Whether the caller holds `auth.admin_key`. False where none is set: then loopback alone is trusted."""
        _, credential = _credential(headers)
        if self._admin is None or not credential:
            return False
        return hmac.compare_digest(digest_of(credential), self._admin)


_OTHERS: Final = frozenset({b"x-api-key", b"api-key"})
_NAMES: Final = frozenset({b"authorization", *_OTHERS})
_BEARER: Final = re.compile(rb"bearer +(\S+) *", re.IGNORECASE).fullmatch
_VISIBLE: Final = re.compile(rb"[\x21-\x7e]+").fullmatch
_OF_THE_HUB: Final = re.compile(rb"hf_[A-Za-z0-9_]{16,256}").fullmatch


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
