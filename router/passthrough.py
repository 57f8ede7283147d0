"""`/{provider}/…`: a provider's own API, whole, with the key exchanged: what the Hub's router offers its clients.

Any method and path below a configured upstream's name, or its provider's. The model is the provider's own id, found in
the body or the path, so that a tenant's rights hold here too, and its limits and what it costs (router/metering.py): a
POST is reserved for, written down and billed; looks at a job and its end cost nothing. Nothing is retried, translated
or spliced, nor is a request known again by its `Idempotency-Key`: the bytes are the caller's and the provider's.
Follow-up addresses of queues are kept inside: a client that polls comes back here.
"""

import asyncio
import random
import re
import urllib.parse
from time import monotonic
from typing import Final

import msgspec

from providers.spec import Fault, Send
from router import envelope, failures, links, metering, naming, relay, retry
from router.caller import Caller
from router.errors import Refused, bad_request, not_found, too_large, unauthorized
from router.keypool import Lent, key_for
from router.keys import Identity
from router.metering import Events, Kept, Meter
from router.naming import Known, Register
from router.outgoing import Upstream
from router.retry import RetrySettings, Standing
from router.routing import Candidate, Table
from router.secrets import Scrubber, Secret
from router.served import FULL_LIMIT
from router.story import Story
from router.upstream.answer import NEVER, Answer
from router.upstream.faults import Broken, Silence

TASK: Final = "pass-through"
RESERVED: Final = ("v1", "models", "tgi", "api", "admin", "metrics", "health", "pipeline", "status", "framework")
_ALIAS: Final = "/api/inference-proxy/"
LOOKED_AT: Final = 256 * 1024  # bytes of a JSON answer in which addresses are exchanged
_RETRY: Final = RetrySettings()
_METHODS: Final = frozenset({b"GET", b"POST", b"PUT", b"DELETE"})
_PATH: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[\w.:@,=~+-]+)*/?", re.ASCII).fullmatch  # as all servers read it
_QUERY: Final = re.compile(r"[!-~]*").fullmatch
_SUBDOMAIN: Final = re.compile(r"(?:^|&)_subdomain=([a-z0-9-]{1,32})(?=&|$)")


class Passage(msgspec.Struct, frozen=True):
    """What a path asks for: whose API, under which name, and what of it."""

    upstream: Upstream
    named: str
    rest: str
    method: bytes
    query: str


