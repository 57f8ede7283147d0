"""Who is let in, from outside: keys of a store made and revoked while it serves, the Hub's users, signed tokens.

The server is a real one of two workers; the Hub and the signer of tokens are one scripted server on loopback.
"""

import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.running import KEY, Running, serving
from tests.threaded import Threaded

ADMIN = "admin-canary-0123456789"
PRO, FREE, NOBODY = "hf_canaryTokenOfPro000000", "hf_canaryTokenOfFree00000", "hf_canaryTokenOfNobody00"
MODEL = "sandbox/echo"
SIGNING = ec.generate_private_key(ec.SECP256R1())
FILE = """
server: {{workers: 2, drain_delay: 0s}}
auth:
  mode: hub
  admin_key: {admin}
  hub: {{endpoint: "{site}", plans: {{free: free, pro: pro}}}}
  jwt: {{issuer: "{site}", audience: router, jwks: "{site}/keys"}}
plans: {{free: {{not_models: ["*-pro"]}}, pro: {{}}, elsewhere: {{providers: [other]}}}}
virtual_keys: [{{name: of-file, key: {key}}}]
upstreams: {{sandbox: {{provider: sandbox}}, other: {{provider: openai, base_url: "http://127.0.0.1:9/v1"}}}}
models:
  org/any: {{deployments: [{{upstream: sandbox, provider_id: sandbox/echo}}]}}
  org/any-pro: {{deployments: [{{upstream: sandbox, provider_id: sandbox/echo}}]}}
tables: []
stores: {{ledger: "sqlite:///{place}/router.db"}}
"""


