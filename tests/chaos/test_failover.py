"""FailoverBench against a server as users start it, with the clocks it is shipped with: minutes, so it has a mark."""

import asyncio
from pathlib import Path

import httpx2
import pytest

from tests.chaos import failover
from tests.chaos.upstream import chaos
from tests.running import KEY, serving


@pytest.mark.slow
def test_all_sixteen_faults_are_survived(tmp_path: Path) -> None:
    upstreams = failover.pair()

    async def grid(base: str) -> list[failover.Result]:
        async with httpx2.AsyncClient(timeout=None) as client:
            gateway = failover.Gateway(base, lambda _: {"authorization": f"Bearer {KEY}"}, client)
            return await failover.grid(gateway, upstreams)

    with chaos(*upstreams), serving(failover.config(upstreams, KEY), tmp_path) as running:
        results = asyncio.run(grid(running.base))
    print(failover.table("us", results))
    assert [f"{each.row.id} {each.grade}" for each in results] == [f"{row.id} pass" for row in failover.ROWS]
