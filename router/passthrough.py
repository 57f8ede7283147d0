"""`/{provider}/…`: a provider's own API, whole, with the key exchanged: what the Hub's router offers its clients.

Any method and path below a configured upstream's name, or its provider's. The model is the provider's own id, found in
the body or the path, so that a tenant's rights hold here too. Nothing is retried, translated or spliced: the bytes are
the caller's and the provider's. Follow-up addresses of queues are kept inside: a client that polls comes back here.
"""

import contextlib
import re
import urllib.parse
from time import monotonic
from typing import Final

import msgspec

from providers.spec import Fault, Send
from router import envelope, failures, links, naming, relay, usage
from router.caller import Caller
from router.errors import Refused, bad_request, not_found, too_large, unauthorized
from router.keypool import Lent
from router.keys import Identity
from router.outgoing import Upstream
from router.routing import Table
from router.secrets import Scrubber, Secret
from router.served import FULL_LIMIT
from router.story import Story
from router.upstream.answer import NEVER, Answer
from router.upstream.faults import Broken, Silence

TASK: Final = "pass-through"
RESERVED: Final = ("v1", "models", "tgi", "api", "admin", "metrics", "health", "pipeline", "status", "framework")
_ALIAS: Final = "/api/inference-proxy/"
LOOKED_AT: Final = 256 * 1024  # bytes of a JSON answer in which addresses are exchanged and usage is read
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

    def __init__(self, upstreams: dict[str, Upstream], scrubber: Scrubber, max_body: int) -> None:
        self._scrubber = scrubber
        self._max_body = max_body
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
        method, rest, query, upstream = passage.method, passage.rest, passage.query, passage.upstream
        if method not in _METHODS or not _PATH(rest) or not _QUERY(query):
            raise not_found(f"There is no {method.decode('ascii', 'replace')} /{passage.named}{rest[:256]}")
        if not identity.reaches(upstream.name, upstream.provider.name):
            raise not_found(f"There is no {method.decode('ascii', 'replace')} /{passage.named}{rest[:256]}")
        body = await caller.body(self._max_body)
        if len(body) > self._max_body:
            raise too_large(self._max_body)
        record = story.record
        record.upstream = upstream.name
        kind = caller.fields.get(b"content-type", b"")
        models = naming.models(body, kind, rest, upstream.provider, table.ids(upstream.name))
        record.model, record.provider_id = table.named(upstream.name, models[0]) or "other", models[0]
        for each in models:
            if not identity.allows(table.named(upstream.name, each) or each):
                raise not_found(f"Model {each} does not exist", "model", "model_not_found")
        if not identity.rights.all and not naming.readable(body, kind):
            raise bad_request("It cannot be told which model this body is for; send JSON or a form.", "model")
        if upstream.refuses_urls and (field := _link_in(body, upstream.provider.name)) is not None:
            raise bad_request(f"'{field}' is a URL, which this server may not fetch; send the data.", field)
        key = self._key(upstream, identity)
        if isinstance(key, Lent) and key.hold:
            story.borrow().key(upstream.keys, key)
        record.key, record.billing = (
            (key.name, "routed") if isinstance(key, Lent) else ("", "direct" if key else "none")
        )
        origin, query = _origin(upstream, query)
        step = Send(
            urllib.parse.quote(rest, safe="/:@,=~+%-._") + (f"?{query}" if query else ""),
            body if body or method != b"GET" else None,
            method.decode("ascii"),
            kind.decode("latin-1"),
            headers={"prefer": "wait"} if caller.fields.get(b"prefer", b"").lower() == b"wait" else {},
            origin=origin,
        )
        head, pool = upstream.send(step, "", key, len(body))
        deadline = story.started + upstream.clocks.total
        began = monotonic()
        answer = await pool.open(head, body, first=NEVER, deadline=deadline, replay=False, lane=identity.tenant)
        story.waited += monotonic() - began
        if isinstance(answer, Silence):
            raise Refused(_silent(upstream, answer.reason))
        if isinstance(key, Lent):
            upstream.keys.learn(key, answer.status, answer.fields, monotonic())
        try:
            await self._relay(caller, answer, story, passage)
        except Broken as broken:
            reason = "timeout" if broken.reason in ("silence", "deadline") else "bad_response"
            raise Refused(_silent(upstream, reason)) from None
        finally:
            answer.close()

    async def _relay(self, caller: Caller, answer: Answer, story: Story, passage: Passage) -> None:
        kind = answer.fields.get(b"content-type", b"").lower()
        if not 200 <= answer.status < 400:
            said = self._scrubber.bytes(await answer.read(failures.ERROR_LIMIT))
            story.record.outcome, story.record.status = "error", answer.status
            await caller.answer(answer.status, relay.passed(answer.headers) + relay.told(story, monotonic()), said)
            return
        if b"json" in kind and int(answer.fields.get(b"content-length", b"0")) <= LOOKED_AT:
            said = self._scrubber.bytes(await answer.read(FULL_LIMIT))
            with contextlib.suppress(ValueError):  # whatever it is, it is the caller's
                reply = usage.of_reply(said) if said else None
                if reply is not None and reply.usage is not None:
                    story.use(reply.usage)
            said = _kept_inside(said, passage, caller)
            story.record.status, story.first = answer.status, monotonic()
            await caller.answer(answer.status, relay.passed(answer.headers) + relay.told(story, story.first), said)
            return
        story.record.status, story.first = answer.status, monotonic()
        story.record.stream = kind.startswith(b"text/event-stream")
        await relay.pour(caller, answer, story, relay.passed(answer.headers) + relay.told(story, story.first))

    def _key(self, upstream: Upstream, identity: Identity) -> Lent | Secret | None:
        stored = identity.stored_keys.get(upstream.name) or identity.stored_keys.get(upstream.provider.name)
        if stored and identity.own_first:
            return stored
        if identity.user_key is not None:
            return identity.user_key
        lent = upstream.keys.lend(monotonic())
        if lent is None and stored:
            return stored
        if lent is None and upstream.provider.needs_key and not upstream.settings.base_url:
            raise unauthorized()
        return lent


def _silent(upstream: Upstream, reason: str) -> Fault:
    status, code, words = failures.silent(reason)
    return Fault(status, code, f"The upstream '{upstream.name}' {words}.")


def _link_in(body: bytes, provider: str) -> str | None:
    """The field that a server of one's own would fetch. What task it is nobody said, so that each may take files."""
    begins = body.lstrip()[:1]
    fields = envelope.read(body) if begins == b"{" else {"inputs": msgspec.Raw(body)} if begins == b"[" else {}
    return links.in_fields(fields, provider, files=True)


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