@dataclass
class Site:
    """The Hub, and the issuer of signed tokens."""

    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    status: int = 0
    base: str = ""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()
    acme = [{"type": "org", "name": "acme", "fullname": "Acme", "roleInOrg": "admin"}]
    token = {"type": "access_token", "accessToken": {"displayName": "t", "role": "read"}}
    for key, name in ((PRO, "paula"), (FREE, "fred")):
        site.users[key] = {"type": "user", "name": name, "isPro": key == PRO, "orgs": acme, "auth": token}

    class Asked(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            told: Any = site.users.get(self.headers.get("authorization", "").removeprefix("Bearer "))
            if self.path == "/keys":
                told = {"keys": [{**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(SIGNING.public_key())), "kid": "one"}]}
            status = site.status or (200 if told else 401)
            body = json.dumps(told or {"error": "Invalid credentials in Authorization header"}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = Threaded(("127.0.0.1", 0), Asked)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    site.base = f"http://127.0.0.1:{server.server_address[1]}"
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("identity")


@pytest.fixture(scope="module")
def running(site: Site, place: Path) -> Iterator[Running]:
    with serving(FILE.format(admin=ADMIN, site=site.base, key=KEY, place=place), place) as running:
        yield running


def ask(running: Running, key: str, model: str = "org/any", **headers: str) -> tuple[int, str]:
    """Each time on a connection of its own, so that either worker may answer."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"authorization": f"Bearer {key}", **headers}
    answer = httpx2.post(f"{running.base}/v1/chat/completions", json=body, headers=headers)
    return answer.status_code, answer.json().get("error", {}).get("code", "")


def operate(running: Running, method: str, path: str, body: Any = None) -> dict[str, Any]:
    answer = httpx2.request(
        method, f"{running.base}/admin/keys{path}", json=body, headers={"authorization": f"Bearer {ADMIN}"}
    )
    assert answer.status_code in (200, 201), answer.text
    told: dict[str, Any] = answer.json()
    return told


def soon(what: Callable[[], bool], seconds: float = 2.0) -> float:
    """How long it takes until that holds, five times in a row (there are two workers)."""
    began = time.monotonic()
    held = 0
    while held < 5:
        held = held + 1 if what() else 0
        assert time.monotonic() - began < seconds
        time.sleep(0.02)
    return time.monotonic() - began


def test_a_stored_key_opens_every_worker_within_two_seconds_and_closes_as_soon(running: Running) -> None:
    made = operate(running, "POST", "", {"name": "laptop", "tenant": "acme", "plan": "free"})
    key = made["key"]
    opened = soon(lambda: ask(running, key)[0] == 200)
    assert ask(running, key, "org/any-pro") == (404, "model_not_found")
    fresh = operate(running, "POST", "/laptop/rotate", {"grace": "1h"})["key"]
    soon(lambda: ask(running, fresh)[0] == 200)
    assert ask(running, key)[0] == 200
    operate(running, "DELETE", "/laptop")
    closed = soon(lambda: (ask(running, key)[0], ask(running, fresh)[0]) == (401, 401))
    print(f"known after {opened:.2f} s, revoked after {closed:.2f} s")
    soon(lambda: any((each["tenant"], each["virtual_key"]) == ("acme", "laptop") for each in running.records(1)))


@pytest.mark.slow
def test_the_command_line_makes_and_revokes_keys_while_it_serves(running: Running, place: Path) -> None:
    def keys(*words: str) -> str:
        command = [sys.executable, "-m", "router", "keys", *words, "--config", str(place / "config.yaml")]
        root = str(Path(__file__).parents[2])
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root}
        ).stdout.strip()

    key = keys("create", "--name", "ci", "--plan", "elsewhere")
    soon(lambda: ask(running, key) == (404, "model_not_supported"))  # its plan allows another place only
    keys("revoke", "ci")
    soon(lambda: ask(running, key)[0] == 401)


def test_the_hubs_users_have_the_plan_that_the_hub_says(running: Running, site: Site) -> None:
    site.asked.clear()
    assert ask(running, PRO)[0] == 200 and ask(running, PRO, "org/any-pro")[0] == 200
    assert ask(running, FREE)[0] == 200 and ask(running, FREE, "org/any-pro") == (404, "model_not_found")
    for _ in range(4):
        assert ask(running, NOBODY) == (401, "invalid_api_key")
    assert ask(running, KEY)[0] == 200 and ask(running, "sk-canary") == (401, "invalid_api_key")
    for _ in range(10):
        assert ask(running, PRO)[0] == 200
    assert site.asked.count("/api/whoami-v2") <= 6  # once for each worker and token
    assert ask(running, PRO, **{"x-hf-bill-to": "acme"})[0] == 200
    assert ask(running, PRO, **{"x-hf-bill-to": "evil"}) == (403, "bill_to_forbidden")
    text = httpx2.get(f"{running.base}/metrics").text
    assert "paula" not in text and "fred" not in text


def test_the_hubs_own_client_sees_itself_through_the_router(running: Running) -> None:
    api = huggingface_hub.HfApi(endpoint=running.base, token=PRO)
    told = api.whoami()
    assert told["name"] == "hf:paula" and told["isPro"] and [each["name"] for each in told["orgs"]] == ["acme"]
    with pytest.raises(huggingface_hub.errors.HfHubHTTPError):
        huggingface_hub.HfApi(endpoint=running.base, token=NOBODY).whoami()


def test_a_signed_token_names_a_tenant_and_its_plan(running: Running, site: Site) -> None:
    claims = {"iss": site.base, "aud": "router", "sub": "carol", "exp": time.time() + 60, "plan": "free"}
    token = jwt.encode(claims, SIGNING, "ES256", headers={"kid": "one"})
    assert ask(running, token)[0] == 200 and ask(running, token, "org/any-pro") == (404, "model_not_found")
    head, _, signature = token.split(".")
    forged = base64.urlsafe_b64encode(json.dumps({**claims, "plan": "pro"}).encode()).rstrip(b"=").decode()
    assert ask(running, f"{head}.{forged}.{signature}") == (401, "invalid_api_key")
    soon(lambda: any(each["tenant"] == "jwt:carol" for each in running.records(1)))


def test_while_the_hub_is_away_users_that_it_knew_are_known(running: Running, site: Site) -> None:
    for _ in range(10):
        assert ask(running, PRO)[0] == 200
    site.status = 503
    try:
        for _ in range(10):
            assert ask(running, PRO)[0] == 200
        assert ask(running, "hf_canaryTokenOfSomebody0") == (503, "identity_unavailable")
        assert ask(running, KEY)[0] == 200
    finally:
        site.status = 0


def test_no_key_is_at_rest(running: Running, place: Path) -> None:
    made = operate(running, "POST", "", {"name": "resting"})["key"]
    soon(lambda: ask(running, made)[0] == 200)
    held = b"".join(each.read_bytes() for each in place.rglob("*") if each.is_file() and each.name != "config.yaml")
    assert b"resting" in held
    for secret in (made, PRO, FREE, NOBODY, KEY, ADMIN):
        assert secret.encode() not in held and secret[8:].encode() not in held
