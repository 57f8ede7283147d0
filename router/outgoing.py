"""A configured upstream, opened: its pool, its keys, and the request heads that go to it.

Heads are built once a (path, key) and kept, so that a request pays one join. They are made of the provider's data, the
operator's headers and the lent key; nothing of the caller's headers is copied (FAULTS §3.1 A7, A29). A key is bound to
its upstream's origin: `head` refuses to write it for any other.
"""

import os
import re
import urllib.parse
from collections.abc import Mapping
from time import monotonic
from types import MappingProxyType
from typing import Any, Final

import msgspec

from providers.spec import Provider, Send
from router.call import Call
from router.ceiling import Ceiling
from router.errors import not_found
from router.health import Budget
from router.keypool import KeyPool, Lent
from router.routing import Candidate
from router.secrets import Secret
from router.upstream.dial import Dialer, Origin, context, proxy_of
from router.upstream.fetch import Allowed
from router.upstream.names import Names
from router.upstream.pool import Pool
from router.upstream.settings import UpstreamSettings

AGENT: Final = "inference-router/0.1.0"
_PATH_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95}){0,7}").fullmatch
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]*").fullmatch
_TARGET: Final = re.compile(r"(/[!-~]*)?").fullmatch
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class Upstream:
    """provider + base_url + keys + timeouts, with connections. `base_url` is given where the settings leave it open;
    `budget`: retries, as a share of requests.
    """

    def __init__(
        self,
        name: str,
        provider: Provider,
        settings: UpstreamSettings,
        keys: KeyPool,
        base_url: str,
        budget: float = 0.2,
        names: Names | None = None,
        ceiling: Ceiling | None = None,
    ) -> None:
        self.name = name
        self.ceiling = ceiling  # what it may be used for as a whole; None: without a limit
        self.provider = provider
        self.settings = settings
        self.keys = keys
        self.origin = Origin.of(base_url)
        self.base_path = urllib.parse.urlsplit(base_url).path.rstrip("/")
        self.clocks = settings.timeouts
        proxy, proxy_auth = proxy_of(self.origin, settings.proxy, os.environ)
        tls = context(settings.tls) if self.origin.scheme == "https" else None
        self._names = names or Names()
        self.pool = self._pool(Dialer(self.origin, tls, proxy, proxy_auth, self._names))
        self._pools: dict[str, tuple[Origin, Pool]] = {}  # of the provider's other origins
        self.allowed = Allowed(settings.fetch_from)
        self.budget = Budget(budget, monotonic())
        self._heads: dict[tuple[str, str, str], bytes] = {}

        # A hosted provider's API is for its customers; a server of one's own has paths that delete and load.
        hosted = provider.base_url is not None and not (provider.name == "openai" and settings.base_url)
        self.passes_through = hosted if settings.pass_through is None else settings.pass_through
        self.refuses_urls = (
            settings.url_inputs == "refuse" and provider.name != "sandbox" and self.origin.scheme == "http"
        )  # a server of one's own, which would fetch what a caller names from inside the network

    def _pool(self, dialer: Dialer) -> Pool:
        clocks = self.clocks
        return Pool(
            dialer,
            limit=self.settings.connections,
            connect=clocks.connect,
            queue=clocks.queue,
            idle=clocks.idle,
        )

    def state(self, now: float) -> dict[str, Any]:
        """For operators; no secret is in it."""
        limits = [] if self.ceiling is None else self.ceiling.levels()
        return {
            "provider": self.provider.name,
            "running": self.pool.inflight,
            "limits": limits,
            "keys": [msgspec.to_builtins(each) for each in self.keys.state(now)],
        }

    def pools(self) -> list[Pool]:
        return [self.pool, *(pool for _, pool in self._pools.values())]

    def send(
        self, step: Send, provider_id: str, key: Lent | Secret | None, length: int, accept: str = "*/*"
    ) -> tuple[bytes, Pool]:
        """The head of a request that a play or a relayed file makes, and the pool it goes to: the upstream's own, or
        that of an origin which its provider lists. An upstream with an address of its own stays there.
        """
        origin, pool, base = self.origin, self.pool, self.base_path
        if step.origin and not self.settings.base_url:
            if step.origin not in self.provider.origins:
                raise ValueError("a key was about to go to an origin that is not its provider's")
            origin, pool = self._at(step.origin)
            base = ""
        if not _TARGET(step.path):
            raise ValueError("a path that may not go on the wire")
        framing = f"content-length: {length}\r\n\r\n"
        kind = f"content-type: {step.mime}\r\n" if step.body is not None and step.mime else ""
        if not _HEADER_VALUE(step.mime):
            kind = ""
        secret = key.reveal() if isinstance(key, Secret) else self._opened(key)
        rest = (kind + framing).encode("ascii") if step.method != "GET" else b"\r\n"
        place = (origin, base)
        return self._head(step.method, step.path, provider_id, secret, rest, place, step.headers, accept), pool

    def _at(self, url: str) -> tuple[Origin, Pool]:
        found = self._pools.get(url)
        if found is None:
            origin = Origin.of(url)
            proxy, auth = proxy_of(origin, self.settings.proxy, os.environ)
            tls = context(self.settings.tls) if origin.scheme == "https" else None
            found = self._pools[url] = (origin, self._pool(Dialer(origin, tls, proxy, auth, self._names)))
        return found

    def post(self, candidate: Candidate, stream: bool, key: Lent | Secret | None, length: int) -> bytes:
        """The head of a JSON request."""
        adapter = candidate.adapter
        path = adapter.stream_path if stream and adapter.stream_path else adapter.path
        provider_id = candidate.deployment.provider_id
        if isinstance(key, Secret):  # the caller's own: never kept
            return b"%b%d\r\n\r\n" % (self._head("POST", path, provider_id, key.reveal(), _JSON), length)
        name = key.name if key is not None else ""
        kept = self._heads.get((path, provider_id, name))
        if kept is None:
            secret = self._opened(key)
            kept = self._head("POST", path, provider_id, secret, _JSON)
            if len(self._heads) >= 1024:
                self._heads.clear()
            self._heads[path, provider_id, name] = kept
        return b"%b%d\r\n\r\n" % (kept, length)

    def file(self, candidate: Candidate, key: Lent | Secret | None, call: Call, length: int) -> bytes:
        """The head of a request whose body is a file, or whose answer is wanted as one of a kind."""
        step = Send(candidate.adapter.path, b"", mime=call.mime if call.raw else "application/json")
        return self.send(step, candidate.deployment.provider_id, key, length, call.accept or "*/*")[0]

    def upload(self, candidate: Candidate, key: Lent | Secret | None, boundary: bytes, length: int | None) -> bytes:
        """The head of a multipart request; chunked where its length is not known."""
        secret = key.reveal() if isinstance(key, Secret) else self._opened(key)
        framing = b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length
        kind = b'content-type: multipart/form-data; boundary="%b"\r\n%b\r\n\r\n' % (boundary, framing)
        return self._head("POST", candidate.adapter.path, candidate.deployment.provider_id, secret, kind)

    def get(self, path: str, key: Lent | None) -> bytes:
        return self._head("GET", path, "", self._opened(key), b"\r\n")

    def _opened(self, key: Lent | None) -> str:
        if key is None:
            return ""
        if key.upstream != self.name:
            raise ValueError("a key was about to leave its upstream")
        return key.secret.reveal()

    def _head(
        self,
        method: str,
        path: str,
        provider_id: str,
        secret: str,
        rest: bytes,
        place: tuple[Origin, str] | None = None,
        extra: Mapping[str, str] = _NONE,
        accept: str = "*/*",
    ) -> bytes:
        origin, base = place or (self.origin, self.base_path)
        quoted = urllib.parse.quote(provider_id, safe="/:") if "{id}" in path else ""
        if quoted and not _PATH_ID(provider_id):
            raise not_found(f"Model {provider_id[:256]} does not exist", "model", "model_not_found")
        lines = [
            f"{method} {base}{path.replace('{id}', quoted)} HTTP/1.1",
            f"host: {origin.authority()}",
            f"user-agent: {AGENT}",
            f"accept: {extra.get('accept', accept)}",
            "accept-encoding: identity",
        ]
        headers = {**self.provider.headers, **self.settings.headers, **extra}
        headers.pop("accept", None)
        lines += [f"{name.lower()}: {value.replace('{id}', provider_id)}" for name, value in headers.items()]
        if secret:
            name, prefix = self.provider.auth
            lines.append(f"{name}: {prefix}{secret}")
        if not all(_HEADER_VALUE(line) for line in lines):
            raise ValueError("a header value that may not go on the wire")
        return "\r\n".join(lines).encode("ascii") + b"\r\n" + rest


_JSON: Final = b"content-type: application/json\r\ncontent-length: "
