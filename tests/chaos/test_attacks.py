"""The attack list (FAULTS §3.1) against the running server: what is tried from both sides, and nothing comes of it.

Parsers and configuration have their own; here is what needs a caller, the server and an upstream at once.
"""

import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.chaos.answers import answer, stream, whole
from tests.chaos.upstream import Attempt, Chaos, Step, chaos
from tests.running import KEY, Running, serving

OURS = "sk-canary-provider-key-0000000001"
THEIRS = "sk-canary-provider-key-0000000002"
ADMIN = "canary-admin-key-000000000000000"
HEADERS = {"authorization": f"Bearer {KEY}"}
SAY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def echoing(attempt: Attempt) -> Iterator[Step]:
    """Says back the key that it was sent, in every form and place that it can think of."""
    key = attempt.headers.get("authorization", "").removeprefix("Bearer ")
    told = f"Incorrect API key provided: {key}. See https://x.example/?key={key} or {json.dumps(key)}"
    yield answer(400, {"error": {"message": told, "code": key, "param": key}}, f"x-key: {key}", f"location: /{key}")


def echoing_late(attempt: Attempt) -> Iterator[Step]:
    key = attempt.headers.get("authorization", "").removeprefix("Bearer ")
    yield from [*stream("m")][:5]
    event = b'data: {"error":{"message":"bad key %b"}}\n\n' % key.encode()
    yield b"%x\r\n%b\r\n" % (len(event), event)
    yield b"0\r\n\r\n"


NOISY = ("set-cookie: a=b", "access-control-allow-origin: *", "server: evil", "location: http://evil.example/",
         "strict-transport-security: max-age=1", "content-security-policy: x", "alt-svc: h3", "x-foo: bar",
         "x-request-id: theirs", "x-router-upstream: theirs", "connection: x-foo", "x-ratelimit-limit: 1")  # fmt: skip


MOVED = b"HTTP/1.1 302 X\r\nlocation: http://127.0.0.1:1/x\r\ncontent-length: 0\r\n\r\n"


def smuggling(attempt: Attempt) -> Iterator[Step]:
    """Two answers to one question: the second is for whoever asks next."""
    yield whole("first") + whole("smuggled")


@pytest.fixture(scope="module")
def upstreams() -> Iterator[tuple[Chaos, Chaos]]:
    scripts = {
        "echoes": echoing,
        "echoes-late": echoing_late,
        "noisy": lambda attempt: iter((answer(200, {"model": "x", "choices": []}, *NOISY),)),
        "smuggles": smuggling,
        "moves": lambda attempt: iter(
            (b"HTTP/1.1 302 X\r\nlocation: http://127.0.0.1:1/x\r\ncontent-length: 0\r\n\r\n",)
        ),
        "*": lambda attempt: iter((whole(attempt.model),)),
    }
    pair = Chaos(scripts), Chaos({"*": lambda attempt: iter((whole("other"),))})
    with chaos(*pair):
        yield pair


