"""No secret is at rest, in no form: neither in what outlives the server nor in anything that it says.

A session of requests, well and badly ended, with every kind of credential that there is, over both databases and with
a Redis that asks for a password; the stores go away and come back, the file is read again with a fault in it. Then all
that there is to read is searched for what must not be there.
"""

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final

import httpx2
import jwt
import psycopg
import pytest
import redis

from tests.flows.replicas import figure, recovered, written
from tests.flows.test_identity import PRO, SIGNING, Site, site
from tests.router.stores.postgres_server import PostgresServer, postgres, postgres_url
from tests.router.stores.redis_server import RedisServer
from tests.running import Running, server_of, serving
from tests.threaded import Threaded

__all__ = ["postgres", "postgres_url", "site"]

SECRETS: Final = {
    "a key of the file": "hf_canaryOfTheFile00Ab3dEf6hIj9lMn2p",
    "a user's own key": "sk-canaryOfUser00Ab3dEf6hIj9lMn2pQr",
    "a user's own key that is refused": "sk-canaryWrongUser00Ab3dEf6hIj9lMn2",
    "a provider key": "sk-canaryOfProvider00Ab3dEf6hIj9lMn",
    "a tenant's own provider key": "sk-canaryOfTenant00Ab3dEf6hIj9lMn2p",
    "the admin key": "admin-canary-00Ab3dEf6hIj9lMn2pQr5t",
    "the Redis password": "canaryOfRedis00Ab3dEf6hIj9lMn2pQr5t",
    "the PostgreSQL password": "canaryOfPostgres00Ab3dEf6hIj9lMn2pQ",
    "an Idempotency-Key": "canaryOfIdempotency00Ab3dEf6hIj9lMn",
    "a key in an address": "hf_canaryInAddress00Ab3dEf6hIj9lMn2",
    "a Hub token": PRO,
}
_CONFIG: Final = """
server: {{workers: 2, drain_delay: 0s}}
auth:
  mode: hub
  user_keys: true
  admin_key: {admin}
  hub: {{endpoint: "{site}", plans: {{free: free, pro: pro}}}}
  jwt: {{issuer: "{site}", audience: router, jwks: "{site}/keys"}}
stores: {{shared: "{shared}", ledger: "{ledger}", directory: "{state}"}}
plans: {{free: {{requests: 3/hour}}, pro: {{budget: 10 USD/month, tokens: 1000000/hour, concurrency: 50}}}}
virtual_keys: [{{name: alice, plan: pro, key: {file}, user_keys: {{own: {tenant}}}}}]
upstreams:
  sandbox: {{provider: sandbox}}
  telltale: {{provider: openai, base_url: "http://127.0.0.1:{port}/v1", keys: [{provider}]}}
  own: {{provider: openai, base_url: "http://127.0.0.1:{port}/v1"}}
tables: []
retry: {{backoff: {{first: 1ms, most: 2ms}}}}
models:
  chat: {{cache: true, deployments: [{{upstream: sandbox, provider_id: sandbox/echo, price: {{input: 1, output: 2}}}}]}}
  picture:
    task: text-to-image
    deployments: [{{upstream: sandbox, provider_id: sandbox/echo, price: {{image: 0.1}}}}]
  tells: {{deployments: [{{upstream: telltale, provider_id: m}}]}}
  own: {{deployments: [{{upstream: own, provider_id: m}}]}}
"""