class Passthrough:
    """One for each configuration."""

    def __init__(
        self, upstreams: dict[str, Upstream], scrubber: Scrubber, max_body: int, settings: RetrySettings = _RETRY
    ) -> None:
        self._scrubber = scrubber
        self._max_body = max_body
        self._settings = settings
        self._register = Register()
        self._dice = random.Random()  # noqa: S311 - jitter, not secrets
        self._named: dict[str, Upstream] = {}
        open_ones = {name: each for name, each in upstreams.items() if each.passes_through}
        for each in open_ones.values():
            self._named.setdefault(each.provider.name, each)
        self._named |= open_ones
        for reserved in RESERVED:
            self._named.pop(reserved, None)

    def find(self, method: bytes, path: str, query: str) -> Passage | None:
        """An upstream's name, or its provider's (the first of that provider), and what stands below it."""
        if path.startswith(_ALIAS):
            path = path[len(_ALIAS) - 1 :]
        named, slash, rest = path[1:].partition("/")
        upstream = self._named.get(named) if slash else None
        return None if upstream is None else Passage(upstream, named, "/" + rest, method, query)

    async def serve(self, caller: Caller, passage: Passage, story: Story, identity: Identity, table: Table) -> None:
        """Raises Refused; who calls this keeps the record."""
        upstream, record = passage.upstream, story.record
        _check(passage, identity)
        body = await caller.body(self._max_body)
        if len(body) > self._max_body:
            raise too_large(self._max_body)
        record.upstream = upstream.name
        kind = caller.fields.get(b"content-type", b"")
        models = self._models(passage, body, kind, identity, table)
        record.model = models[0].names[0] if models[0].names else "other"
        record.provider_id = models[0].deployment.provider_id
        if upstream.refuses_urls and (field := _link_in(body, upstream.provider.name)) is not None:
            raise bad_request(f"'{field}' is a URL, which this server may not fetch; send the data.", field)
        mime = kind.decode("latin-1")
        deadline = story.started + upstream.clocks.total
        call = metering.asked(story, identity, passage.rest, body, mime, models[0], deadline)
        place = table.places[upstream.name]
        plan = metering.planned(call, [(place, each) for each in models])
        candidate = plan.attempts[0]
        account = story.account
        assert account is not None
        billable = metering.billable(passage.method, passage.rest, body)
        if billable:
            await account.reserve_passage(call, plan, story, metering.bounds_of(identity, models))
        key = self._key(upstream, identity, story, billable)
        if billable and upstream.ceiling is not None:
            reached = await story.borrow().room(upstream.ceiling)
            if reached is not None:
                raise Refused(_held_back(f"The limit that is set for '{upstream.name}' is reached.", reached.resets))
        record.key, record.billing = (
            (key.name, "routed") if isinstance(key, Lent) else ("", "direct" if key else "none")
        )
        step = _step(passage, body, mime, caller.fields.get(b"prefer", b""))
        head, pool = upstream.send(step, "", key, len(body))
        meter: Meter | None = None
        if billable:
            story.candidate = candidate
            if account.intend(call, plan, story):
                await account.sync()
            meter = Meter(call, candidate, story)
        else:
            record.cost = record.charge = 0
        began = monotonic()
        try:
            answer = await pool.open(head, body, first=NEVER, deadline=deadline, replay=False, lane=identity.tenant)
            story.waited += monotonic() - began
            if isinstance(answer, Silence):
                raise Refused(_silent(upstream, answer.reason))
            try:
                await self._answer(caller, answer, story, passage, meter, key, candidate, models[0])
            finally:
                answer.close()
        except Broken as broken:
            reason = "timeout" if broken.reason in ("silence", "deadline") else "bad_response"
            raise Refused(_silent(upstream, reason)) from None
        except asyncio.CancelledError:
            if meter is not None:
                meter.left()
            raise

    def _models(self, passage: Passage, body: bytes, kind: bytes, identity: Identity, table: Table) -> list[Known]:
        """Those that it names, the likeliest first. Raises Refused where one is not this caller's to have."""
        upstream = passage.upstream
        ids = self._register.ids(table, upstream.name)
        named = naming.models(body, kind, passage.rest, upstream.provider, ids)
        models = [self._register.find(table, upstream.name, each) for each in named]
        for each, known in zip(named, models, strict=True):
            if not identity.allows(known.names[0] if known.names else each):
                raise not_found(f"Model {each} does not exist", "model", "model_not_found")
        if not identity.rights.all and not naming.readable(body, kind):
            raise bad_request("It cannot be told which model this body is for; send JSON or a form.", "model")
        return models

    def _judge(self, candidate: Candidate, answer: Answer, said: bytes, upstream: Upstream, key: Lent) -> None:
        """What a refusal means for our key. Only where models are asked: what else a provider has need not be open to
        the key, whoever asks for it.
        """
        now = monotonic()
        failure = failures.of_answer(candidate, answer.status, answer.headers, said, 0.0)
        other = upstream.keys.has_other(key, now)
        standing = Standing(tries=1, attempts=1, rotations=0, other_key=other, pooled=True,
                            others=False, larger=False, remaining=0.0, replay=False)  # fmt: skip
        judged = retry.judge(failure.outcome, standing, self._settings, self._dice)
        if judged.rest_key:
            upstream.keys.rest(key, judged.why, judged.rest_key, now)

    async def _answer(
        self,
        caller: Caller,
        answer: Answer,
        story: Story,
        passage: Passage,
        meter: Meter | None,
        key: Lent | Secret | None,
        candidate: Candidate,
        known: Known,
    ) -> None:
        upstream = passage.upstream
        if isinstance(key, Lent):
            upstream.keys.learn(key, answer.status, answer.fields, monotonic())
        if 200 <= answer.status < 400:
            await self._relay(caller, answer, story, passage, meter)
            return
        said = await answer.read(failures.ERROR_LIMIT)
        if meter is not None:
            meter.failed()
            if isinstance(key, Lent) and metering.is_models(passage.rest, known):
                self._judge(candidate, answer, said, upstream, key)
        story.record.outcome, story.record.status = "error", answer.status
        lines = relay.passed(answer.headers) + relay.told(story, monotonic())
        await caller.answer(answer.status, lines, self._scrubber.bytes(said))

    async def _relay(self, caller: Caller, answer: Answer, story: Story, passage: Passage, meter: Meter | None) -> None:
        kind = answer.fields.get(b"content-type", b"").lower()
        if b"json" in kind and int(answer.fields.get(b"content-length", b"0")) <= LOOKED_AT:
            said = self._scrubber.bytes(await answer.read(FULL_LIMIT))
            if meter is not None:
                meter.whole(said, answer)
            said = _kept_inside(said, passage, caller)
            story.record.status, story.first = answer.status, monotonic()
            await caller.answer(answer.status, relay.passed(answer.headers) + relay.told(story, story.first), said)
            return
        story.record.status, story.first = answer.status, monotonic()
        story.record.stream = kind.startswith(b"text/event-stream")
        lines = relay.passed(answer.headers) + relay.told(story, story.first)
        if meter is None:
            await relay.pour(caller, answer, story, lines)
        else:
            passing = meter.stream() if story.record.stream else Kept(meter, answer)
            await _pour(caller, answer, story, lines, passing)

    def _key(self, upstream: Upstream, identity: Identity, story: Story, billable: bool) -> Lent | Secret | None:
        """Whose key goes with it. A look at a job takes nothing of a key."""
        keys, now, failed = upstream.keys, monotonic(), False
        needed = upstream.provider.needs_key and not upstream.settings.base_url
        while True:
            choice = key_for(
                identity, upstream.name, upstream.provider.name,
                pooled=not keys.empty, needed=needed, pinned=True, failed=failed,
            )  # fmt: skip
            if choice != "pool":
                break
            lent = keys.lend(now) if billable else keys.peek(now)
            if lent is not None:
                if lent.hold:
                    story.borrow().key(keys, lent)
                return lent
            if failed or identity.own_first or not identity.stored_keys:
                raise Refused(_keyless(upstream, now))
            failed = True
        if choice == "denied":
            raise unauthorized()
        return choice if isinstance(choice, Secret) else None


