"""Answers what the keyring cannot: asks the Hub whose a token is, and verifies tokens that somebody else signed.

An answer of the Hub is believed for `auth.ttl` and asked for anew before that ends, behind the caller's back; a no is
believed for half a minute. While the Hub is away, whom it knew in the last day is still known, and of others nobody
says that they are unknown: 503, not 401 (LESSONS 75). A token is asked about once at a time and kept as its SHA-256.
What was heard outlives a configuration: `Heard` is handed in.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

import httpx2
import msgspec
from cachetools import LRUCache

from providers.spec import Fault
from router.errors import Refused
from router.identity import Identity
from router.jwt import Unreachable, Verifier
from router.keys import Headers, Keyring, Question
from router.plans import AuthSettings, digest_of

TIMEOUT: Final = 3.0  # seconds for one look-up, its turn in the line included
AT_ONCE: Final = 32  # look-ups
KEPT: Final = 16384  # tokens of users
KEPT_NO: Final = 16384  # tokens of nobody
NO: Final = 30.0  # seconds that a no is believed
OLDEST: Final = 86400.0  # seconds that an answer is good for while the Hub is away
EARLY: Final = 0.8  # of `ttl`, after which it is asked again
REST: Final = 2.0  # seconds that the Hub is left alone after it failed
LONGEST_REST: Final = 60.0
LARGEST: Final = 2**20  # bytes of an answer


class User(msgspec.Struct, frozen=True):
    """Whom the Hub says that a token is of, and when it said so (Unix time)."""

    name: str
    pro: bool
    orgs: tuple[str, ...]
    at: float


class _Org(msgspec.Struct):
    name: str


class _Whoami(msgspec.Struct, rename="camel"):
    name: str
    is_pro: bool = False
    orgs: list[_Org] = []


class Heard:
    """What the Hub has said, by the digest of who was asked about what."""

    def __init__(self) -> None:
        self.users: LRUCache[bytes, User] = LRUCache(KEPT)
        self.nobody: LRUCache[bytes, float] = LRUCache(KEPT_NO)  # until when that is believed
        self.away_until = 0.0


class Doorman:
    """Of one configuration."""

    def __init__(
        self, keyring: Keyring, auth: AuthSettings, heard: Heard, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._keyring = keyring
        self._ttl = auth.ttl
        self._plans = auth.hub.plans
        self._endpoint = auth.hub.endpoint.rstrip("/")
        self._heard = heard
        self._made: LRUCache[User, Identity] = LRUCache(KEPT)
        self._clock = clock
        self._client: httpx2.AsyncClient | None = None
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._asking: dict[bytes, asyncio.Task[User | None]] = {}
        self._verifier = Verifier(auth.jwt, self._fetched) if auth.jwt is not None else None

    async def identify(self, headers: Headers) -> Identity:
        """For those who need no other way in than this. Raises Refused."""
        found = self._keyring.recognise(headers)
        return found if isinstance(found, Identity) else await self.answer(found)

    async def answer(self, question: Question) -> Identity:
        """Raises Refused: 401, or 503 where nobody can be asked."""
        if question.kind == "jwt":
            return await self._answer_token(question)
        user = await self._user(question)
        if user is None:
            return self._keyring.otherwise(question)
        identity = self._identity_of(user)
        if identity.expires is not None and identity.expires > self._clock():
            self._keyring.remember(question, identity)
        return identity

    async def close(self) -> None:
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    # JSON web tokens

    async def _answer_token(self, question: Question) -> Identity:
        if self._verifier is None or not self._verifier.theirs(question.credential):
            return self._keyring.otherwise(question)
        bearer = await self._verifier.verify(question.credential)
        licence = self._keyring.licence
        if bearer.plan is None or not licence.knows(bearer.plan):
            raise _no_plan(bearer.tenant)
        until = min(bearer.expires, self._clock() + self._ttl)
        identity = licence.of_tenant(bearer.tenant, bearer.plan, orgs=bearer.orgs, expires=until)
        self._keyring.remember(question, identity)
        return identity

    # The Hub

    def _identity_of(self, user: User) -> Identity:
        made = self._made.get(user)
        if made is None:
            plan = self._plan_of(user)
            if plan is None:
                raise _no_plan(user.name)
            early = user.at + self._ttl * EARLY
            made = self._keyring.licence.of_tenant(f"hf:{user.name}", plan, orgs=user.orgs, expires=early)
            self._made[user] = made
        return made

    def _plan_of(self, user: User) -> str | None:
        plans = self._plans
        if not plans:
            return ""
        of_org = (plan for name, plan in plans.items() if name in user.orgs and name not in ("free", "pro"))
        return next(of_org, None) or (plans.get("pro") if user.pro and "pro" in plans else plans.get("free"))

    async def _user(self, question: Question) -> User | None:
        """Whose it is; None: nobody's."""
        heard, now = self._heard, self._clock()
        name = digest_of(self._endpoint.encode() + b"\0" + question.digest)
        if heard.nobody.get(name, 0.0) > now:
            return None
        known = heard.users.get(name)
        if known is not None and known.at + OLDEST <= now:
            known = None
        if known is not None and known.at + self._ttl > now:
            if known.at + self._ttl * EARLY <= now and heard.away_until <= now:
                self._begin(name, question.credential)
            return known
        if heard.away_until <= now:
            with contextlib.suppress(Unreachable):
                return await asyncio.shield(self._begin(name, question.credential))
        if known is None:
            raise _away(heard.away_until - self._clock())
        return known

    def _begin(self, name: bytes, token: bytes) -> "asyncio.Task[User | None]":
        """One look-up for all who wait for it."""
        task = self._asking.get(name)
        if task is None:
            task = self._asking[name] = asyncio.create_task(self._look_up(name, token))
            task.add_done_callback(lambda done: self._ended(name, done))
        return task

    def _ended(self, name: bytes, task: "asyncio.Task[User | None]") -> None:
        self._asking.pop(name, None)
        if not task.cancelled():
            task.exception()  # whoever waited has it; behind a caller's back nobody does

    async def _look_up(self, name: bytes, token: bytes) -> User | None:
        """Raises Unreachable."""
        heard = self._heard
        try:
            async with asyncio.timeout(TIMEOUT):
                async with self._turns:
                    status, body, again = await self._get(f"{self._endpoint}/api/whoami-v2", token)
        except TimeoutError:
            if not self._turns.locked():  # else it is we who have too many questions
                heard.away_until = self._clock() + REST
            raise Unreachable from None
        now = self._clock()
        if status == 401 or (status == 403 and body[:1] == b"{"):  # else a wall before the Hub
            heard.users.pop(name, None)
            heard.nobody[name] = now + NO
            return None
        user = _read(body, now) if status == 200 else None
        if user is None:
            heard.away_until = now + max(REST, min(again, LONGEST_REST))
            raise Unreachable
        heard.away_until = 0.0
        heard.users[name] = user
        return user

    # HTTP

    async def _fetched(self, url: str) -> bytes:
        """A signer's keys."""
        try:
            async with asyncio.timeout(TIMEOUT):
                status, body, _ = await self._get(url)
        except TimeoutError:
            raise Unreachable from None
        if status != 200:
            raise Unreachable
        return body

    async def _get(self, url: str, token: bytes = b"") -> tuple[int, bytes, float]:
        """Status (0: none), body and what Retry-After asks for. No redirect is followed, least of all with a token."""
        client = self._client
        if client is None:
            limits = httpx2.Limits(max_connections=AT_ONCE, max_keepalive_connections=4)
            client = self._client = httpx2.AsyncClient(timeout=TIMEOUT, limits=limits, follow_redirects=False)
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if token:
            headers["authorization"] = "Bearer " + token.decode("latin-1")
        body = bytearray()
        try:
            async with client.stream("GET", url, headers=headers) as answer:
                async for chunk in answer.aiter_raw():
                    body += chunk
                    if len(body) > LARGEST:
                        return 0, b"", 0.0
                again = answer.headers.get("retry-after", "")
                return answer.status_code, bytes(body), float(again) if again.isascii() and again.isdigit() else 0.0
        except (httpx2.HTTPError, httpx2.InvalidURL):
            return 0, b"", 0.0


def _read(body: bytes, now: float) -> User | None:
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        told = msgspec.json.decode(body, type=_Whoami)
        if 0 < len(told.name) <= 96:
            return User(told.name, told.is_pro, tuple(each.name for each in told.orgs), now)
    return None


def _no_plan(name: str) -> Refused:
    return Refused(Fault(403, "no_plan", f"'{name[:96]}' has no plan here."))


def _away(again: float) -> Refused:
    message = "Who you are cannot be looked up now; ask again."
    return Refused(Fault(503, "identity_unavailable", message, retry_after=max(1.0, again)))
