"""A replica in a process of its own, for tests: `race URL ROUNDS EACH` or `hold URL TTL`."""

import asyncio
import os
import sys

from router.bounds import Bound
from router.stores.memory import MemoryStore
from router.stores.redis import Shared


def bounds(number: int) -> tuple[Bound, Bound]:
    of = f"round{number}"
    return (
        Bound(f"tenant/{of}/requests", "tenant", of, "requests", 10, 3600.0),
        Bound(f"tenant/{of}/budget", "tenant", of, "budget", 10, 0.0, "month"),
    )


async def race(url: str, rounds: int, each: int) -> None:
    """Prints for each round: admitted by requests, admitted by budget, decided here alone."""
    shared = Shared(url, MemoryStore(), replicas=2)
    await shared.open()
    client = shared._line.client
    for number in range(rounds):
        await client.incr(f"at{number}")
        while int(await client.get(f"at{number}")) < 2:  # noqa: ASYNC110 - the other process
            await asyncio.sleep(0.001)
        admitted = []
        for bound in bounds(number):
            takes = [shared.limits.take([(bound, 1)], f"{os.getpid()}-{n}") for n in range(each)]
            admitted.append((await asyncio.gather(*takes)).count(None))
        print(*admitted, shared.limits.fallbacks, flush=True)
    await shared.close()


async def hold(url: str, ttl: float) -> None:
    """Takes all that there is, says so, and never gives it back."""
    shared = Shared(url, MemoryStore(), ttl=ttl)
    await shared.open()
    asked = [
        (Bound("tenant/a/concurrency", "tenant", "a", "concurrency", 1), 1),
        (Bound("tenant/a/budget", "tenant", "a", "budget", 10, 0.0, "month"), 10),
    ]
    print(await shared.limits.take(asked, "lost"), flush=True)
    await asyncio.sleep(60)


if __name__ == "__main__":
    what, url, *numbers = sys.argv[1:]
    asyncio.run(race(url, int(numbers[0]), int(numbers[1])) if what == "race" else hold(url, float(numbers[0])))
