"""Raw-socket upstreams behind the real server: what goes up, what comes back, what becomes of a caller who leaves."""

import json
import random
import socket
import time
from collections.abc import Callable, Iterator

import httpx2
import pytest

from tests.flows.raw import FULL, Upstream, chunked, cut, full, listening
from tests.running import KEY, Running, free_port, serving

POOLED = ("sk-canary-pool-one-000000000", "sk-canary-pool-two-000000000")
SAY = {"messages": [{"role": "user", "content": "hi"}]}
EVENTS = (
    ': ping\r\n\r\ndata: {"id":"c","model":"up","choices":[{"index":0,"delta":{"content":"한국어 \u2028 🦙"}}]}\n\n'
    'data: {"id":"c","model":"up","choices":[{"index":0,"delta":{"content":"\\"usage\\" {}"}}]}\r\n\r\n'
    'data: {"id":"c","model":"up","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
).encode()
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.fixture(scope="module")
def upstreams() -> Iterator[tuple[Upstream, Upstream]]:
    pair = (Upstream(), Upstream())
    with listening(*pair):
        yield pair


@pytest.fixture(scope="module")
def running(upstreams: tuple[Upstream, Upstream], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    one, two = upstreams
    config = f"""
virtual_keys: [{{name: alice, key: {KEY}}}]
retry: {{backoff: {{first: 10ms}}}}
rest: {{after: 1000 failures/1s}}
upstreams:
  one: {{provider: openai, base_url: "http://127.0.0.1:{one.port}/v1", keys: [{POOLED[0]}, {POOLED[1]}],
         models: [m], timeouts: {{first_event: 300ms, silence: 300ms, last_candidate: 2s}}}}
  two: {{provider: openai, base_url: "http://127.0.0.1:{two.port}/v1"}}
  nobody: {{provider: openai, base_url: "http://127.0.0.1:{free_port()}/v1"}}
models:
  pair: {{deployments: [{{upstream: one, provider_id: first}}, {{upstream: two, provider_id: second}}]}}
  gone: {{deployments: [{{upstream: nobody, provider_id: x}}, {{upstream: two, provider_id: second}}]}}
  dead: {{deployments: [{{upstream: nobody, provider_id: x}}]}}
  coder: {{deployments: [{{upstream: two, provider_id: up, fim: {{prefix: <PRE>, suffix: <SUF>, middle: <MID>}}}}]}}
  echoed: {{echo_model: true, deployments: [{{upstream: two, provider_id: up}}]}}
"""
    with serving(config, tmp_path_factory.mktemp("flows")) as running:
        yield running


@pytest.fixture
def ask(running: Running, upstreams: tuple[Upstream, Upstream]) -> Iterator[Callable[..., httpx2.Response]]:
    for each in upstreams:
        each.seen.clear()
        each.left.clear()
    upstreams[0].answer = upstreams[1].answer = lambda model, head: [full(200, FULL)]
    with httpx2.Client(base_url=running.base, headers={"authorization": f"Bearer {KEY}"}, timeout=20) as client:

        def post(model: str, **more: object) -> httpx2.Response:
            return client.post("/v1/chat/completions", json={"model": model, **SAY, **more})

        yield post


Ask = Callable[..., httpx2.Response]
Pair = tuple[Upstream, Upstream]


def test_a_stream_is_byte_for_byte_what_the_upstream_sent(ask: Ask, upstreams: Pair) -> None:
    dice = random.Random(5)
    for pieces in [[bytes([byte]) for byte in EVENTS + DONE], *(cut(EVENTS + DONE, dice) for _ in range(25))]:
        upstreams[0].answer = lambda model, head, pieces=pieces: chunked(pieces)  # type: ignore[misc]
        assert ask("m", stream=True).content == EVENTS + DONE


def test_what_only_we_asked_for_is_taken_out_and_what_the_caller_asked_for_stays(ask: Ask, upstreams: Pair) -> None:
    upstreams[0].answer = lambda model, head: chunked([EVENTS, USAGE, DONE])
    assert ask("m", stream=True).content == EVENTS + DONE
    assert b'"stream_options":{"include_usage":true}' in upstreams[0].seen[-1][1]
    assert ask("m", stream=True, stream_options={"include_usage": True}).content == EVENTS + USAGE + DONE


def test_an_end_that_lacks_its_done_gets_it_and_an_event_that_is_no_json_is_dropped(ask: Ask, upstreams: Pair) -> None:
    upstreams[0].answer = lambda model, head: chunked([EVENTS[:60], EVENTS[60:]])
    assert ask("m", stream=True).content == EVENTS + DONE
    torn = EVENTS.replace(b"\n\n", b'\n\ndata: {"id": tor\n\n', 1)
    upstreams[0].answer = lambda model, head: chunked([torn, DONE])
    assert ask("m", stream=True).content == EVENTS + DONE


@pytest.mark.parametrize("clean", [True, False])
def test_a_stream_that_is_cut_ends_in_one_error_and_never_in_done(ask: Ask, upstreams: Pair, clean: bool) -> None:
    half = EVENTS[: EVENTS.rindex(b"data:")]
    pieces = chunked([half]) if clean else [*chunked([half])[:-1], b""]
    upstreams[0].answer = lambda model, head: pieces
    content = ask("m", stream=True).content
    assert content.startswith(half)
    rest = content[len(half) :]
    assert rest.count(b'"error"') == 1 and b"[DONE]" not in content and b"finish_reason" not in rest


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/fim/completions", "/models/coder/v1/completions"])
@pytest.mark.parametrize(
    ("asked", "goes_up"),
    [
        ({"prompt": "def f(", "suffix": "): pass"}, {"prompt": "<PRE>def f(<SUF>): pass<MID>"}),
        ({"prompt": "", "suffix": "\u2028"}, {"prompt": "<PRE><SUF>\u2028<MID>"}),
        ({"prompt": "def f(", "suffix": ""}, {"prompt": "def f(", "suffix": ""}),
        ({"prompt": ["a", "b"], "suffix": "c"}, {"prompt": ["a", "b"], "suffix": "c"}),
    ],
)
def test_a_suffix_goes_up_in_the_models_own_marks(
    ask: Ask, running: Running, upstreams: Pair, path: str, asked: dict[str, object], goes_up: dict[str, object]
) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    assert httpx2.post(running.base + path, json={"model": "coder", **asked}, headers=headers).status_code == 200
    assert json.loads(upstreams[1].seen[-1][1]) == {"model": "up", **goes_up}


def test_ollamas_suffix_goes_up_in_the_models_own_marks(ask: Ask, running: Running, upstreams: Pair) -> None:
    text = {"id": "c", "model": "up", "choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]}
    upstreams[1].answer = lambda model, head: [full(200, json.dumps(text).encode())]
    body = {"model": "coder", "prompt": "def f(", "suffix": "): pass", "stream": False}
    answer = httpx2.post(running.base + "/api/generate", json=body, headers={"authorization": f"Bearer {KEY}"})
    assert answer.json()["response"] == "x"
    sent = json.loads(upstreams[1].seen[-1][1])
    assert sent["prompt"] == "<PRE>def f(<SUF>): pass<MID>" and "suffix" not in sent


def test_model_is_exchanged_on_the_way_up_and_on_the_way_back_only_where_the_route_says(
    ask: Ask, upstreams: Pair
) -> None:
    assert ask("pair").json()["model"] == "up"
    assert json.loads(upstreams[0].seen[-1][1]) == {"model": "first", **SAY}
    assert ask("echoed").json()["model"] == "echoed"
    upstreams[1].answer = lambda model, head: chunked([EVENTS, DONE])
    assert b'"model":"echoed"' in ask("echoed", stream=True).content


def test_upstreams_see_our_key_and_our_headers_alone(running: Running, upstreams: Pair, ask: Ask) -> None:
    headers = {"authorization": f"Bearer {KEY}", "cookie": "a=b", "x-request-id": "mine", "traceparent": "00-1-2-3"}
    reply = httpx2.post(running.base + "/v1/chat/completions", json={"model": "m", **SAY}, headers=headers)
    assert reply.headers["x-request-id"] == "mine"
    head = upstreams[0].seen[-1][0].decode()
    names = {line.partition(":")[0] for line in head.split("\r\n")[1:]}
    wanted = {"host", "user-agent", "accept", "accept-encoding", "authorization", "content-type", "content-length"}
    assert names == wanted
    assert KEY not in head and any(key in head for key in POOLED)


def test_one_that_fails_is_passed_over(ask: Ask, upstreams: Pair) -> None:
    upstreams[0].answer = lambda model, head: [full(500, b'{"error":{"message":"x"}}')]
    assert ask("pair").headers["x-router-upstream"] == "two"
    assert ask("gone").headers["x-router-upstream"] == "two"
    upstreams[0].answer = lambda model, head: None
    began = time.monotonic()
    upstreams[1].answer = lambda model, head: chunked([EVENTS, DONE])
    assert ask("pair", stream=True).content == EVENTS + DONE
    assert time.monotonic() - began < 1.5


def test_a_failure_that_passes_is_tried_again_there(ask: Ask, upstreams: Pair) -> None:
    answers = [full(500, b"{}"), full(200, FULL)]
    upstreams[0].answer = lambda model, head: [answers.pop(0)]
    reply = ask("pair")
    assert (reply.headers["x-router-upstream"], reply.headers["x-router-attempts"]) == ("one", "2")


def test_when_nothing_serves_the_error_lists_every_attempt(ask: Ask) -> None:
    reply = ask("dead")
    assert reply.status_code == 502
    attempts = reply.json()["error"]["attempts"]
    assert {each["deployment"] for each in attempts} == {"nobody/x"} and len(attempts) == 2
    assert "127.0.0.1" not in reply.text


def test_what_the_request_did_wrong_is_told_once_in_the_upstreams_words(ask: Ask, upstreams: Pair) -> None:
    upstreams[0].answer = lambda model, head: [full(400, b'{"error":{"message":"too hot","param":"temperature"}}')]
    reply = ask("pair")
    assert reply.status_code == 400 and reply.json()["error"]["param"] == "temperature"
    assert len(upstreams[0].seen) == 1 and upstreams[1].seen == []


@pytest.mark.parametrize(
    ("path", "body", "status", "named"),
    [
        ("/v1/chat/completions", b"not json", 400, ""),
        ("/v1/chat/completions", b'{"model":"m","model":"m"}', 400, "model"),
        ("/v1/chat/completions", b'{"model":7}', 400, "model"),
        ("/v1/chat/completions", b'{"model":"m","stream":1}', 400, "stream"),
        ("/v1/chat/completions", b'{"model":"m","stream_options":1}', 400, "stream_options"),
        ("/v1/chat/completions", b"{}", 400, "model"),
        ("/v1/chat/completions", b'{"model":"m","x":' + b"[" * 99 + b"]" * 99 + b"}", 400, ""),
        ("/v1/chat/completions", b'{"model":"m","api_base":"http://127.0.0.1"}', 400, "api_base"),
        ("/v1/chat/completions", b'{"model":"../../v1/files"}', 404, "model"),
        ("/v1/chat/completions", b'{"model":"a\\r\\nX: y"}', 404, "model"),
        ("/v1/chat/completions", b'{"model":"a\\u0000"}', 404, "model"),
        ("/v1/chat/completions", b'{"model":"' + b"x" * 10_000 + b'"}', 404, "model"),
        ("/v1/chat/completions", b'{"model":"m","x":"' + b"x" * (21 << 20) + b'"}', 413, ""),
        ("/v1/audio/transcriptions", b"{}", 415, ""),
        ("/models/no/such", b'{"inputs":"x"}', 404, ""),
        ("/models/%2e%2e%2fadmin", b'{"inputs":"x"}', 404, ""),
        ("/models/a%0d%0aX:1", b'{"inputs":"x"}', 404, ""),
        ("/models/m", b'{"inputs":"x","parameters":{"temperature":-1}}', 422, ""),
        ("/models/m", b'{"parameters":{}}', 422, ""),
    ],
)
def test_bad_input_is_the_callers_fault_in_the_callers_dialect(
    running: Running, path: str, body: bytes, status: int, named: str
) -> None:
    reply = httpx2.post(running.base + path, content=body, headers={"authorization": f"Bearer {KEY}"}, timeout=20)
    assert reply.status_code == status
    error = reply.json()["error"]
    if path.startswith("/v1"):
        assert error["message"] and (error["param"] or "") == named
    else:
        assert isinstance(error, str)


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer"}, {"authorization": "Bearer hf_" + "z" * 30}])
def test_without_a_right_key_there_is_one_answer(running: Running, headers: dict[str, str]) -> None:
    reply = httpx2.post(running.base + "/v1/chat/completions", json={"model": "m", **SAY}, headers=headers)
    assert reply.status_code == 401


def test_a_caller_who_leaves_takes_the_upstream_connection_along(running: Running, upstreams: Pair, ask: Ask) -> None:
    before = running.written()
    endless = chunked([EVENTS[: EVENTS.index(b"\n\n") + 2]])[:2]
    upstreams[0].answer = lambda model, head: endless
    body = json.dumps({"model": "m", "stream": True, **SAY}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
    head += f"content-length: {len(body)}\r\n\r\n"
    port = int(running.base.rpartition(":")[2])
    dice = random.Random(1)
    late = []
    for number in range(100):
        with socket.create_connection(("127.0.0.1", port)) as caller:
            caller.sendall(head.encode() + body)
            if number % 3:
                caller.recv(dice.randrange(1, 200))
            while len(upstreams[0].seen) <= number:
                time.sleep(0.001)
        gone = time.monotonic()
        while len(upstreams[0].left) <= number and time.monotonic() - gone < 2:
            time.sleep(0.001)
        late.append(upstreams[0].left[number] - gone)
    assert max(late) < 0.1
    records = running.records(before + 100)
    assert [record["outcome"] for record in records[-100:]] == ["client_gone"] * 100


URL = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}}


@pytest.mark.parametrize(
    "part",
    [
        URL,
        {"type": "image_url", "image_url": "https://example.com/a.png"},
        {"type": "video_url", "video_url": {"url": "file:///etc/passwd"}},
        {"type": "input_audio", "audio_url": " HTTP://x"},
    ],
    ids=str,
)
def test_a_server_of_ones_own_is_never_sent_to_fetch_what_a_caller_names(
    part: dict[str, object], running: Running, upstreams: Pair, ask: Ask
) -> None:
    content = [{"type": "text", "text": "see http://example.com"}, part]
    reply = ask("m", messages=[{"role": "user", "content": content}])
    assert reply.status_code == 400 and upstreams[0].seen == []
    assert reply.json()["error"]["param"].startswith("messages[0].content[1].")
    hidden = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]})
    hidden = hidden.replace("image_url", "\\u0069mage_\\u0075rl").replace("http", "\\u0068ttp")
    headers = {"authorization": f"Bearer {KEY}"}
    assert httpx2.post(running.base + "/v1/chat/completions", content=hidden, headers=headers).status_code == 400
    assert upstreams[0].seen == []


