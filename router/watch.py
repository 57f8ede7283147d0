"""Tells when files have changed: a look at each every so often, which costs less than being told by the kernel."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

EVERY: Final = 1.0  # seconds
COARSE: Final = 10_000_000  # nanoseconds
REST: Final = 0.2  # seconds without a change: an editor writes in pieces

Seen = dict[Path, tuple[int, int] | None]


def look(files: Iterable[Path]) -> Seen:
    """Size and time of each; None for one that is not there."""
    found: Seen = {}
    for file in files:
        try:
            stat = file.stat()
            found[file] = stat.st_mtime_ns, stat.st_size
        except OSError:
            found[file] = None
    return found


def newer(seen: Seen, at: int) -> bool:
    """Whether one of them was written since then, or may have been: file systems' clocks are coarse."""
    return any(each is not None and each[0] > at - COARSE for each in seen.values())


async def follow(files: Callable[[], Iterable[Path]], changed: Callable[[], Awaitable[object]], known: Seen) -> None:
    """Call `changed` once the files differ from what they were known to be, and have come to rest."""
    while True:
        await asyncio.sleep(EVERY)
        now = look(files())
        if now == known:
            continue
        await asyncio.sleep(REST)
        if look(files()) == now:
            known = now
            await changed()