@pytest.fixture(scope="module")
def running(upstreams: tuple[Chaos, Chaos], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    one, two = upstreams
    config = f"""
auth: {{admin_key: {ADMIN}}}
virtual_keys: [{{name: alice, key: {KEY}}}]
retry: {{splice: false, backoff: {{first: 10ms}}}}
rest: {{after: 1000000 failures/1s}}
upstreams:
  one: {{provider: openai, base_url: "http://127.0.0.1:{one.port}/v1", keys: [{OURS}]}}
  two: {{provider: openai, base_url: "http://127.0.0.1:{two.port}/v1", keys: [{THEIRS}]}}
models:
  m: {{deployments: [{{upstream: one}}]}}
  both: {{deployments: [{{upstream: one, provider_id: moves}}, {{upstream: two}}]}}
  echoes: {{deployments: [{{upstream: one}}]}}
  echoes-late: {{deployments: [{{upstream: one}}]}}
  noisy: {{deployments: [{{upstream: one}}]}}
  smuggles: {{deployments: [{{upstream: one}}]}}
tables: []
"""
    with serving(config, tmp_path_factory.mktemp("attacks")) as running:
        yield running


def ask(running: Running, body: dict[str, Any], **headers: str) -> httpx2.Response:
    url = running.base + "/v1/chat/completions"
    return httpx2.post(url, json=body, headers={**HEADERS, **headers}, timeout=20)


def raw(running: Running, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", int(running.base.rpartition(":")[2])), timeout=5) as line:
        line.sendall(data)
        found = b""
        while b"\r\n\r\n" not in found and (piece := line.recv(65536)):
            found += piece
    return found


@pytest.mark.parametrize("field", ["api_base", "base_url", "api_key", "custom_host", "user_config"])
def test_a1_no_field_says_where_to_ask(field: str, running: Running, upstreams: tuple[Chaos, Chaos]) -> None:
    before = len(upstreams[1].attempts)
    refused = ask(running, {**SAY, field: f"http://127.0.0.1:{upstreams[1].port}"})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == field
    assert len(upstreams[1].attempts) == before


@pytest.mark.parametrize(
    "header",
    ["x-portkey-custom-host", "x-upstream", "x-forwarded-host", "x-original-url", "x-rewrite-url", "x-router-upstream"],
)
def test_a1_no_header_says_where_to_ask(header: str, running: Running, upstreams: tuple[Chaos, Chaos]) -> None:
    before = len(upstreams[1].attempts)
    assert ask(running, SAY, **{header: f"http://127.0.0.1:{upstreams[1].port}/x"}).status_code == 200
    assert len(upstreams[1].attempts) == before


def test_a6_what_an_upstream_says_in_its_head_stays_with_it(running: Running) -> None:
    found = ask(running, {**SAY, "model": "noisy"})
    assert found.status_code == 200
    for line in NOISY:
        name, _, value = line.partition(": ")
        assert found.headers.get(name) != value, name


@pytest.mark.parametrize(
    "line",
    ["Connection: authorization", "Connection: x-api-key, close", "Connection: content-length", "TE: trailers",
     "Trailer: x", "Proxy-Authorization: Basic eDp5", "Keep-Alive: timeout=5", "Cookie: a=b", "Forwarded: for=1.2.3.4",
     "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "OpenAI-Organization: evil",
     "HF-Something: x", "X-Request-Id: ___decode_addr_1.2.3.4:5", "Accept-Encoding: gzip"],
)  # fmt: skip
def test_a7_a29_no_header_of_the_callers_goes_up(line: str, running: Running, upstreams: tuple[Chaos, Chaos]) -> None:
    body = json.dumps(SAY).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n{line}\r\n"
    before = len(upstreams[0].attempts)
    found = raw(running, f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    assert found.startswith(b"HTTP/1.1 200")
    (attempt,) = upstreams[0].attempts[before:]
    wanted = {"host", "user-agent", "accept", "accept-encoding", "authorization", "content-type", "content-length"}
    assert set(attempt.headers) == wanted
    assert attempt.headers["authorization"] == f"Bearer {OURS}" and attempt.headers["accept-encoding"] == "identity"


def test_a9_what_follows_an_answer_is_never_the_next_callers(running: Running) -> None:
    for _ in range(30):
        ask(running, {**SAY, "model": "smuggles"})
        found = ask(running, SAY)
        assert found.status_code == 200 and found.json()["model"] == "m"


@pytest.mark.parametrize("host", ["x/health?", "x/#", "a@b", "", "[::1", "evil.com", "evil.com:80", "x" * 5000])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/metrics", "/admin/requests", "/v1/models"])
def test_a10_a_host_opens_nothing(host: str, path: str, running: Running) -> None:
    method = "POST" if "chat" in path else "GET"
    found = raw(running, f"{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 2\r\n\r\n{{}}".encode())
    assert re.match(rb"HTTP/1.1 (400|401|404|431) ", found), found[:100]


@pytest.mark.parametrize("model", ["echoes", "echoes-late"])
@pytest.mark.parametrize("streamed", [True, False])
def test_a14_a_key_that_an_upstream_says_back_is_struck_out(model: str, streamed: bool, running: Running) -> None:
    found = ask(running, {**SAY, "model": model, "stream": streamed})
    assert "canary" not in found.text + str(found.headers)
    assert found.status_code in (200, 400, 502)


def test_a15_keys_stay_with_their_upstreams(running: Running, upstreams: tuple[Chaos, Chaos]) -> None:
    assert ask(running, {**SAY, "model": "both"}).status_code == 200
    one = json.dumps([[each.headers, each.body, each.path] for each in upstreams[0].attempts])
    two = json.dumps([[each.headers, each.body, each.path] for each in upstreams[1].attempts])
    assert OURS in one and THEIRS in two
    assert THEIRS not in one and OURS not in two
    assert KEY not in one + two and ADMIN not in one + two


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "gzip, gzip", "zstd"])
def test_a20_compressed_requests_are_refused_unopened(coding: str, running: Running) -> None:
    url = running.base + "/v1/chat/completions"
    found = httpx2.post(url, content=b"\x1f\x8b" + b"\0" * 50, headers={**HEADERS, "content-encoding": coding})
    assert found.status_code == 415


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/admin", "/admin/requests", "/admin/reload", "//metrics", "/%6detrics", "/METRICS", "/metrics/",
     "/docs", "/openapi.json", "/debug", "/admin/../metrics", "/v1/../admin/requests"],
)  # fmt: skip
@pytest.mark.parametrize("who", [{"x-forwarded-for": "1.2.3.4"}, {"via": "1.1 x"}, {"host": "router.example"}, HEADERS])
def test_a23_what_is_the_operators_is_nobodys_else(path: str, who: dict[str, str], running: Running) -> None:
    if who is HEADERS:
        who = {**HEADERS, "host": "router.example"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"host": "127.0.0.1", **who}.items())
    for method in ("GET", "POST"):
        found = raw(running, f"{method} {path} HTTP/1.1\r\n{lines}content-length: 0\r\n\r\n".encode())
        assert re.match(rb"HTTP/1.1 (400|404|405) ", found), (method, found[:200])
        assert b"router_requests_total" not in found


