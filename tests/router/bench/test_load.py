"""The drivers against the mock, over real sockets."""

import sys
from collections.abc import Iterator

import pytest
import uvloop

from router.bench import load, wire
from router.bench.process import Program, free_port


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "router.bench.mock", "--port", str(port), "--interval", "5"]
    with Program(command, core=None, log=tmp_path_factory.mktemp("mock") / "log", env={}) as program:
        program.ready(lambda: load.answers(port, {}), timeout=20)
        yield port


def test_the_mock_answers_and_streams_as_asked(mock: int) -> None:
    load.check(mock, {})


def test_one_connection_is_timed(mock: int) -> None:
    timing = load.latency(mock, {}, seconds=0.05)
    assert 0 < timing.p50 <= timing.p99 < 1
    assert timing.per_second > 1


def test_a_closed_loop_counts_its_answers(mock: int) -> None:
    timing = uvloop.run(_closed_loop(mock))
    assert timing.per_second > 100
    assert 0 < timing.p50 <= timing.p99 < 1


async def _closed_loop(port: int) -> load.Timing:
    return await load.requests(port, {}, connections=4, seconds=0.1)


def test_a_crowd_hears_every_stream_at_its_beat(mock: int) -> None:
    window = uvloop.run(_listened(mock, wire.stream_body(wire.FOREVER)))
    assert 0.5 < window.events / (10 * window.seconds / 0.005) < 1.5
    assert 0 < window.alone <= window.events == len(window.delays)


def test_idle_streams_say_nothing_after_their_first_event(mock: int) -> None:
    assert uvloop.run(_listened(mock, wire.idle_body())).events == 0


async def _listened(port: int, payload: bytes) -> load.Window:
    crowd = load.Crowd(port, payload, {})
    assert await crowd.open(10, at_once=5, timeout=10) == 10
    try:
        return await crowd.listen(0.2)
    finally:
        await crowd.close()


def test_a_large_prompt_is_answered(mock: int) -> None:
    assert uvloop.run(load.send(mock, wire.body("a" * 1_000_000), {}, timeout=10)) > 0


def test_what_is_not_the_mock_is_refused(mock: int) -> None:
    with pytest.raises(OSError, match="refused"):
        load.check(free_port(), {})


@pytest.mark.parametrize(
    ("got", "is_whole"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", True),
    ],
)
def test_an_answer_is_whole_when_its_framing_says_so(got: bytes, is_whole: bool) -> None:
    assert load.whole(got) is is_whole


def test_quantiles_are_values_that_were_seen() -> None:
    assert load.quantile([3, 1, 2], 0.5) == 2
    assert load.quantile([1], 0.99) == 1
    assert load.quantile([], 0.5) != load.quantile([], 0.5)
