"""Files on their way up: never held whole, the model exchanged wherever it stands, refused where they are too large."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx2
import pytest

from tests.flows.raw import Upstream, full, listening
from tests.running import KEY, Running, server_of, serving

SIZE: Final = 64 * 1024 * 1024
ALLOWED: Final = 24 * 1024 * 1024  # bytes by which the server may grow for it
BOUNDARY: Final = "b0undary"
AUTH: Final = {"authorization": f"Bearer {KEY}", "content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(name: str, more: str = "") -> bytes:
    return f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()


MODEL: Final = part("model") + b"mine\r\n"
FILE: Final = part("file", '; filename="a.wav"')
END: Final = f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    made = Upstream(lambda model, head: [full(200, b'{"text":"heard"}')])
    made.reads = "size"
    with listening(made):
        yield made


@pytest.fixture(scope="module")
def running(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    config = f"""
virtual_keys: [{{name: alice, key: {KEY}}}]
server: {{max_upload: 80MiB}}
upstreams: {{up: {{provider: openai, base_url: "http://127.0.0.1:{upstream.port}/v1"}}}}
models: {{mine: {{deployments: [{{upstream: up, provider_id: whisper-of-theirs}}]}}}}
"""
    with serving(config, tmp_path_factory.mktemp("uploads")) as running:
        yield running


def peak(running: Running) -> int:
    status = Path(f"/proc/{server_of(running)}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def body(order: str) -> Iterator[bytes]:
    file = (b"\0" * 65_536 for _ in range(SIZE // 65_536))
    if order == "model first":
        yield MODEL + FILE
        yield from file
    else:
        yield FILE
        yield from file
        yield b"\r\n" + MODEL[:-2]
    yield END


@pytest.mark.parametrize("order", ["model first", "file first"])
@pytest.mark.parametrize("framed", ["length", "chunked"])
def test_a_large_file_passes_through_and_is_never_held(
    order: str, framed: str, running: Running, upstream: Upstream
) -> None:
    before = peak(running)
    length = sum(map(len, body(order)))
    headers = {**AUTH, **({"content-length": str(length)} if framed == "length" else {})}
    url = running.base + "/v1/audio/transcriptions"
    answer = httpx2.post(url, content=body(order), headers=headers, timeout=60)
    assert answer.status_code == 200 and json.loads(answer.content) == {"text": "heard"}
    head, said = upstream.seen[-1]
    assert int(said) == length + len("whisper-of-theirs") - len("mine")
    assert (b"content-length" in head.lower()) == (framed == "length")
    assert peak(running) - before < ALLOWED


@pytest.mark.parametrize("framed", ["length", "chunked"])
def test_more_than_the_bound_is_a_413_that_names_the_file(framed: str, running: Running) -> None:
    def endless() -> Iterator[bytes]:
        yield MODEL + FILE
        for _ in range(96 * 1024 * 1024 // 65_536):
            yield b"\0" * 65_536

    length = 96 * 1024 * 1024 + len(MODEL + FILE)
    headers = {**AUTH, **({"content-length": str(length)} if framed == "length" else {})}
    try:
        answer = httpx2.post(running.base + "/v1/audio/transcriptions", content=endless(), headers=headers, timeout=60)
    except httpx2.TransportError:  # refused while it was still sending
        assert framed == "length" or running.records(1)[-1]["status"] in (413, 499)
    else:
        assert answer.status_code == 413
