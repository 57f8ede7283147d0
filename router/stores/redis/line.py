"""The one line to Redis: bounded in time and in connections, never trying anything twice, with one breaker.

What goes wrong comes out as `Away`, in a word and without an address: the URL may hold a password. Who asks has
something else to go by; that is why nothing here waits longer than `TIMEOUT`.
"""

import asyncio
import hashlib
import socket
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from router.stores.redis.breaker import Breaker
from router.stores.redis.clock import Clock

TIMEOUT: Final = 0.08  # seconds of the 0.1 promised: the rest is for a busy loop
DOUBTED: Final = 0.02  # seconds, once it has failed and not answered since
CONNECTIONS: Final = 64
_KEEPALIVE: Final = {socket.TCP_KEEPIDLE: 5, socket.TCP_KEEPINTVL: 2, socket.TCP_KEEPCNT: 3}

_CLASSES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (redis.exceptions.AuthenticationError, "auth"),
    (redis.exceptions.BusyLoadingError, "loading"),
    (redis.exceptions.ConnectionError, "connection"),
    (redis.exceptions.TimeoutError, "timeout"),
    (redis.exceptions.ReadOnlyError, "readonly"),
    (TimeoutError, "timeout"),
    (OSError, "connection"),
)
_SAID: Final = (  # an error inside a script comes wrapped in another
    ("Too many connections", "busy"),
    ("command not allowed when used memory", "memory"),
    ("READONLY ", "readonly"),
    ("MISCONF ", "disk"),
    ("BUSY ", "script"),
)


class Away(Exception):
    """Redis gave no answer that is of use. `sent`: it may all the same have done what it was told."""

    def __init__(self, reason: str, sent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


class Script:
    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def client(url: str) -> Any:
    """Raises ValueError, without the URL in it."""
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": None,  # each call has its own end; redis-py's wait_for swallows a cancellation on Python 3.11
        "socket_connect_timeout": TIMEOUT,
        "max_connections": CONNECTIONS,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
    }
    if not url.startswith("unix:"):
        options["socket_keepalive"] = True
        if hasattr(socket, "TCP_KEEPIDLE"):
            options["socket_keepalive_options"] = _KEEPALIVE
    try:
        return redis.asyncio.Redis.from_url(url, **options)
    except (ValueError, TypeError):
        raise ValueError("expected the URL of a Redis such as redis://:password@host:6379/0") from None


class Line:
    """`failures` by reason; `reason` of the last one, "" once it answers."""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self.client: Any = client(url)
        self.breaker = Breaker()
        self.clock = clock or Clock()
        self.failures: dict[str, int] = {}
        self.reason = ""

    @property
    def open(self) -> bool:
        """The breaker is: nobody may ask."""
        return self.breaker.open

    async def run(self, script: Script, keys: Sequence[str], message: Any, until: float) -> tuple[int, Any]:
        """What a script of ours answers, and when by Redis' clock. `until`: by the loop's."""
        packed = msgspec.msgpack.encode(message)
        sent = self.clock.steady()
        now, body = msgspec.msgpack.decode(await self.call(script, keys, packed, until))
        self.clock.hear(int(now), sent, self.clock.steady())
        return int(now), body

    async def call(self, script: Script, keys: Sequence[str], argument: bytes, until: float) -> Any:
        try:
            async with asyncio.timeout_at(self._within(until)):
                try:
                    answer = await self.client.execute_command("EVALSHA", script.sha, len(keys), *keys, argument)
                except redis.exceptions.NoScriptError:  # it was not run, so this is its first time
                    answer = await self.client.execute_command("EVAL", script.text, len(keys), *keys, argument)
        except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
            raise self.failed(error) from None
        self.succeeded()
        return answer

    async def ask(self, *command: Any, seconds: float = TIMEOUT) -> Any:
        """One plain command."""
        try:
            async with asyncio.timeout_at(self._within(asyncio.get_running_loop().time() + seconds)):
                answer = await self.client.execute_command(*command)
        except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
            raise self.failed(error) from None
        self.succeeded()
        return answer

    def _within(self, until: float) -> float:
        """A request may have to ask several times, and shall not wait as often. A probe has its time."""
        if self.open or not self.breaker.doubted:
            return until
        return min(until, asyncio.get_running_loop().time() + DOUBTED)

    def succeeded(self) -> None:
        self.breaker.succeed()

    def failed(self, error: BaseException) -> Away:
        reason, sent = judged(error)
        self.failures[reason] = self.failures.get(reason, 0) + 1
        self.reason = reason
        if reason != "busy":  # with as much as this replica itself asks
            self.breaker.fail(refused=reason == "refused")
        return Away(reason, sent)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(1.0):
                await self.client.aclose()
        except (redis.exceptions.RedisError, OSError, TimeoutError):
            pass  # it is gone either way


def judged(error: BaseException) -> tuple[str, bool]:
    """In a word, and whether the command may have been run although it failed."""
    text = str(error)
    for word, reason in _SAID:
        if word in text:
            return reason, False
    if isinstance(error, redis.exceptions.ConnectionError) and " connecting to " in text:
        return "refused", False  # or there was no way to it
    for kind, reason in _CLASSES:
        if isinstance(error, kind):
            return reason, reason in ("connection", "timeout")
    return "error", False
