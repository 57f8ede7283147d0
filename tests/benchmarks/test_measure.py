"""The measures themselves, short, where nginx and wrk are there."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from benchmarks import measure, peers
from benchmarks.measure import Size, Target
from router.bench import load
from router.bench.process import Program, free_port

SIZE = Size(rounds=1, seconds=0.2, connections=2, streams=10, beside=5, prompts=1, idle=10)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """nginx before the mock."""
    if not Path(peers.NGINX).exists():
        pytest.skip("there is no nginx here")
    work = tmp_path_factory.mktemp("bench")
    place = peers.Place(free_port(), free_port(), free_port(), work, work / "nginx")
    mock = [sys.executable, "-m", "router.bench.mock", "--port", str(place.upstream)]
    nginx = next(peer for peer in peers.PEERS if peer.name == "nginx")
    with (
        Program(mock, core=None, log=work / "mock.log", env={}) as upstream,
        Program(nginx.command(place), core=None, log=work / "nginx.log", env={}) as program,
    ):
        upstream.ready(lambda: load.answers(place.upstream, {}), timeout=20)
        program.ready(lambda: load.answers(place.port, {}), timeout=20)
        yield Target(place.port, {}, program)


def test_nginx_answers_and_streams_as_the_mock_does(proxy: Target) -> None:
    load.check(proxy.port, proxy.headers)


def test_streams_are_counted_and_their_cpu_is_known(proxy: Target) -> None:
    figures = uvloop.run(measure.streams(proxy, SIZE))
    assert figures["streams_opened"] == 10
    assert 0.5 < figures["chunks_delivered_share"] < 1.5
    assert figures["cpu_per_chunk_us"] >= 0


def test_a_large_prompt_is_seen_beside_streams(proxy: Target) -> None:
    figures = uvloop.run(measure.stall(proxy, SIZE))
    assert figures["prompt_answer_ms"] > 0
    assert figures["stall_worst_ms"] >= figures["stall_with_prompt_ms"] > 0


def test_idle_streams_have_a_weight(proxy: Target) -> None:
    assert uvloop.run(measure.idle(proxy, SIZE))["idle_streams_rss_mb"] > 1


def test_wrk_is_read_rightly(proxy: Target, tmp_path: Path) -> None:
    if not Path(measure.WRK).exists():
        pytest.skip("there is no wrk here")
    figures = measure.throughput(proxy, SIZE, tmp_path)
    assert figures["rps"] > 10
    assert 0 < figures["rps_p50_ms"] <= figures["rps_p99_ms"]
