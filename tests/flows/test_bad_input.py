"""Whatever a caller sends: the right status in the words of the path that was called, the field named, never a 500.

The sandbox stands behind the server, so what is read gladly is answered, and a crash of ours cannot hide as one of an
upstream's. After every group the server is asked something sensible.
"""

import json
import random
import socket
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest

from tests.running import KEY, Running, serving

CONFIG = f"""
virtual_keys: [{{name: alice, key: {KEY}}}]
upstreams: {{sandbox: {{provider: sandbox, keys: [sk-canary-of-the-pool-000000]}}}}
default_models: {{text-generation: sandbox/echo}}
"""
ECHO: Final = "sandbox/echo"
CHAT: Final = {"model": ECHO, "messages": [{"role": "user", "content": "hi"}]}
GENERATE: Final = {"inputs": "hi", "parameters": {"max_new_tokens": 4}}
VALID: Final[dict[str, dict[str, Any]]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": ECHO, "prompt": "hi", "max_tokens": 4},
    "/v1/embeddings": {"model": ECHO, "input": ["hi"]},
    "/v1/images/generations": {"model": ECHO, "prompt": "hi", "size": "64x64"},
    "/v1/audio/speech": {"model": ECHO, "input": "hi", "voice": "alloy"},
    "/v1/responses": {"model": ECHO, "input": "hi"},
    "/v1/moderations": {"model": ECHO, "input": "hi"},
    "/v1/rerank": {"model": ECHO, "query": "a", "documents": ["a", "b"]},
    f"/models/{ECHO}": GENERATE,
    f"/models/{ECHO}/generate": GENERATE,
    f"/tgi/{ECHO}/generate_stream": GENERATE,
    f"/models/{ECHO}/v1/chat/completions": CHAT,
    "/generate": GENERATE,
    "/api/generate": {"model": ECHO, "prompt": "hi", "stream": False},
}
AUTH: Final = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(CONFIG, tmp_path_factory.mktemp("bad-input")) as running:
        yield running
        assert "Traceback" not in running.errors.read_text()


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=running.base, headers=AUTH, timeout=20) as client:
        yield client
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200


def worded(path: str, answer: httpx2.Response) -> tuple[str, str]:
    """Message and field of an error, which must be in the shape of the path's dialect."""
    said = answer.json()
    if path.startswith("/v1") or path.endswith(("/chat/completions", "/v1/completions")):
        assert set(said["error"]) >= {"message", "type", "param", "code"}
        return said["error"]["message"], said["error"]["param"] or ""
    assert isinstance(said["error"], str), said
    return said["error"], ""


@pytest.mark.parametrize("path", VALID)
def test_what_is_right_is_answered(path: str, client: httpx2.Client) -> None:
    answer = client.post(path, json=VALID[path])
    assert answer.status_code == 200, answer.text