class Telltale(BaseHTTPRequestHandler):
    """An upstream that refuses, and quotes whatever key it was sent."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        said = self.headers.get("authorization", "")
        error = {
            "message": f"Incorrect API key: {said}",
            "code": said,
            "encoded": base64.b64encode(said.encode()).decode(),
        }
        body = json.dumps({"error": error}).encode()
        self.send_response(401 if "Provider" in said else 500, said[-40:])
        for name, value in (("content-type", "application/json"), ("content-length", str(len(body))), ("x-key", said)):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def telltale() -> Iterator[int]:
    server = Threaded(("127.0.0.1", 0), Telltale)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield int(server.server_address[1])
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def guarded() -> Iterator[RedisServer]:
    """A Redis with a password, which writes its dump as it is."""
    server = RedisServer()
    server.start("--rdbcompression", "no")
    server.say("CONFIG", "SET", "requirepass", SECRETS["the Redis password"])
    yield server
    server.close()


def of(server: RedisServer) -> str:
    return f"unix://:{SECRETS['the Redis password']}@{server.path}"


def forms(secret: str) -> Iterator[bytes]:
    """As it stands, without its beginning, and as encodings write it."""
    data = secret.encode()
    yield data[8:-4]
    yield data[8:-4].hex().encode()
    for before in range(3):
        yield base64.b64encode(b"\0" * before + data)[4 + before : -8]


def hits(where: str, held: bytes, secrets: dict[str, str]) -> list[str]:
    return [
        f"{what} in {where}: {held[max(0, at - 40) : at + 20]!r}"
        for what, secret in secrets.items()
        for form in forms(secret)
        if (at := held.find(form)) >= 0
    ]


class Session:
    def __init__(self, running: Running, site: Site) -> None:
        self.running = running
        self.said: list[bytes] = []
        claims = {"iss": site.base, "aud": "router", "sub": "carol", "exp": time.time() + 60, "plan": "free"}
        self.secrets = {**SECRETS, "a signed token": jwt.encode(claims, SIGNING, "ES256", headers={"kid": "one"})}

    def ask(self, path: str, key: str, body: Any, method: str = "POST", **headers: str) -> httpx2.Response:
        given = {"authorization": f"Bearer {key}"} if key else {}
        sent = {"json": body} if not isinstance(body, bytes) else {"content": body}
        answer = httpx2.request(method, self.running.base + path, headers={**given, **headers}, timeout=20, **sent)
        self.said.append(
            b"\n".join([str(answer.status_code).encode(), *(n + b": " + v for n, v in answer.headers.raw)])
        )
        self.said.append(answer.content)
        return answer

    def chat(self, whose: str, model: str = "chat", **more: Any) -> int:
        headers = more.pop("headers", {})
        body = {"model": model, "messages": [{"role": "user", "content": f"hello {whose}"}], **more}
        return self.ask("/v1/chat/completions", self.secrets[whose], body, **headers).status_code

    def operate(self, path: str, body: Any = None, method: str = "GET") -> httpx2.Response:
        sent = {} if body is None else {"json": body}
        headers = {"authorization": f"Bearer {self.secrets['the admin key']}"}
        return httpx2.request(method, self.running.base + path, headers=headers, timeout=20, **sent)

    def make_keys(self) -> None:
        for name in ("stored", "rotated", "revoked"):
            made = self.operate("/admin/keys", {"name": name, "plan": "free"}, "POST").json()
            self.secrets[f"a stored key, {name}"] = made["key"]
        made = self.operate("/admin/keys/rotated/rotate", {"grace": "1h"}, "POST").json()
        self.secrets["a stored key, new"] = made["key"]
        self.operate("/admin/keys/revoked", method="DELETE")
        time.sleep(2.0)  # every worker knows them, whatever the disk is doing

    def well_and_badly(self) -> list[int]:
        """A little of everything."""
        again = {"idempotency-key": self.secrets["an Idempotency-Key"]}
        got = [self.chat("a key of the file") for _ in range(3)]
        got += [self.chat("a key of the file", headers=again), self.chat("a key of the file", headers=again)]
        got += [self.chat("a key of the file", stream=True), self.chat("a Hub token"), self.chat("a Hub token")]
        got += [
            self.chat("a signed token"),
            self.chat("a stored key, stored", headers={**again, "x-hf-bill-to": "evil"}),
        ]
        got += [self.chat(f"a stored key, {each}") for each in ("stored", "rotated", "new", "revoked")]
        got += [self.chat("a stored key, stored") for _ in range(4)]  # its plan has three
        got += [self.chat("a user's own key", "tells"), self.chat("a user's own key that is refused", "own")]
        got += [self.chat("a key of the file", "tells"), self.chat("a key of the file", "tells", stream=True)]
        got += [self.chat("a key of the file", "own"), self.chat("a key of the file", "no/such")]
        file, inside = self.secrets["a key of the file"], self.secrets["a key in an address"]
        picture = {"model": "picture", "prompt": "a cat", "n": 1, "size": "64x64"}
        for body in (picture, picture, b'{"model": ', {"model": "chat", "messages": 1}):
            got.append(self.ask("/v1/images/generations", file, body, **again).status_code)
        got.append(
            self.ask(f"/v1/chat/completions?api_key={inside}", "", {"model": "chat", "messages": []}).status_code
        )
        got.append(self.ask(f"/v1/{inside}?key={inside}", "", None, "GET").status_code)
        self.said.pop()  # there is no such path, it says: to the caller who wrote it
        got.append(self.ask("/v1/usage", file, None, "GET", **{"x-api-key": inside}).status_code)
        for path in ("/v1/usage", "/v1/models", "/api/whoami-v2", "/health"):
            got.append(self.ask(path, file, None, "GET").status_code)
        return got

    def shown(self) -> Iterator[tuple[str, bytes]]:
        yield "the answers", b"\n".join(self.said)
        for path in (
            "/metrics",
            "/admin/requests",
            "/admin/keys",
            "/admin/keys?all",
            "/admin/usage?by=tenant,key,model",
        ):
            yield path, self.operate(path).content
        for each in self.operate("/admin/requests").json()["requests"]:
            yield "/admin/requests/…", self.operate(f"/admin/requests/{each['id']}").content
        yield "the log", self.running.log.read_bytes() + self.running.errors.read_bytes()


def files(where: Path) -> Iterator[tuple[str, bytes]]:
    for each in where.rglob("*"):
        if each.is_file():
            yield str(each), each.read_bytes()


def of_workers(running: Running) -> Path:
    """The directory that the workers of one host share."""
    mapped = Path(f"/proc/{server_of(running)}/maps").read_text()
    children = Path(f"/proc/{server_of(running)}/task/{server_of(running)}/children").read_text().split()
    mapped += "".join(Path(f"/proc/{each}/maps").read_text() for each in children)
    return next(Path(line.split()[-1]).parent for line in mapped.splitlines() if line.endswith("/limits"))


def dumped(server: RedisServer) -> bytes:
    """Its file, and each key as it is kept."""
    with contextlib.closing(redis.Redis.from_url(of(server))) as client:
        held = b"".join(name + (client.dump(name) or b"") for name in client.scan_iter(count=1000))
        client.save()
    return held + (server.path.parent / "dump.rdb").read_bytes()


def tables(url: str) -> bytes:
    with psycopg.connect(url) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        found = b""
        for (name,) in names:
            with connection.cursor().copy(f"COPY {name} TO STDOUT".encode()) as copy:
                found += b"".join(bytes(each) for each in copy)
        return found


def text(site: Site, port: int, shared: str, ledger: str, state: Path) -> str:
    named = {"file": "a key of the file", "admin": "the admin key", "provider": "a provider key"}
    keys = {name: SECRETS[what] for name, what in {**named, "tenant": "a tenant's own provider key"}.items()}
    return _CONFIG.format(site=site.base, port=port, shared=shared, ledger=ledger, state=state, **keys)


def broken(file: Path) -> None:
    """Somebody writes a key where none belongs."""
    wrong = f"tablets: [{SECRETS['a provider key']}]"
    file.write_text(file.read_text().replace("keys: [", "key: [").replace("tables: []", wrong))


def through(session: Session, place: Path) -> list[int]:
    session.make_keys()
    got = session.well_and_badly()
    whole = (place / "config.yaml").read_text()
    broken(place / "config.yaml")
    answer = session.operate("/admin/reload", {}, "POST")
    assert answer.status_code == 422
    session.said.append(answer.content)
    (place / "config.yaml").write_text(whole)
    return got


def found(session: Session, place: Path) -> list[str]:
    """Where a secret is that must not be."""
    looked = [*session.shown(), *files(of_workers(session.running)), *files(place / "state")]
    names = " ".join(where for where, _ in looked)
    assert "keys.json" in names and "spool" in names and "claims.db" in names, names
    return [hit for where, held in looked for hit in hits(where, held, session.secrets)]


def test_no_secret_is_at_rest_on_one_host(site: Site, telltale: int, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with serving(text(site, telltale, "memory", f"sqlite:///{state}/router.db", state), tmp_path) as running:
        session = Session(running, site)
        got = through(session, tmp_path)
        written([running])
        held = found(session, tmp_path)
        assert (state / "router.db").exists() and b"carol" in (state / "router.db").read_bytes() + (
            state / "router.db-wal"
        ).read_bytes()
    assert held == []
    assert [*files(state)] and not [hit for where, kept in files(state) for hit in hits(where, kept, session.secrets)]
    print(f"{len(session.secrets)} secrets, {len(got)} requests ({sorted(set(got))}): 0 hits")
    assert {200, 401, 403, 404, 429} <= set(got)


@pytest.mark.slow
def test_no_secret_is_at_rest_in_the_stores_of_replicas(
    site: Site,
    telltale: int,
    guarded: RedisServer,
    postgres: PostgresServer,
    tmp_path: Path,
) -> None:
    plain = postgres.fresh()
    password = SECRETS["the PostgreSQL password"]
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE router LOGIN SUPERUSER PASSWORD '{password}'".encode())
    ledger = plain.replace("postgres:@", f"router:{password}@")
    with serving(text(site, telltale, of(guarded), ledger, tmp_path / "state"), tmp_path) as running:
        session = Session(running, site)
        got = through(session, tmp_path)
        postgres.kill()
        guarded.hang()
        time.sleep(1.0)
        got += session.well_and_badly()
        got += [session.operate("/admin/usage").status_code, session.operate("/admin/keys").status_code]
        assert figure(running, "router_store_degraded") and figure(running, "router_ledger_away")
        held = found(session, tmp_path)
        guarded.go_on()
        postgres.start()
        recovered([running])
        written([running])
        held += found(session, tmp_path)
        for where, kept in (("Redis", dumped(guarded)), ("PostgreSQL", tables(plain))):
            assert b"carol" in kept, where
            held += hits(where, kept, session.secrets)
    held += [hit for where, kept in files(tmp_path / "state") for hit in hits(where, kept, session.secrets)]
    print(f"{len(session.secrets)} secrets, {len(got)} requests ({sorted(set(got))}): {len(held)} hits")
    assert held == []
