"""Who calls, as one frozen record of all that a request will ask of it; built once for each key, not for a request.

`Licence` makes them of plans: rights, bounds and places ready to be looked at. Nothing here knows how somebody was
recognised, and nothing here counts.
"""

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from providers.spec import Fault
from router.bounds import Bound, LimitSettings, bounds_of
from router.errors import Refused
from router.plans import PlanSettings, VirtualKey
from router.secrets import Secret

ANONYMOUS: Final = "anonymous"

_NO_KEYS: Final[Mapping[str, Secret]] = MappingProxyType({})
_NO_PLAN: Final = PlanSettings()
_AT_THE_HEAD: Final = ("requests", "concurrency")  # what is taken before the body is read
_ORG: Final = re.compile(r"[\w.-]{1,96}", re.ASCII).fullmatch


class Rights:
    """Which models, as one look at an id: the resolved one, so that an alias or a suffix opens nothing. `within`: other
    rights that must allow it too.
    """

    __slots__ = ("_allowed", "_denied", "_within", "all")

    def __init__(
        self, models: Iterable[str] = ("*",), not_models: Iterable[str] = (), within: "Rights | None" = None
    ) -> None:
        models = tuple(models)
        self._allowed = None if "*" in models else _any_of(models)
        not_models = tuple(not_models)
        self._denied = _any_of(not_models)
        self._within: Rights | None = None if within is None or within.all else within
        self.all: bool = self._allowed is None and not not_models and self._within is None

    def allows(self, model: str) -> bool:
        if self.all:
            return True
        if self._within is not None and not self._within.allows(model):
            return False
        folded = model.casefold()
        if self._denied.match(folded):
            return False
        return self._allowed is None or self._allowed.match(folded) is not None


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """One expression for all; of no patterns, the one that matches nothing."""
    return re.compile("|".join(fnmatch.translate(each.casefold()) for each in patterns) or r"(?!)")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, and what they brought. A `user_key` may go only to a place that the call itself names.

    `admission` is taken at the head of a request and `reserved` once its body is known: the bounds of the tenant, then
    those of the key. `expires`: Unix time until which this holds; whoever recognised the caller looks at it.
    """

    tenant: str
    rights: Rights = field(default_factory=Rights)
    plan: str = ""
    user_key: Secret | None = None
    stored_keys: Mapping[str, Secret] = field(default_factory=lambda: _NO_KEYS)  # upstream or provider → own key
    orgs: frozenset[str] = frozenset()
    key: str = ""  # the virtual key's name
    admission: tuple[tuple[Bound, int], ...] = ()
    reserved: tuple[Bound, ...] = ()
    per_model: tuple[tuple[re.Pattern[str], tuple[Bound, ...]], ...] = ()
    providers: tuple[frozenset[str], ...] = ()  # each must name the upstream or its provider
    markup: float = 0.0  # added to a price: 0.2
    own_first: bool = True  # stored keys before ours
    expires: float | None = None
    limited: bool = field(init=False, default=False)  # anything of what it asks for is counted
    has_keys: bool = field(init=False, default=False)  # of providers: brought or stored

    def __post_init__(self) -> None:
        object.__setattr__(self, "has_keys", self.user_key is not None or bool(self.stored_keys))
        object.__setattr__(self, "limited", bool(self.admission or self.reserved or self.per_model))

    def billed(self, asked: bytes) -> str:
        """Who is billed where `X-HF-Bill-To` names somebody. Raises Refused where that is not this one's to say."""
        org = asked.decode("latin-1")
        if org not in self.orgs and not (
            self.tenant == ANONYMOUS and not self.key and self.user_key is None and _ORG(org)
        ):
            message = f"'{self.tenant}' may not have '{org[:96]}' billed."
            raise Refused(Fault(403, "bill_to_forbidden", message, "X-HF-Bill-To"))
        return org

    def allows(self, model: str) -> bool:
        return self.rights.allows(model)

    def reaches(self, upstream: str, provider: str) -> bool:
        """Whether that upstream, which is of that provider, may serve."""
        return not self.providers or all(upstream in each or provider in each for each in self.providers)

    def bounds_for(self, model: str) -> tuple[Bound, ...]:
        """The tenant's bounds that are for some models only, of those that this one is."""
        if not self.per_model:
            return ()
        folded = model.casefold()
        return tuple(bound for pattern, bounds in self.per_model if pattern.match(folded) for bound in bounds)


class Licence:
    """Plans, compiled. A plan that nobody made allows nothing: its name may come from a store or a claim."""

    def __init__(self, plans: Mapping[str, PlanSettings]) -> None:
        self._plans = plans
        self._rights = {name: Rights(plan.models, plan.not_models) for name, plan in plans.items()}
        self._patterns = {each: _any_of([each]) for plan in plans.values() for each in plan.per_model}

    def knows(self, plan: str) -> bool:
        return not plan or plan in self._plans

    def of_key(self, key: VirtualKey, expires: float | None = None) -> Identity:
        stored = {name: each for name, each in key.user_keys.items() if each}
        return self.of_tenant(
            key.owner,
            key.plan,
            key=key,
            stored=stored,
            orgs=key.orgs,
            expires=key.expires if expires is None else expires,
        )

    def of_tenant(
        self,
        tenant: str,
        plan: str,
        *,
        key: VirtualKey | None = None,
        stored: Mapping[str, Secret] = _NO_KEYS,
        orgs: Iterable[str] = (),
        expires: float | None = None,
    ) -> Identity:
        settings = self._plans.get(plan, _NO_PLAN)
        rights = self._rights.get(plan) or (Rights() if not plan else Rights(()))
        bounds = list(bounds_of("tenant", tenant, settings))
        lists = [settings.providers]
        if key is not None:
            bounds += bounds_of("key", key.name, key.limits)
            lists.append(key.providers)
            if "*" not in key.models or key.not_models:
                rights = Rights(key.models, key.not_models, within=rights)
        return Identity(
            tenant=tenant,
            rights=rights,
            plan=plan,
            stored_keys=MappingProxyType(dict(stored)),
            orgs=frozenset(orgs),
            key=key.name if key is not None else "",
            admission=tuple((each, 1) for each in bounds if each.kind in _AT_THE_HEAD),
            reserved=tuple(each for each in bounds if each.kind not in _AT_THE_HEAD),
            per_model=tuple(self._per_model(tenant, settings.per_model)),
            providers=tuple(frozenset(each) for each in lists if each),
            markup=settings.markup,
            own_first=settings.user_keys_first,
            expires=expires,
        )

    def _per_model(
        self, tenant: str, limits: Mapping[str, LimitSettings]
    ) -> Iterable[tuple[re.Pattern[str], tuple[Bound, ...]]]:
        for pattern, each in limits.items():
            yield self._patterns[pattern], bounds_of("tenant", tenant, each, pattern)
