"""The providers' own keys, lent from an upstream's pool, each as often as its weight and what it has left allow.

Nearly always nothing is the matter and keys are lent in turn, for the price of an index. Else `lend` passes over those
that rest (refused, or told to wait), that have used up what the configuration lets them, and, while others can serve,
those whose own headers say that nothing is left; one with little left gets as little of its share (a smooth weighted
round robin, nginx's). What headers say is only a guess of what the upstream will do, so where nothing else is left such
a key is lent all the same. Nothing here waits: a remote store's levels are those known in this process, and what a key
may spend is looked at before a call and counted after it, so calls under way may pass a cap by what they cost.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from router import headroom
from router.bounds import Bound, LimitSettings, Store
from router.ceiling import Cap, Uses
from router.headroom import LOW, Fields
from router.health import Resting
from router.rests import Rests
from router.retry import Why
from router.secrets import Secret

LEAST: Final = 0.25  # seconds after which to look again for a key
REST_MOST: Final = 3600.0  # seconds of rest, however often a key is refused


@dataclass(frozen=True, slots=True)
class Lent:
    """A provider's key for one attempt. `name` tells it apart in figures and logs, and tells nothing about it.

    `hold`: what was taken for this loan, to be given back when the attempt has ended; empty where nothing was.
    """

    upstream: str
    name: str
    secret: Secret
    hold: str = ""


class Terms(Protocol):
    """How a key may be used (router/upstream/settings.py); a bare Secret is lent without any."""

    @property
    def key(self) -> Secret: ...
    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Shut:
    """Why no key can be lent. `seconds` until the first can be; `limited`: one of them only waits for a limit."""

    seconds: float
    limited: bool


@dataclass(frozen=True, slots=True)
class KeyState:
    """One key, for operators. Times in seconds from now, money in nano-USD; None: not known, or not set."""

    name: str
    weight: float
    why: str = ""  # it rests; empty: it does not
    rests: float = 0.0
    left: float | None = None  # share of its tightest limit, as last told
    left_of: str = ""
    resets: float | None = None
    refusals: int = 0
    spent: int | None = None
    budget: int | None = None
    reached: str = ""  # what it has used up of what the configuration lets it


@dataclass(slots=True, eq=False)
class _Key:
    """What is known of one key in this process."""

    lent: Lent
    weight: float
    cap: Cap | None = None
    turn: float = 0.0  # of the round robin
    share: float | None = None  # of its tightest limit that is left
    of: str = ""
    low: float = 0.0  # until when that counts
    refusals: int = 0  # one after the other


class KeyPool:
    """An upstream's own keys. `before`: the pool that this one replaces, whose knowledge goes on."""

    def __init__(
        self,
        upstream: str,
        keys: Sequence[Secret | Terms],
        resting: Resting,
        *,
        store: Store | None = None,
        rests: Rests | None = None,
        before: "KeyPool | None" = None,
    ) -> None:
        self._resting = resting
        self._rests = rests or Rests(resting)
        self._keys = _keys_of(upstream, keys, store)
        self._known = {each.lent.name: each for each in self._keys}
        self._lent = [each.lent for each in self._keys]
        self._count = len(self._lent)
        self._next = 0
        self._refused = False  # some key was, and has not served since
        for name, old in before._known.items() if before is not None else ():
            if (new := self._known.get(name)) is not None:
                new.share, new.of, new.low, new.refusals = old.share, old.of, old.low, old.refusals
                self._refused = self._refused or new.refusals > 0
        alike = len({each.weight for each in self._keys}) == 1
        self._even = alike and all(each.cap is None for each in self._keys)  # but for what is left of them
        self._plain = self._even and (self._count == 1 or not any(each.low for each in self._keys))
        self.empty = not self._lent
        self.counted = any(each.cap is not None for each in self._keys)  # what is used of some of them

    def bounds(self) -> list[Bound]:
        """What the configuration lets each of them."""
        return [bound for key in self._keys if key.cap is not None for bound in key.cap.bounds]

    # Lending

    def lend(self, now: float) -> Lent | None:
        """The next key that may be used, or None."""
        if self._plain and self._resting.calm:  # as it nearly always is
            place = self._next
            lent = self._lent[place]
            self._next = place + 1 if place + 1 < self._count else 0
            return lent
        return self._in_turn(now) if self._plain else self._choose(now)

    def _in_turn(self, now: float) -> Lent | None:
        """The next that does not rest: all else is alike."""
        for step in range(self._count):
            place = (self._next + step) % self._count
            lent = self._lent[place]
            if self._resting.until(lent.name) <= now:
                self._next = (place + 1) % self._count
                return lent
        return None

    def _choose(self, now: float) -> Lent | None:
        passed: list[_Key] = []
        while (key := self._due(now, passed)) is not None:
            hold = key.cap.take(now) if key.cap is not None else ""
            if hold is not None:
                lent = key.lent
                return Lent(lent.upstream, lent.name, lent.secret, hold) if hold else lent
            passed.append(key)
        return None

    def _due(self, now: float, passed: list[_Key]) -> _Key | None:
        """Whose turn it is."""
        total = 0.0
        due: _Key | None = None
        driest: _Key | None = None
        low = False
        for key in self._keys:
            low = low or key.low > now
            if not self._usable(key, now) or any(key is each for each in passed):
                continue
            weight = key.weight
            if key.low > now and key.share is not None:
                if not key.share:
                    driest = key if driest is None or key.low < driest.low else driest
                    continue
                weight *= key.share
            key.turn += weight
            total += weight
            if due is None or key.turn > due.turn:
                due = key
        if due is not None:
            due.turn -= total
            self._plain = self._even and not low
        return due or driest

    def _usable(self, key: _Key, now: float) -> bool:
        return self._resting.until(key.lent.name) <= now and not (key.cap is not None and key.cap.full(now))

    def give_back(self, lent: Lent) -> None:
        """The attempt has ended, whatever came of it: once for each loan that has a hold."""
        key = self._known.get(lent.name)
        if lent.hold and key is not None and key.cap is not None:
            key.cap.give_back(lent.hold)

    def spend(self, name: str, nano: int, input_tokens: int = 0, output_tokens: int = 0) -> None:
        """What was used with a key, once it is known."""
        key = self._known.get(name)
        if key is not None and key.cap is not None:
            key.cap.spend(Uses(input_tokens, output_tokens, nano))

    # Learning

    def learn(self, lent: Lent, status: int, fields: Fields, now: float) -> None:
        """What an answer's headers say of the key that asked. `fields`: by name, lower-cased."""
        if headroom.says_nothing(fields) and not self._refused:
            return
        self._learn(lent.name, status, fields, now)

    def _learn(self, name: str, status: int, fields: Fields, now: float) -> None:
        key = self._known.get(name)
        if key is None:
            return
        if status < 400 and key.refusals:
            key.refusals = 0
            self._refused = any(each.refusals for each in self._keys)
        room = headroom.room_of(fields, time.time())
        if room is None:
            return
        key.share, key.of = room.share, room.of
        if room.share >= LOW:
            key.low = 0.0
            return
        key.low = now + room.resets
        self._plain = self._plain and self._count == 1

    def rest(self, lent: Lent, why: Why, seconds: float, now: float) -> None:
        """It was refused, or told to wait: here and wherever the same key is used. Refused again, it rests longer."""
        key = self._known.get(lent.name)
        if key is not None and why == "refused":
            if self._resting.until(lent.name) <= now:  # what was sent before it rested tells nothing new
                key.refusals += 1
                self._refused = True
            seconds = min(seconds * 2.0 ** max(0, min(key.refusals, 9) - 1), REST_MOST)
        self._rests.publish(lent.name, now + seconds, why)

    # Looking

    def has_other(self, lent: Lent, now: float) -> bool:
        """Whether another key may be lent in its place."""
        return self._count > 1 and any(key.lent.name != lent.name and self._usable(key, now) for key in self._keys)

    def shut(self, now: float) -> Shut:
        """Why `lend` gave none, and when it can again."""
        limits: list[float] = []
        faults: list[float] = []
        for key in self._keys:
            until, why = self._resting.until(key.lent.name), self._rests.why(key.lent.name)
            fault = until > now and why in _FAULTS
            until = max(until, key.cap.opens) if key.cap is not None else until
            (faults if fault else limits).append(max(until - now, LEAST))
        return Shut(min(limits or faults, default=0.0), bool(limits))

    def state(self, now: float) -> list[KeyState]:
        return [self._state(key, now) for key in self._keys]

    def _state(self, key: _Key, now: float) -> KeyState:
        name, cap = key.lent.name, key.cap
        rests = max(self._resting.until(name) - now, 0.0)
        spent, budget = cap.spent() if cap is not None else (None, None)
        return KeyState(
            name,
            key.weight,
            self._rests.why(name) if rests else "",
            rests,
            key.share,
            key.of,
            key.low - now if key.low > now else None,
            key.refusals,
            spent,
            budget,
            cap.reached.kind if cap is not None and cap.full(now) and cap.reached is not None else "",
        )

    def peek(self, now: float) -> Lent | None:
        """A key for a question that is no call (a list of models, a probe): nothing is counted, nothing given back."""
        return next((lent for lent in self._lent if self._resting.until(lent.name) <= now), None)

    def names(self) -> list[str]:
        return [lent.name for lent in self._lent]