def test_a23_the_admin_key_opens_it_from_anywhere(running: Running) -> None:
    far = {"x-forwarded-for": "1.2.3.4", "authorization": f"Bearer {ADMIN}"}
    assert httpx2.get(running.base + "/metrics", headers=far).status_code == 200
    assert httpx2.get(running.base + "/admin/requests", headers=far).status_code == 200


def test_a24_junk_makes_no_series(running: Running) -> None:
    def series() -> int:
        return httpx2.get(running.base + "/metrics").text.count("\n")

    with httpx2.Client(base_url=running.base, headers=HEADERS) as client:
        client.post("/v1/chat/completions", json={**SAY, "model": "junk"})
        before = series()
        for number in range(1500):
            client.post("/v1/chat/completions", json={**SAY, "model": f"junk/{number}"})
            if number % 10 == 0:
                client.get(f"/junk-{number}")
                client.request(f"FOO{number}", "/v1/models")
        assert series() - before < 50


@pytest.mark.parametrize("text", ["a\nb", 'x","level":"fatal', "\x1b[2J", "\u202eevil", "a" * 100_000, "\u2028"])
def test_a25_a_log_line_is_one_line_and_bounded(text: str, running: Running) -> None:
    name = f"log-{abs(hash(text))}"
    ask(running, {**SAY, "model": text}, **{"x-request-id": name})
    until = time.monotonic() + 5
    found: list[str] = []
    while not found and time.monotonic() < until:
        found = [line for line in running.log.read_text(errors="replace").splitlines() if f'"{name}"' in line]
        time.sleep(0.05)
    (line,) = found
    assert json.loads(line)["id"] == name and len(line) < 4096
    assert "\x1b" not in line and "\u202e" not in line
