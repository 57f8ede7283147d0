"""Files on their way down: passed on as they come, however large, and no faster than the caller reads."""

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.flows.raw import Upstream, full, listening
from tests.running import KEY, Running, server_of, serving

MEBI: Final = 1024 * 1024
ZEROS: Final = bytes(MEBI)
WAYS: Final = {  # how an answer comes to be a file: path, body
    "fetched from where the provider has put it": ("/models/picture", {"inputs": "a cat"}),
    "an answer in the caller's own shape": ("/v1/audio/speech", {"model": "voice", "input": "hi", "voice": "v"}),
    "an answer in another shape": ("/models/voice", {"inputs": "hi"}),
    "without its length": ("/models/endless", {"inputs": "hi"}),
}


class Counted(list[bytes]):
    """The pieces of an answer, and how many bytes of them have been handed to the system."""

    sent = 0

    def __iter__(self) -> Iterator[bytes]:
        for each in super().__iter__():
            yield each
            self.sent += len(each)


@dataclass
class Files(Upstream):
    """fal and an OpenAI server on one port: its answers are files of `size` MiB of zeros."""

    size: int = 0
    begun: list[Counted] = field(default_factory=list, repr=False)  # gibibytes

    def answered(self, _: str, head: bytes) -> list[bytes]:
        path = head.split(b" ")[1]
        if path == b"/fal-ai/quick":
            url = f"http://127.0.0.1:{self.port}/files/a.png"
            return [full(200, json.dumps({"images": [{"url": url}]}).encode())]
        kind = b"image/png" if path.startswith(b"/files/") else b"audio/mpeg"
        if path.startswith(b"/chunked/"):
            framing, piece, end = b"transfer-encoding: chunked", b"%x\r\n%b\r\n" % (MEBI, ZEROS), [b"0\r\n\r\n"]
        else:
            framing, piece, end = b"content-length: %d" % (self.size * MEBI), ZEROS, []
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n\r\n" % (kind, framing)
        pieces = Counted([head, *[piece] * self.size, *end])
        self.begun.append(pieces)
        return pieces


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    made = Files()
    made.answer = made.answered
    with listening(made):
        yield made


@pytest.fixture(scope="module")
def running(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    here = f"http://127.0.0.1:{files.port}"
    config = f"""
virtual_keys: [{{name: alice, key: {KEY}}}]
upstreams:
  fal-ai: {{provider: fal-ai, base_url: "{here}", keys: [fal-canary-one-0000000], fetch_from: ["127.0.0.0/8"]}}
  spoken: {{provider: openai, base_url: "{here}/v1", keys: [sk-canary-0000000000000]}}
  chunked: {{provider: openai, base_url: "{here}/chunked", keys: [sk-canary-0000000000001]}}
models:
  picture: {{task: text-to-image, deployments: [{{upstream: fal-ai, provider_id: fal-ai/quick}}]}}
  voice: {{task: text-to-speech, deployments: [{{upstream: spoken, provider_id: tts}}]}}
  endless: {{task: text-to-speech, deployments: [{{upstream: chunked, provider_id: tts}}]}}
"""
    with serving(config, tmp_path_factory.mktemp("large")) as running:
        yield running


class Memory:
    """Of a process, in bytes: how much more it has ever held than it did at first."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # its peak is what it holds now
        self._before = self._peak()

    def _peak(self) -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", self._status.read_text())
        assert found is not None
        return int(found[1]) * 1024

    def grown(self) -> int:
        return self._peak() - self._before


def asked(running: Running, path: str, body: dict[str, Any]) -> http.client.HTTPResponse:
    """The answer, with its head read. Its connection is its own, and ends with it."""
    connection = http.client.HTTPConnection(running.base.rpartition("/")[2], timeout=60)
    connection.connect()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MEBI)  # the system would read ahead for it
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json", "connection": "close"}
    headers["x-use-cache"] = "0"  # what may be kept is held up to a bound of its own, where its length is not told
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    return answer


def drained(answer: http.client.HTTPResponse) -> int:
    into, size = memoryview(bytearray(MEBI)), 0
    with answer:
        while read := answer.readinto(into):
            size += read
    return size


@pytest.mark.parametrize(
    ("size", "most"),
    [pytest.param(200, 24, id="200 MiB"), pytest.param(5 * 1024, 32, id="5 GiB", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("way", WAYS)
def test_a_large_file_is_passed_on_and_never_held(
    way: str, size: int, most: int, running: Running, files: Files
) -> None:
    files.size = size
    memory = Memory(server_of(running))
    assert drained(asked(running, *WAYS[way])) == size * MEBI
    print(f"{way}: {size} MiB, grown by {memory.grown() / MEBI:.1f} MiB")
    assert memory.grown() <= most * MEBI


def test_callers_who_read_nothing_for_a_second_halt_their_providers(running: Running, files: Files) -> None:
    files.size = 200
    files.begun.clear()
    memory = Memory(server_of(running))
    with ExitStack() as open_ones, ThreadPoolExecutor() as pool:
        answers = [open_ones.enter_context(asked(running, *way)) for way in WAYS.values()]
        time.sleep(1)
        sent = [each.sent for each in files.begun]
        # The rest waits where it came from; what the system holds of it, for the server and from it, is not ours.
        assert len(sent) == len(WAYS) and max(sent) < 64 * MEBI
        assert list(pool.map(drained, answers)) == [200 * MEBI] * len(WAYS)
    assert memory.grown() <= 24 * MEBI
