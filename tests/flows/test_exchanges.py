"""Providers with APIs of their own behind the running server: queues, files at URLs, refusals, callers who leave."""

import base64
import io
import json
import threading
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx2
import pytest
from openai import OpenAI

from tests.flows.raw import Upstream, full, listening
from tests.running import KEY, Running, serving

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CAT = {"inputs": "a cat"}


@dataclass
class Fal(Upstream):
    """fal's two hosts and its files on one port. `states`: what each look at a job says, the last again and again."""

    states: list[bytes] = field(default_factory=lambda: [b'{"status":"COMPLETED"}'])
    refusals: list[bytes] = field(default_factory=list)  # what the first requests get
    file: str = "/files/a.png"
    looked: int = 0

    def __post_init__(self) -> None:
        self.answer = self.answered

    def of(self, method: str) -> list[str]:
        lines = [head.partition(b"\r\n")[0].decode() for head, _ in self.seen]
        return [line.split()[1] for line in lines if line.startswith(method + " ")]

    def answered(self, _: str, head: bytes) -> list[bytes]:
        if self.refusals:
            return [self.refusals.pop(0)]
        method, path, _version = head.partition(b"\r\n")[0].decode().split()
        here = f"http://127.0.0.1:{self.port}"
        if path.startswith("/files/"):
            kind = b"video/mp4" if path.endswith("mp4") else b"image/png"
            return [b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n" % (kind, len(PNG)) + PNG]
        if path.endswith("/status"):
            self.looked += 1
            said = self.states[min(self.looked, len(self.states)) - 1]
            return [said if said.startswith(b"HTTP") else full(200, said)]
        if method == "PUT":
            return [full(202, b'{"status":"CANCELLATION_REQUESTED"}')]
        url = here + self.file if self.file.startswith("/") else self.file
        if method == "GET":
            return [full(200, json.dumps({"video": {"url": url}, "images": [{"url": url}]}).encode())]
        if path == "/fal-ai/quick":
            return [full(200, json.dumps({"images": [{"url": url}], "seed": 7}).encode())]
        if path == "/fal-ai/whisper":
            return [full(200, b'{"text":"hello","chunks":[{"text":"hello","timestamp":[0.0,1.5]}]}')]
        job = f"{here}/fal-ai/slow/requests/r1"
        ticket = {"request_id": "r1", "status": "IN_QUEUE", "response_url": job, "status_url": job + "/status"}
        return [full(200, json.dumps(ticket | {"cancel_url": job + "/cancel"}).encode())]


@pytest.fixture(scope="module")
def fal() -> Iterator[Fal]:
    upstream = Fal()
    with listening(upstream):
        yield upstream


@pytest.fixture(scope="module")
def honeypot() -> Iterator[Upstream]:
    upstream = Upstream()
    with listening(upstream):
        yield upstream


@pytest.fixture(scope="module")
def running(fal: Fal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    where = f'provider: fal-ai, base_url: "http://127.0.0.1:{fal.port}"'
    config = f"""
virtual_keys: [{{name: alice, key: {KEY}}}]
retry: {{backoff: {{first: 10ms}}}}
rest: {{after: 1000 failures/1s}}
upstreams:
  fal-ai: {{{where}, keys: [fal-canary-one-0000000, fal-canary-two-0000000],
            fetch_from: ["http://127.0.0.1:{fal.port}"]}}
  strict: {{{where}, keys: [fal-canary-three-000000], pass_through: false}}
  mine: {{provider: openai, base_url: "http://127.0.0.1:{fal.port}/v1"}}
models:
  quick: {{task: text-to-image, deployments: [{{upstream: fal-ai, provider_id: fal-ai/quick}}]}}
  film: {{task: text-to-video, deployments: [{{upstream: fal-ai, provider_id: fal-ai/slow}}]}}
  ears: {{task: automatic-speech-recognition, deployments: [{{upstream: fal-ai, provider_id: fal-ai/whisper}}]}}
  strict: {{task: text-to-image, deployments: [{{upstream: strict, provider_id: fal-ai/quick}}]}}
  wrong: {{task: text-to-image, deployments: [{{upstream: strict, provider_id: "fal-ai/quick?x=y"}}]}}
"""
    with serving(config, tmp_path_factory.mktemp("exchanges")) as running:
        yield running


@pytest.fixture
def client(running: Running, fal: Fal) -> Iterator[httpx2.Client]:
    fal.seen.clear()
    fal.states, fal.refusals, fal.looked, fal.file = [b'{"status":"COMPLETED"}'], [], 0, "/files/a.png"
    headers = {"authorization": f"Bearer {KEY}", "x-use-cache": "0"}
    with httpx2.Client(base_url=running.base, headers=headers, timeout=30) as client:
        yield client


def sound() -> bytes:
    made = io.BytesIO()
    with wave.open(made, "wb") as written:
        written.setparams((1, 2, 8000, 0, "NONE", ""))
        written.writeframes(b"\0\0" * 800)
    return made.getvalue()


def test_an_image_at_a_url_is_passed_on_as_a_file_and_no_key_goes_to_where_it_lies(
    client: httpx2.Client, fal: Fal
) -> None:
    answer = client.post("/models/quick", json={**CAT, "parameters": {"seed": 7}})
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "image/png", PNG)
    assert answer.headers["x-router-upstream"] == "fal-ai" and answer.headers["content-length"] == str(len(PNG))
    (asked, body), (fetched, _) = fal.seen
    assert b"authorization: Key fal-canary-" in asked and json.loads(body) == {"prompt": "a cat", "seed": 7}
    assert fetched.startswith(b"GET /files/a.png ") and b"canary" not in fetched.lower()


def test_the_same_deployment_answers_openai_with_base64_or_with_the_address(running: Running, fal: Fal) -> None:
    openai = OpenAI(base_url=running.base + "/v1", api_key=KEY, max_retries=0)
    made = openai.images.generate(model="quick", prompt="a cat", response_format="b64_json", size="512x512")
    (image,) = made.data or []
    assert base64.b64decode(image.b64_json or "") == PNG
    (image,) = openai.images.generate(model="quick", prompt="a cat", response_format="url").data or []
    assert image.url == f"http://127.0.0.1:{fal.port}/files/a.png"


def test_a_job_is_asked_after_until_it_is_done_and_begun_once(client: httpx2.Client, fal: Fal) -> None:
    down = b"HTTP/1.1 503 X\r\nretry-after-ms: 20\r\ncontent-length: 0\r\n\r\n"
    busy = b"HTTP/1.1 429 X\r\nretry-after-ms: 20\r\ncontent-length: 0\r\n\r\n"
    fal.states = [b'{"status":"IN_QUEUE"}', down, busy, b'{"status":"IN_PROGRESS"}', b'{"status":"COMPLETED"}']
    fal.file = "/files/a.mp4"
    answer = client.post("/models/film", json=CAT)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
    assert fal.of("POST") == ["/fal-ai/slow"] and fal.looked == 5


@pytest.mark.parametrize("status", [500, 404])
def test_a_job_that_is_lost_is_told_and_never_begun_anew(status: int, client: httpx2.Client, fal: Fal) -> None:
    fal.states = [b"HTTP/1.1 %d X\r\nretry-after-ms: 5\r\ncontent-length: 0\r\n\r\n" % status]
    answer = client.post("/models/film", json=CAT)
    assert answer.status_code == 502 and "could not be had" in answer.json()["error"]
    for _ in range(100):
        if fal.of("PUT"):
            break
        time.sleep(0.02)
    assert fal.of("POST") == ["/fal-ai/slow"] and fal.of("PUT") == ["/fal-ai/slow/requests/r1/cancel"]


def test_a_caller_who_leaves_takes_the_job_along(running: Running, fal: Fal, client: httpx2.Client) -> None:
    fal.states = [b'{"status":"IN_PROGRESS"}']
    with pytest.raises(httpx2.ReadTimeout):
        client.post("/models/film", json=CAT, timeout=1.2)
    for _ in range(100):
        if fal.of("PUT"):
            break
        time.sleep(0.02)
    assert fal.of("PUT") == ["/fal-ai/slow/requests/r1/cancel"]


def test_a_job_that_outlasts_its_time_is_cancelled_and_told(client: httpx2.Client, fal: Fal) -> None:
    fal.states = [b'{"status":"IN_PROGRESS"}']
    answer = client.post("/models/film", json=CAT, headers={"x-router-max-wait": "1s"})
    assert answer.status_code == 504
    for _ in range(100):
        if fal.of("PUT"):
            break
        time.sleep(0.02)
    assert fal.of("POST") == ["/fal-ai/slow"] and fal.of("PUT") == ["/fal-ai/slow/requests/r1/cancel"]


def test_a_key_that_is_refused_is_changed_before_the_job_begins(client: httpx2.Client, fal: Fal) -> None:
    fal.refusals = [full(401, b'{"detail":"Cannot access application"}')]
    answer = client.post("/models/quick", json=CAT)
    assert answer.status_code == 200 and answer.headers["x-router-attempts"] == "2"


def test_a_refusal_of_the_request_is_told_in_the_provider_s_words(client: httpx2.Client, fal: Fal) -> None:
    detail = [{"loc": ["body", "prompt"], "msg": "flagged by a content checker", "type": "content_policy_violation"}]
    fal.refusals = [full(422, json.dumps({"detail": detail}).encode())]
    answer = client.post("/models/quick", json=CAT)
    assert answer.status_code == 422 and "content checker" in answer.json()["error"]
    assert len(fal.of("POST")) == 1


def test_an_upload_for_one_shape_reaches_a_provider_of_another(running: Running, client: httpx2.Client) -> None:
    openai = OpenAI(base_url=running.base + "/v1", api_key=KEY, max_retries=0)
    heard = openai.audio.transcriptions.create(model="ears", file=("a.wav", sound()))
    assert heard.text == "hello"
    told = openai.audio.transcriptions.create(model="ears", file=("a.wav", sound()), response_format="verbose_json")
    assert [(each.start, each.end, each.text) for each in told.segments or []] == [(0.0, 1.5, "hello")]
    answer = client.post("/models/ears", content=sound(), headers={"content-type": "audio/wav"})
    assert answer.json()["text"] == "hello"


@pytest.mark.parametrize("where", ["http://127.0.0.1:{port}/x", "https://127.0.0.1:{port}/x", "https://localhost/x"])
def test_an_answer_that_points_inside_is_not_followed(
    where: str, client: httpx2.Client, fal: Fal, honeypot: Upstream
) -> None:
    fal.file = where.replace("{port}", str(honeypot.port))
    answer = client.post("/models/strict", json=CAT)
    assert answer.status_code == 502 and "127.0.0.1" not in answer.text
    assert honeypot.seen == [] and len(fal.of("POST")) == 1  # nor is the image made twice


def test_an_id_that_may_not_stand_in_a_path_goes_nowhere(client: httpx2.Client, fal: Fal) -> None:
    assert client.post("/models/wrong", json=CAT).status_code == 404
    assert fal.seen == []


def test_a_provider_s_own_api_passes_through_with_the_key_exchanged(
    running: Running, client: httpx2.Client, fal: Fal
) -> None:
    ticket = client.post("/fal-ai/fal-ai/slow?_subdomain=queue", json={"prompt": "a cat"}).json()
    assert ticket["response_url"] == f"{running.base}/fal-ai/fal-ai/slow/requests/r1"
    state = client.get("/fal-ai/fal-ai/slow/requests/r1/status?_subdomain=queue")
    assert state.json() == {"status": "COMPLETED"}
    assert all(b"authorization: Key fal-canary-" in head and KEY.encode() not in head for head, _ in fal.seen)
    record = running.record(state.headers["x-request-id"])
    assert (record["upstream"], record["billing"], record["tenant"]) == ("fal-ai", "routed", "alice")
    assert client.get("/fal-ai/%2e%2e/admin/requests").status_code == 404
    assert httpx2.get(running.base + "/fal-ai/fal-ai/slow/requests/r1/status").status_code == 401


@pytest.mark.parametrize("name", ["strict", "mine", "openai"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_server_of_ones_own_is_no_api_for_callers(name: str, method: str, client: httpx2.Client, fal: Fal) -> None:
    assert client.request(method, f"/{name}/fal-ai/slow").status_code in (404, 405)
    assert fal.seen == []


def test_two_hundred_jobs_at_once_leave_nothing_behind(running: Running, client: httpx2.Client, fal: Fal) -> None:
    statuses: list[int] = []

    def one() -> None:
        statuses.append(client.post("/models/quick", json=CAT).status_code)

    threads = [threading.Thread(target=one) for _ in range(200)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert statuses == [200] * 200
    assert running.is_idle()
