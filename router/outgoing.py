"""A configured upstream, opened: its pool, its keys, and the request heads that go to it.

Heads are built once a (path, key) and kept, so that a request pays one join. They are made of the provider's data, the
operator's headers and the lent key; nothing of the caller's headers is copied (FAULTS §3.1 A7, A29). A key is bound to
its upstream's origin: `head` refuses to write it for any other.
"""

import os
import re
import urllib.parse
from time import monotonic
from typing import Final

from providers.spec import Provider
from router.errors import not_found
from router.health import Budget
from router.keys import KeyPool, Lent
from router.routing import Candidate
from router.secrets import Secret
from router.upstream.dial import Dialer, Origin, context, proxy_of
from router.upstream.names import Names
from router.upstream.pool import Pool
from router.upstream.settings import UpstreamSettings

AGENT: Final = "inference-router/0.1.0"
_PATH_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95}){0,3}").fullmatch
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]*").fullmatch


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
    ) -> None:
        self.name = name
        self.provider = provider
        self.settings = settings
        self.keys = keys
        self.origin = Origin.of(base_url)
        self.base_path = urllib.parse.urlsplit(base_url).path.rstrip("/")
        self.clocks = settings.timeouts
        proxy, proxy_auth = proxy_of(self.origin, settings.proxy, os.environ)
        tls = context(settings.tls) if self.origin.scheme == "https" else None
        self.pool = Pool(
            Dialer(self.origin, tls, proxy, proxy_auth, names or Names()),
            limit=settings.connections,
            connect=self.clocks.connect,
            queue=self.clocks.queue,
            idle=self.clocks.idle,
        )
        self.budget = Budget(budget, monotonic())
        self._heads: dict[tuple[str, str, str], bytes] = {}

        self.refuses_urls = (
            settings.url_inputs == "refuse" and provider.name != "sandbox" and self.origin.scheme == "http"
        )  # a server of one's own, which would fetch what a caller names from inside the network

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

    def _head(self, method: str, path: str, provider_id: str, secret: str, rest: bytes) -> bytes:
        quoted = urllib.parse.quote(provider_id, safe="/:") if "{id}" in path else ""
        if quoted and not _PATH_ID(provider_id):
            raise not_found(f"Model {provider_id[:256]} does not exist", "model", "model_not_found")
        lines = [
            f"{method} {self.base_path}{path.replace('{id}', quoted)} HTTP/1.1",
            f"host: {self.origin.authority()}",
            f"user-agent: {AGENT}",
            "accept: */*",
            "accept-encoding: identity",
        ]
        headers = {**self.provider.headers, **self.settings.headers}
        lines += [f"{name.lower()}: {value.replace('{id}', provider_id)}" for name, value in headers.items()]
        if secret:
            name, prefix = self.provider.auth
            lines.append(f"{name}: {prefix}{secret}")
        if not all(_HEADER_VALUE(line) for line in lines):
            raise ValueError("a header value that may not go on the wire")
        return "\r\n".join(lines).encode("ascii") + b"\r\n" + rest


_JSON: Final = b"content-type: application/json\r\ncontent-length: "
