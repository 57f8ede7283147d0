"""Who waits for a connection: each lane in its order, the lanes in turn, so that one with many keeps none with few."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Line(Generic[T]):
    __slots__ = ("_lanes",)

    def __init__(self) -> None:
        self._lanes: dict[str, deque[asyncio.Future[T]]] = {}  # the next lane first

    def append(self, lane: str, waiter: asyncio.Future[T]) -> None:
        self._lanes.setdefault(lane, deque()).append(waiter)

    def pop(self) -> asyncio.Future[T]:
        """The first of the next lane, which then stands behind the others."""
        lane, waiters = next(iter(self._lanes.items()))
        del self._lanes[lane]
        waiter = waiters.popleft()
        if waiters:
            self._lanes[lane] = waiters
        return waiter

    def remove(self, lane: str, waiter: asyncio.Future[T]) -> None:
        """One who gave up, where it still stands there."""
        waiters = self._lanes.get(lane)
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._lanes[lane]

    def __bool__(self) -> bool:
        return bool(self._lanes)