_FAULTS: Final = ("refused", "credit", "forbidden")


def _keys_of(upstream: str, keys: Sequence[Secret | Terms], store: Store | None) -> list[_Key]:
    """Each secret once, under a name that is told apart from the others' and from a deployment's by its `…`."""
    found: dict[Secret, Terms | None] = {}
    for each in keys:
        secret, terms = (each, None) if isinstance(each, Secret) else (each.key, each)
        if secret:
            found.setdefault(secret, terms)
    digests = {secret: hashlib.sha256(secret.reveal().encode()).hexdigest() for secret in found}

    def names(width: int) -> list[str]:
        return [(terms.name if terms else "") or digests[secret][-width:] for secret, terms in found.items()]

    width = next(n for n in (4, 8, 64) if len(set(names(n))) == len(found))
    return [
        _key_of(Lent(upstream, f"{upstream}/…{name}", secret), terms, store)
        for name, (secret, terms) in zip(names(width), found.items(), strict=True)
    ]


def _key_of(lent: Lent, terms: Terms | None, store: Store | None) -> _Key:
    if terms is None:
        return _Key(lent, 1.0)
    limited = isinstance(terms, LimitSettings) and store is not None and Cap(lent.name, terms, store)
    return _Key(lent, terms.weight, limited if limited and limited.bounds else None)


class Owner(Protocol):
    """Who calls, and the keys that they brought or stored (router/identity.py)."""

    @property
    def user_key(self) -> Secret | None: ...
    @property
    def stored_keys(self) -> Mapping[str, Secret]: ...
    @property
    def own_first(self) -> bool: ...


Choice = Secret | Literal["pool", "none", "denied"]


def key_for(
    owner: Owner, upstream: str, provider: str, *, pooled: bool, needed: bool, pinned: bool, failed: bool
) -> Choice:
    """Whose key goes with an attempt: the caller's (a Secret), one of the pool's, none at all, or it may not be made.

    `pooled`: the upstream has keys of ours; `needed`: it serves nobody without one; `pinned`: the call itself names the
    place, without which a key that was brought along goes nowhere; `failed`: the first choice of two was refused here,
    or none could be lent. A key that was brought is the only choice; one that is stored stands before the pool's or
    behind them, as the plan says.
    """
    stored = owner.stored_keys.get(upstream) or owner.stored_keys.get(provider)
    if stored:
        return stored if not pooled or owner.own_first != failed else "pool"
    if owner.user_key is not None:
        return owner.user_key if pinned else "denied"
    return "pool" if pooled else "denied" if needed else "none"