def test_data_and_texts_that_speak_of_urls_go_up(ask: Ask) -> None:
    data = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    words = {"type": "text", "text": '{"url": "http://example.com"}'}
    assert ask("m", messages=[{"role": "user", "content": [words, data]}]).status_code == 200
    assert ask("m", messages=[{"role": "user", "content": "the url is http://example.com"}]).status_code == 200


def test_a_refused_key_gives_way_and_no_key_is_ever_told(running: Running, upstreams: Pair, ask: Ask) -> None:
    def refuse(model: str, head: bytes) -> list[bytes]:
        key = head.partition(b"Bearer ")[2].split(b"\r\n")[0]
        said = b'{"error":{"message":"Incorrect API key provided: %b","code":"invalid_api_key"}}' % key
        return [full(401, said, b"x-echo: %b\r\n" % key)]

    upstreams[0].answer = refuse
    reply = ask("m")
    assert reply.status_code == 502 and reply.json()["error"]["code"] == "upstream_credentials_exhausted"
    assert len({head for head, _ in upstreams[0].seen}) == 2
    upstreams[1].answer = lambda model, head: [full(400, b'{"error":{"message":"no: %b"}}' % POOLED[0].encode())]
    told = ask("echoed")
    figures = httpx2.get(running.base + "/metrics").text
    assert 'router_resting{key="' in figures
    everything = reply.text + str(reply.headers) + told.text + figures
    everything += running.log.read_text() + running.errors.read_text()
    assert [key for key in (*POOLED, KEY) if key in everything] == []


def test_a_caller_may_say_how_long_it_waits(ask: Ask, running: Running, upstreams: Pair) -> None:
    upstreams[0].answer = upstreams[1].answer = lambda model, head: None
    headers = {"authorization": f"Bearer {KEY}", "x-router-max-wait": "300ms"}
    body = {"model": "echoed", **SAY}
    began = time.monotonic()
    answer = httpx2.post(running.base + "/v1/chat/completions", json=body, headers=headers, timeout=20)
    assert answer.status_code == 504 and time.monotonic() - began < 1.5
    headers["x-router-max-wait"] = "soon"
    refused = httpx2.post(running.base + "/v1/chat/completions", json=body, headers=headers, timeout=20)
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "x-router-max-wait"
