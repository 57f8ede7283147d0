"""The file is read again while requests run: the new one whole and at once, or the old one on and on."""

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.chaos.answers import stream
from tests.chaos.upstream import Chaos, chaos
from tests.running import KEY, Running, server_of, serving, supervisor_of

HEADERS = {"authorization": f"Bearer {KEY}"}
SAY = {"messages": [{"role": "user", "content": "hi"}]}
GENERATION, REFUSED = "router_config_generation", "router_config_reload_failures_total"
FILE = """
virtual_keys: [{{name: alice, key: {key}}}]
upstreams: {{sandbox: {{provider: sandbox}}, slow: {{provider: openai, base_url: "http://127.0.0.1:{port}/v1"}}}}
models:
  {model}: {{deployments: [{{upstream: sandbox, provider_id: sandbox/echo}}]}}
  slow: {{deployments: [{{upstream: slow}}]}}
tables: []
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Chaos]:
    upstream = Chaos({"*": lambda attempt: stream("slow", pace=0.01)})
    with chaos(upstream):
        yield upstream


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reload")


@pytest.fixture(scope="module")
def started(upstream: Chaos, place: Path) -> Iterator[Running]:
    with serving(FILE.format(key=KEY, model="one", port=upstream.port), place) as running:
        yield running


@pytest.fixture
def running(started: Running, upstream: Chaos, place: Path) -> Running:
    """As it started, whatever the test before has left."""
    write(place, upstream, "one")
    assert httpx2.post(started.base + "/admin/reload").status_code == 200
    return started


def write(place: Path, upstream: Chaos, model: str) -> None:
    """As editors do: beside it, then in its place."""
    new = place / "new.yaml"
    new.write_text(FILE.format(key=KEY, model=model, port=upstream.port))
    new.replace(place / "config.yaml")


def serves(running: Running, model: str) -> bool:
    body = {"model": model, **SAY}
    answer = httpx2.post(f"{running.base}/v1/chat/completions", json=body, headers=HEADERS)
    assert answer.status_code in (200, 404), answer.text
    return answer.status_code == 200


def soon(what: Callable[[], bool], seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.05)
    return False


def figure(running: Running, name: str) -> float:
    text = httpx2.get(running.base + "/metrics").text
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name + " "))


@pytest.mark.parametrize("how", ["signal", "asked", "watched"])
def test_a_new_file_is_in_use_whole_and_the_old_models_are_gone(
    how: str, running: Running, upstream: Chaos, place: Path
) -> None:
    assert serves(running, "one") and not serves(running, "two")
    before, said = figure(running, GENERATION), len(running.errors.read_text())
    write(place, upstream, "two")
    if how == "signal":
        os.kill(server_of(running), signal.SIGHUP)
    elif how == "asked":
        answer = httpx2.post(running.base + "/admin/reload")
        assert (answer.status_code, answer.json()) == (200, {"generation": before + 1})
    assert soon(lambda: serves(running, "two"))
    assert not serves(running, "one")
    assert figure(running, GENERATION) == before + 1
    assert "is in use" in running.errors.read_text()[said:]


def test_a_file_with_faults_is_refused_by_name_and_the_old_one_goes_on(running: Running, place: Path) -> None:
    before, refused = figure(running, GENERATION), figure(running, REFUSED)
    bad = "virtual_keys: [{name: alice, key: sk-canary-in-a-bad-file}]\nupstreams: {x: {provider: gorq}}\n"
    (place / "config.yaml").write_text(bad)
    answer = httpx2.post(running.base + "/admin/reload")
    assert answer.status_code == 422 and answer.json()["generation"] == before
    assert "groq" in str(answer.json()["faults"])
    assert "canary" not in answer.text + running.errors.read_text()
    assert serves(running, "one")
    assert figure(running, REFUSED) >= refused + 1
    assert figure(running, GENERATION) == before
    (place / "config.yaml").unlink()
    assert httpx2.post(running.base + "/admin/reload").status_code == 422
    assert serves(running, "one")


def test_what_only_a_restart_changes_is_said(running: Running, upstream: Chaos, place: Path) -> None:
    file = place / "config.yaml"
    file.write_text(file.read_text() + "server: {drain: 7s}\n")
    assert httpx2.post(running.base + "/admin/reload").status_code == 200
    assert "server.drain takes effect at the next start" in running.errors.read_text()


def test_only_operators_may_ask_for_it(running: Running) -> None:
    for headers in ({"x-forwarded-for": "1.2.3.4"}, {"host": "router.example"}, {"origin": "http://evil.example"}):
        assert httpx2.post(running.base + "/admin/reload", headers=headers).status_code == 404
        assert httpx2.get(running.base + "/admin/requests", headers=headers).status_code == 404


def test_a_hundred_reloads_half_of_them_bad_under_load_fail_no_request(
    running: Running, upstream: Chaos, place: Path
) -> None:
    wrong: list[object] = []
    served = {"echo": 0, "streams": 0}
    over = threading.Event()

    def ask() -> None:
        with httpx2.Client(headers=HEADERS, timeout=20) as client:
            while not over.is_set():
                answer = client.post(running.base + "/v1/chat/completions", json={"model": "one", **SAY})
                served["echo"] += 1
                if answer.status_code != 200:
                    wrong.append(answer.text)
                time.sleep(0.005)

    def follow() -> None:
        with httpx2.Client(headers=HEADERS, timeout=20) as client:
            while not over.is_set():
                body = {"model": "slow", **SAY, "stream": True}
                text = client.post(running.base + "/v1/chat/completions", json=body).text
                served["streams"] += 1
                if text.count('"content":"token') != 60 or not text.endswith("data: [DONE]\n\n"):
                    wrong.append(text[-300:])

    callers = [threading.Thread(target=each) for each in (ask, ask, follow, follow, follow)]
    for each in callers:
        each.start()
    before = figure(running, GENERATION)
    good = (place / "config.yaml").read_text()
    bad = ["models: [", good + "server: {drain: 0x}\n", good.replace("sandbox/echo", "${NOT_SET}"), good + good]
    try:
        for number in itertools.count():
            if number >= 50 and served["echo"] > 20 and served["streams"] > 3:
                break
            (place / "config.yaml").write_text(bad[number % len(bad)])
            answer = httpx2.post(running.base + "/admin/reload")
            assert answer.status_code == 422, (number, answer.text, running.errors.read_text()[-800:])
            (place / "config.yaml").write_text(good + f"# {number}\n")
            assert httpx2.post(running.base + "/admin/reload").status_code == 200
    finally:
        over.set()
        for each in callers:
            each.join()
    assert not wrong
    assert figure(running, GENERATION) >= before + 50
    assert soon(lambda: upstream.open <= 3)  # the pools of old files are closed


@pytest.mark.parametrize("how", ["signal", "asked", "watched"])
def test_all_workers_read_it_and_any_of_them_tells_of_a_request(how: str, upstream: Chaos, tmp_path: Path) -> None:
    file = "server: {{workers: 2}}\n" + FILE
    with serving(file.format(key=KEY, model="one", port=upstream.port), tmp_path) as running:
        (tmp_path / "config.yaml").write_text(file.format(key=KEY, model="two", port=upstream.port))
        if how == "signal":
            os.kill(supervisor_of(running), signal.SIGHUP)
        elif how == "asked":
            assert httpx2.post(running.base + "/admin/reload").status_code == 200
        assert soon(lambda: all(serves(running, "two") for _ in range(20)))
        assert soon(lambda: not any(serves(running, "one") for _ in range(20)))  # each worker looks for itself
        assert figure(running, GENERATION) == 2
        for number in range(10):  # whoever served it, and whoever is asked
            headers = {**HEADERS, "x-request-id": f"asked-{how}-{number}"}
            httpx2.post(running.base + "/v1/chat/completions", json={"model": "none", **SAY}, headers=headers)
            assert running.looked_up(f"asked-{how}-{number}")["code"] == "model_not_found"


def test_a_worker_that_dies_comes_back_with_the_file_as_it_is_now(upstream: Chaos, tmp_path: Path) -> None:
    file = "server: {{workers: 2}}\n" + FILE
    with serving(file.format(key=KEY, model="one", port=upstream.port), tmp_path) as running:
        (tmp_path / "config.yaml").write_text(file.format(key=KEY, model="two", port=upstream.port))
        assert httpx2.post(running.base + "/admin/reload").status_code == 200
        assert soon(lambda: all(serves(running, "two") for _ in range(20)))
        parent = supervisor_of(running)
        workers = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        assert len(workers) == 2
        for worker in workers:
            os.kill(int(worker), signal.SIGKILL)
        assert soon(lambda: answered(running) is not None)
        assert all(serves(running, "two") for _ in range(20))


def answered(running: Running) -> bool | None:
    try:
        return serves(running, "two")
    except httpx2.TransportError:
        return None


def test_every_request_can_be_looked_up_with_its_attempts(running: Running) -> None:
    headers = {**HEADERS, "x-request-id": "looked-up"}
    body = {"model": "one", **SAY}
    httpx2.post(running.base + "/v1/chat/completions", json=body, headers=headers)
    found = running.looked_up("looked-up")
    assert found["candidates"] == ["sandbox/sandbox/echo"] and found["dropped"] == []
    assert [each["verdict"] for each in found["tries"]] == ["serve"]
    assert found["tenant"] == "alice" and KEY not in json.dumps(found)
    listed = httpx2.get(running.base + "/admin/requests").json()["requests"]
    assert listed[0]["id"] == "looked-up"
    assert httpx2.get(running.base + "/admin/requests/never-was").status_code == 404