async def _pour(caller: Caller, answer: Answer, story: Story, lines: bytes, passing: Events | Kept) -> None:
    """As it comes, and looked at."""
    length = answer.fields.get(b"content-length")
    caller.begin(answer.status, lines, None if length is None else int(length))

    def take(data: bytes) -> bool:
        out = passing.feed(data)
        return (not out or caller.write(out)) and not passing.burnt and not passing.dry

    whole = False
    try:
        while not (whole := await answer.pour(take)) and not passing.burnt:
            await passing.more()
            await caller.drained()
    except Broken as broken:
        story.record.outcome, story.record.broken = "broken", broken.reason
        caller.cut()  # there is no error form to end it with
        return
    finally:
        rest = passing.close(whole)
    story.proven = answer.framed
    if passing.burnt and length is not None:
        caller.cut()
    else:
        await caller.finish(rest)


def _check(passage: Passage, identity: Identity) -> None:
    """Whether there is such an address, for this caller."""
    method, rest, upstream = passage.method, passage.rest, passage.upstream
    fits = method in _METHODS and _PATH(rest) and _QUERY(passage.query)
    if not fits or not identity.reaches(upstream.name, upstream.provider.name):
        raise not_found(f"There is no {method.decode('ascii', 'replace')} /{passage.named}{rest[:256]}")


def _held_back(message: str, seconds: float | None) -> Fault:
    return Fault(429, "upstream_rate_limited", message, retry_after=seconds)


def _keyless(upstream: Upstream, now: float) -> Fault:
    """None of ours can be lent."""
    shut = upstream.keys.shut(now)
    if shut.limited:
        return _held_back(f"All keys for the upstream '{upstream.name}' wait for their limits.", shut.seconds)
    return Fault(502, "upstream_credentials_exhausted", "No key that this server holds was accepted upstream.")


def _silent(upstream: Upstream, reason: str) -> Fault:
    status, code, words = failures.silent(reason)
    return Fault(status, code, f"The upstream '{upstream.name}' {words}.")


def _link_in(body: bytes, provider: str) -> str | None:
    """The field that a server of one's own would fetch. What task it is nobody said, so that each may take files."""
    begins = body.lstrip()[:1]
    fields = envelope.read(body) if begins == b"{" else {"inputs": msgspec.Raw(body)} if begins == b"[" else {}
    return links.in_fields(fields, provider, files=True)


def _step(passage: Passage, body: bytes, mime: str, prefer: bytes) -> Send:
    origin, query = _origin(passage.upstream, passage.query)
    return Send(
        urllib.parse.quote(passage.rest, safe="/:@,=~+%-._") + (f"?{query}" if query else ""),
        body if body or passage.method != b"GET" else None,
        passage.method.decode("ascii"),
        mime,
        headers={"prefer": "wait"} if prefer.lower() == b"wait" else {},
        origin=origin,
    )


def _origin(upstream: Upstream, query: str) -> tuple[str, str]:
    """fal's queue is a host of its own, which clients of the Hub's router name in the query."""
    found = _SUBDOMAIN.search(query)
    if found is None:
        return "", query
    wanted = next((each for each in upstream.provider.origins if each.startswith(f"https://{found[1]}.")), "")
    return wanted, _SUBDOMAIN.sub("", query).strip("&")


def _kept_inside(body: bytes, passage: Passage, caller: Caller) -> bytes:
    """A job's follow-up addresses, which clients ask by their path on the host that they asked first: below our name.

    fal answers `response_url`, `status_url`, `cancel_url`; wavespeed and replicate `urls.get` and `urls.cancel`. The
    router.huggingface.co of a mapped host is left alone: its clients add the provider's name themselves.
    """
    host = caller.fields.get(b"host", b"").lower().partition(b":")[0]
    if host == b"router.huggingface.co" or (b"_url" not in body and b'"urls"' not in body):
        return body
    upstream = passage.upstream
    origins = {f"{upstream.origin.scheme}://{upstream.origin.authority()}{upstream.base_path}"}
    if not upstream.settings.base_url:
        origins |= set(upstream.provider.origins)
    scheme = b"https" if caller.fields.get(b"x-forwarded-proto") == b"https" else b"http"
    ours = b"%b://%b/%b/" % (scheme, caller.fields.get(b"host", b"localhost"), passage.named.encode())

    def moved(found: re.Match[bytes]) -> bytes:
        origin = next((each for each in origins if found[2].startswith(each.encode() + b"/")), None)
        return found[0] if origin is None else found[1] + ours + found[2][len(origin) + 1 :] + b'"'

    return _FOLLOW_UP.sub(moved, body)


_FOLLOW_UP: Final = re.compile(
    rb'("(?:response_url|status_url|cancel_url|polling_url|get|cancel|stream)"\s*:\s*")([^"\\]*)"'
)
