"""The program's own sockets: TLS towards callers, and a port that is the operators' alone."""

import ssl
import subprocess
import sys
from pathlib import Path

import httpx2
import openai
import pytest
import trustme

from tests.running import KEY, free_port, serving

SANDBOX = f"virtual_keys: [{{name: alice, key: {KEY}}}]\nupstreams: {{sandbox: {{provider: sandbox}}}}\n"


def test_callers_speak_tls_where_a_certificate_is_named(tmp_path: Path) -> None:
    authority = trustme.CA()
    mine = authority.issue_cert("localhost", "127.0.0.1")
    mine.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    mine.private_key_pem.write_to_path(tmp_path / "key.pem")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    config = SANDBOX + "server: {tls: {cert: cert.pem, key: key.pem}}\n"
    with (
        serving(config, tmp_path, verify=trusting) as running,
        httpx2.Client(verify=trusting) as http,
        openai.OpenAI(base_url=running.base + "/v1", api_key=KEY, http_client=http, max_retries=0) as client,
    ):
        assert running.base.startswith("https://")
        stream = client.chat.completions.create(
            model="sandbox/echo", messages=[{"role": "user", "content": "a b c"}], stream=True
        )
        assert "".join(each.choices[0].delta.content or "" for each in stream) == "a b c"
        large = "x " * 500_000
        reply = client.chat.completions.create(model="sandbox/echo", messages=[{"role": "user", "content": large}])
        assert reply.choices[0].finish_reason in ("stop", "length")
        with pytest.raises(httpx2.TransportError):
            httpx2.get(running.base.replace("https", "http"))


def test_a_certificate_that_is_none_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("no certificate")

    def refused(name: str, text: str) -> "subprocess.Popen[str]":
        file = tmp_path / name
        file.write_text(SANDBOX + text)
        command = [sys.executable, "-m", "router", "serve", "--config", str(file), "--port", str(free_port())]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])

    none = refused("none.yaml", "server: {tls: {cert: none.pem, key: none.pem}}\n")
    bad = refused("bad.yaml", "server: {tls: {cert: cert.pem, key: cert.pem}}\n")
    for each, told in ((none, "server.tls.cert: there is no such file"), (bad, "inference-router: server.tls: ")):
        _, said = each.communicate(timeout=20)
        assert each.returncode != 0 and told in said and "Traceback" not in said


@pytest.mark.parametrize("workers", [1, 2])
def test_operators_have_a_port_of_their_own(workers: int, tmp_path: Path) -> None:
    port = free_port()
    config = SANDBOX + f'server: {{workers: {workers}}}\ntelemetry: {{listen: "127.0.0.1:{port}"}}\n'
    with serving(config, tmp_path) as running:
        asked = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "x"}]}
        for _ in range(4):
            assert httpx2.post(
                running.base + "/v1/chat/completions", json=asked, headers={"authorization": f"Bearer {KEY}"}
            ).is_success
        theirs = f"http://127.0.0.1:{port}"
        assert httpx2.get(theirs + "/health/readiness").json() == {"status": "ready"}
        figures = httpx2.get(theirs + "/metrics", headers={"x-forwarded-for": "10.0.0.1"}).text
        assert 'router_requests_total{dialect="openai",model="sandbox/echo",status="200"' in figures
        assert (
            sum(float(line.split()[-1]) for line in figures.splitlines() if line.startswith("router_requests_total{"))
            == 4
        )
        for path in ("/v1/models", "/v1/chat/completions", "/", "/models/sandbox/echo"):
            assert httpx2.get(theirs + path).status_code == httpx2.post(theirs + path, json=asked).status_code == 404
        forwarded = {"x-forwarded-for": "10.0.0.1"}
        assert httpx2.get(running.base + "/metrics", headers=forwarded).status_code == 404
