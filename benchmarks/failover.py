"""FailoverBench's sixteen faults, with real waits: this router, and the other gateways that have a fallback.

    python -m benchmarks.failover [--only us,litellm,portkey] [--out FILE] [--cache DIR]

Each has a primary and one fallback, two retries and 30 s a try, as their own documents write that; everything else is
as it is shipped. The upstreams and the grading are tests/chaos/failover.py's, all rows run at once. A run takes two
minutes a gateway. Needs `.[test]`; the others are installed from their registries as for `benchmarks.run`.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2

from benchmarks import peers
from benchmarks.peers import Place
from benchmarks.run import CACHE
from router.bench import wire
from router.bench.process import Program, free_port
from tests.chaos import failover
from tests.chaos.failover import ROWS, Result
from tests.chaos.upstream import Chaos, chaos

Pair = tuple[Chaos, Chaos]


@dataclass(frozen=True)
class Gateway:
    """How one of the peers is started in front of the pair, and what its callers send."""

    command: Callable[[Place, Pair], list[str]]
    headers: Callable[[str, Pair], Mapping[str, str]]


def _bearer(_: str, __: Pair) -> Mapping[str, str]:
    return {"authorization": f"Bearer {wire.KEY}"}


def _us(place: Place, pair: Pair) -> list[str]:
    file = place.work / "config.yaml"
    file.write_text(failover.config(pair, wire.KEY))
    return [sys.executable, "-m", "router", "serve", "--config", str(file), "--port", str(place.port)]


def _litellm(place: Place, pair: Pair) -> list[str]:
    def entry(name: str, model: str, upstream: Chaos) -> dict[str, Any]:
        base = f"http://127.0.0.1:{upstream.port}/v1"
        return {"model_name": name, "litellm_params": {"model": f"openai/{model}", "api_base": base, "api_key": "none"}}

    ids = [row.id for row in ROWS] + ["ok"]
    models = [entry(each, each, pair[0]) for each in ids] + [entry(f"{each}-fallback", each, pair[1]) for each in ids]
    context = [{row.id: [f"{row.id}-fallback"]} for row in ROWS if row.context]
    config = {
        "model_list": models,
        "router_settings": {
            "num_retries": 2,
            "timeout": 30,
            "fallbacks": [{each: [f"{each}-fallback"]} for each in ids],
            "context_window_fallbacks": context,
        },
        "litellm_settings": {"telemetry": False, "request_timeout": 30},
    }
    file = place.work / "litellm.yaml"
    file.write_text(json.dumps(config))
    serve = [str(place.installed / "bin/litellm"), "--config", str(file), "--host", "127.0.0.1"]
    return [*serve, "--port", str(place.port), "--num_workers", "1", "--telemetry", "False"]


def _portkey(place: Place, pair: Pair) -> list[str]:
    script = place.installed / "node_modules/@portkey-ai/gateway/build/start-server.js"
    return ["node", str(script), f"--port={place.port}", "--headless"]


def _portkey_headers(model: str, pair: Pair) -> Mapping[str, str]:
    targets = [
        {
            "provider": "openai",
            "api_key": "none",
            "custom_host": f"http://127.0.0.1:{each.port}/v1",
            "retry": {"attempts": 2},
            "request_timeout": 30_000,
        }
        for each in pair
    ]
    return {"x-portkey-config": json.dumps({"strategy": {"mode": "fallback"}, "targets": targets})}


GATEWAYS: Final[Mapping[str, Gateway]] = {
    "us": Gateway(_us, _bearer),
    "litellm": Gateway(_litellm, _bearer),
    "portkey": Gateway(_portkey, _portkey_headers),
}


def grid(name: str, cache: Path) -> list[Result]:
    """All rows through one gateway."""
    peer = next(each for each in peers.PEERS if each.name == name)
    peer.install(peer.installed(cache))
    pair = failover.pair()

    async def ask(base: str) -> list[Result]:
        async with httpx2.AsyncClient(timeout=None) as client:
            gateway = failover.Gateway(base, lambda model: GATEWAYS[name].headers(model, pair), client)
            return await failover.grid(gateway, pair)

    with tempfile.TemporaryDirectory() as work, chaos(*pair):
        place = Place(free_port(), free_port(), 0, peer.installed(cache), Path(work))
        command = GATEWAYS[name].command(place, pair)
        with Program(command, core=None, log=Path(work) / "log", env=dict(peer.env(place))) as program:
            base = f"http://127.0.0.1:{place.port}"
            program.ready(lambda: _answers(base, GATEWAYS[name].headers("ok", pair)), timeout=60)
            return asyncio.run(ask(base))


def _answers(base: str, headers: Mapping[str, str]) -> bool:
    body = {"model": "ok", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    try:
        return httpx2.post(f"{base}/v1/chat/completions", json=body, headers=headers, timeout=30).status_code == 200
    except httpx2.TransportError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(GATEWAYS), help="which, in their order")
    parser.add_argument("--out", type=Path, help="save the grades there as JSON")
    parser.add_argument("--cache", type=Path, default=CACHE)
    chosen = parser.parse_args()
    grades = {}
    for name in chosen.only.split(","):
        results = grid(name, chosen.cache)
        print(failover.table(name, results), flush=True)
        grades[name] = {each.row.id: each.grade for each in results}
    if chosen.out:
        chosen.out.write_text(json.dumps(grades, indent=1))


if __name__ == "__main__":
    main()