BODIES: Final = {
    "nothing": b"",
    "blanks": b"  \n",
    "no json": b"hello",
    "a list": b"[1]",
    "a number": b"7",
    "null": b"null",
    "cut off": b'{"model": "sand',
    "a comma too many": b'{"model":"sandbox/echo",}',
    "two objects": b"{}{}",
    "NaN": b'{"model":"sandbox/echo","inputs":"x","temperature":NaN}',
    "Infinity": b'{"model":"sandbox/echo","inputs":"x","temperature":-Infinity}',
    "utf-16": json.dumps(CHAT).encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(CHAT).encode(),
    "bad utf-8": b'{"model":"sandbox/echo","inputs":"\xff\xfe"}',
    "deep lists": b'{"model":"sandbox/echo","inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep and cut": b'{"model":' + b"[" * 100_000,
    "doubled": b'{"model":"sandbox/echo","inputs":"a","inputs":"b"}',
    "doubled in an escape": b'{"model":"sandbox/echo","inputs":"a","\\u0069nputs":"b"}',
    "doubled beside a huge number": b'{"x":' + b"9" * 5000 + b',"model":"a","model":"b"}',
    "form": b"model=sandbox/echo&inputs=hi",
}


@pytest.mark.parametrize("path", VALID)
@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_no_json_object_is_a_400(name: str, path: str, client: httpx2.Client) -> None:
    answer = client.post(path, content=BODIES[name])
    assert answer.status_code == 400, answer.text[:300]
    message, field = worded(path, answer)
    assert message
    if name.startswith("doubled") and path.startswith("/v1"):
        assert field in ("inputs", "model")


@pytest.mark.parametrize(
    ("path", "more", "field"),
    [
        ("/v1/chat/completions", {"model": 7}, "model"),
        ("/v1/chat/completions", {"model": None}, "model"),
        ("/v1/chat/completions", {"model": ["a"]}, "model"),
        ("/v1/chat/completions", {"stream": "yes"}, "stream"),
        ("/v1/chat/completions", {"stream": 1}, "stream"),
        ("/v1/chat/completions", {"stream_options": []}, "stream_options"),
        ("/v1/chat/completions", {"api_base": "http://169.254.169.254"}, "api_base"),
        ("/v1/chat/completions", {"base_url": "http://x"}, "base_url"),
        ("/v1/chat/completions", {"custom_host": "x"}, "custom_host"),
        ("/v1/chat/completions", {"user_config": {"model_list": []}}, "user_config"),
        ("/v1/embeddings", {"model": {}}, "model"),
        ("/v1/images/generations", {"model": True}, "model"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named(path: str, more: dict[str, Any], field: str, client: httpx2.Client) -> None:
    answer = client.post(path, json={**VALID[path], **more})
    assert answer.status_code == 400
    message, named = worded(path, answer)
    assert named == field and f"'{field}'" in message


@pytest.mark.parametrize(
    "more",
    [
        {"inputs": 7},
        {"inputs": None},
        {"parameters": []},
        {"parameters": {"max_new_tokens": -1}},
        {"parameters": {"max_new_tokens": "many"}},
        {"parameters": {"temperature": 0}},
        {"parameters": {"temperature": -1}},
        {"parameters": {"top_p": 2}},
        {"parameters": {"stop": 7}},
        {"parameters": {"seed": -1}},
        {"parameters": {"return_full_text": "no"}},
    ],
    ids=str,
)
def test_text_generation_says_which_parameter_is_wrong(more: dict[str, Any], client: httpx2.Client) -> None:
    answer = client.post(f"/models/{ECHO}", json={**GENERATE, **more})
    assert answer.status_code in (400, 422), answer.text
    name = next(iter(more["parameters"])) if isinstance(more.get("parameters"), dict) else next(iter(more))
    assert name in worded("/models", answer)[0]


IDS: Final = (
    "../../v1/files",
    "..",
    "a/../b",
    "a\u0000",
    "a\r\nX: y",
    "@evil.com",
    "?key=",
    "http:/\\evil",
    "//evil.com/x",
    "sandbox/echo\n",
    "\x1b[2J",
    "x" * 10_000,
    "é",
    "\u202e",
    "sandbox/../sandbox/echo",
    "other/model:nowhere",
    "nowhere/model",
)


@pytest.mark.parametrize("model", IDS, ids=ascii)
def test_an_id_that_nobody_has_is_a_404_whatever_it_would_mean_elsewhere(model: str, client: httpx2.Client) -> None:
    answer = client.post("/v1/chat/completions", json={**CHAT, "model": model})
    assert answer.status_code == 404, answer.text
    assert worded("/v1", answer)[1] == "model" and answer.json()["error"]["code"] == "model_not_found"
    assert all(ord(each) < 128 and each.isprintable() for value in answer.headers.values() for each in value)


PATHS: Final = (
    "/models/../admin",
    "/models/%2e%2e%2fadmin",
    "/models/..%5cx",
    "/models/a%00b",
    "/models/a%0d%0aX:1",
    "/models//evil.com/x",
    "/models/@evil.com",
    "/models/a?x=y",
    "/models/%ff",
    "/models/%c3%28",
    "/models/%",
    "/tgi/%2e%2e/%2e%2e/generate",
    "/hf-inference/models/../../x",
    "/models/" + "a" * 4000,
)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_names_no_model_is_a_404_as_it_came(path: str, running: Running) -> None:
    """Over a raw socket: clients tidy paths up before they send them."""
    status, said = raw(running, path, json.dumps(GENERATE).encode())
    assert status in (400, 404), said
    assert b"x:1" not in said.lower().split(b"\r\n\r\n")[0]


def raw(running: Running, path: str, body: bytes, *lines: str) -> tuple[int, bytes]:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n"
    head += "".join(f"{line}\r\n" for line in lines) + f"content-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(running.base.rpartition(":")[2])), 20) as caller:
        caller.sendall(head.encode("latin-1") + body)
        said = b""
        while piece := caller.recv(65_536):
            said += piece
    return int(said.split()[1]), said


@pytest.mark.parametrize(
    "line",
    ["x-request-id: a\0b", "x-request-id: caf\xe9", f"x-request-id: {'y' * 5000}", "x-request-id: ___decode_addr_1:5"],
)
def test_a_request_id_is_the_callers_only_where_it_is_one(line: str, running: Running) -> None:
    status, said = raw(running, "/v1/chat/completions", json.dumps(CHAT).encode(), line)
    if status == 200:
        given = line.partition(": ")[2]
        own = given.replace("_", "").replace("-", "").replace(".", "").isalnum() and len(given) <= 64
        assert (f"x-request-id: {given}\r\n".encode() in said) == (own and given.isascii())
    else:
        assert status == 400


@pytest.mark.parametrize("framed", ["length", "chunked"])
def test_a_body_beyond_the_bound_is_a_413_before_it_is_held(
    framed: str, client: httpx2.Client, running: Running
) -> None:
    body = b'{"model":"sandbox/echo","messages":[{"role":"user","content":"' + b"x" * (21 << 20) + b'"}]}'

    def pieces() -> Iterator[bytes]:
        yield from (body[start : start + 65_536] for start in range(0, len(body), 65_536))

    began = time.monotonic()
    try:
        answer = client.post("/v1/chat/completions", content=body if framed == "length" else pieces())
    except httpx2.TransportError:  # it was still sending when we answered and closed
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
    else:
        assert answer.status_code == 413 and "20971520" in worded("/v1", answer)[0]
    assert time.monotonic() - began < 5
    huge = running.base.rpartition(":")[2]
    with socket.create_connection(("127.0.0.1", int(huge)), 5) as caller:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
        caller.sendall(f"{head}content-length: 2000000000\r\n\r\n{{".encode())
        assert caller.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("path", ["/v1/chat/completions", f"/models/{ECHO}", "/generate"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": KEY},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": "Bearer x' OR 1=1--"},
        {"authorization": f"Bearer {'k' * 20_000}"},
        {"x-api-key": "wrong"},
        {"authorization": f"Bearer {KEY}", "x-api-key": "another"},
    ],
    ids=lambda headers: " ".join(f"{name}={value[:20]}" for name, value in headers.items()) or "none",
)
def test_without_a_right_key_there_is_one_answer(path: str, headers: dict[str, str], running: Running) -> None:
    answer = httpx2.post(running.base + path, json=VALID[path], headers=headers)
    assert answer.status_code == 401
    assert worded(path, answer)[0] == "Invalid credentials in Authorization header"
    assert KEY not in answer.text


def test_two_authorization_headers_are_a_400(running: Running) -> None:
    status, said = raw(running, "/v1/chat/completions", json.dumps(CHAT).encode(), f"authorization: Bearer {KEY}")
    assert status == 400 and b"authorization" in said


JUNK: Final[tuple[Any, ...]] = (
    None,
    True,
    -1,
    0,
    1e308,
    2**64,
    "",
    "\u0000",
    "\ud800",
    "x" * 1000,
    [],
    {},
    [[]],
    {"a": {"b": []}},
    ["", None, 7],
)
DOCUMENTED: Final = (501, 502, 503)  # an upstream's own refusals, as the router words them


def test_no_mutation_of_a_right_body_is_ever_a_500(client: httpx2.Client) -> None:
    dice = random.Random(23)

    def changed(value: Any) -> Any:
        if dice.random() < 0.25:
            return dice.choice(JUNK)
        if isinstance(value, dict):
            return fields(value)
        return [changed(each) for each in value] if isinstance(value, list) else value

    def fields(value: dict[str, Any]) -> dict[str, Any]:
        kept = {name: changed(each) for name, each in value.items() if dice.random() > 0.1}
        return {**kept, dice.choice(("stream", "n", "stop", "tools", "options", "seed", "x")): dice.choice(JUNK)}

    for _ in range(60):
        for path, body in VALID.items():
            sent = json.dumps({**fields(body), **({"model": ECHO} if path.startswith("/v1") else {})})
            answer = client.post(path, content=sent.encode("utf-8", "surrogatepass"))
            assert answer.status_code < 500 or answer.status_code in DOCUMENTED, (path, sent, answer.text[:300])
            if answer.status_code >= 400:
                worded(path, answer)


def test_no_mutation_of_the_bytes_is_ever_a_500(client: httpx2.Client) -> None:
    dice = random.Random(29)
    for path, body in VALID.items():
        text = json.dumps(body).encode()
        for _ in range(40):
            torn = bytearray(text)
            for _ in range(dice.randrange(1, 4)):
                torn[dice.randrange(len(torn))] = dice.randrange(256)
            answer = client.post(path, content=bytes(torn))
            assert answer.status_code < 500 or answer.status_code in DOCUMENTED, (path, torn, answer.text[:300])
