"""Asks the Hub and its router for JSON, patiently and within bounds. The token goes to the Hub's origin alone."""

import email.utils
import json
import random
import time
import urllib.parse
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Self

import httpx2

TRIES: Final = 6
LONGEST_WAIT: Final = 300.0  # seconds that a Retry-After may ask for
LARGEST: Final = 128 * 1024 * 1024  # bytes of one answer
_AGAIN: Final = frozenset({429, 500, 502, 503, 504})


class Unavailable(Exception):
    """What was asked for cannot be had, in one line. `status`: the HTTP status where there was one."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """`pause` sleeps and `told` hears why; both are passed in so that a test need not wait."""

    def __init__(
        self,
        hub: str,
        token: str = "",
        *,
        pause: Callable[[float], None] = time.sleep,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.hub = hub.rstrip("/")
        self._token = token
        self._pause = pause
        self._told = told
        self._client = httpx2.Client(timeout=60, headers={"accept": "application/json"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, url: str) -> tuple[Any, httpx2.Response]:
        """The JSON at `url`, and the answer that it came in. Raises Unavailable when every try failed."""
        for tried in range(1, TRIES + 1):
            try:
                answer = self._once(url)
            except httpx2.TransportError as error:
                reason, wait = f"{_place(url)} cannot be reached: {error}", None
            else:
                if answer.status_code == 200:
                    return _json(answer, url), answer
                reason = f"{_place(url)} answered {answer.status_code}"
                if answer.status_code not in _AGAIN:
                    raise Unavailable(reason, answer.status_code)
                wait = waited(answer.headers)
            if tried < TRIES:
                pause = backoff(tried) if wait is None else min(wait, LONGEST_WAIT)
                self._told(f"{reason}; again in {pause:.0f} s")
                self._pause(pause)
        raise Unavailable(f"{reason}, {TRIES} times")

    def _once(self, url: str) -> httpx2.Response:
        secret = {"authorization": f"Bearer {self._token}"} if self._token and origin(url) == origin(self.hub) else {}
        with self._client.stream("GET", url, headers=secret) as answer:
            body = bytearray()
            for chunk in answer.iter_bytes():
                body += chunk
                if len(body) > LARGEST:
                    raise Unavailable(f"{_place(url)} answered more than {LARGEST >> 20} MiB")
        headers = [(name, value) for name, value in answer.headers.multi_items() if name != "content-encoding"]
        return httpx2.Response(answer.status_code, headers=headers, content=bytes(body), request=answer.request)


def origin(url: str) -> tuple[str, str, int | None]:
    split = urllib.parse.urlsplit(url)
    return split.scheme, split.hostname or "", split.port or {"https": 443, "http": 80}.get(split.scheme)


def waited(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After asks for: a number, or a date."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (when.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def backoff(tried: int) -> float:
    """1, 2, 4, … 32 s, each a half of it at random, so that many who were refused do not come back together."""
    return float(min(32, 2 ** (tried - 1))) * random.uniform(0.5, 1.0)  # noqa: S311 - nothing is kept secret by it


def _json(answer: httpx2.Response, url: str) -> Any:
    try:
        return json.loads(answer.content)
    except (ValueError, RecursionError):
        raise Unavailable(f"{_place(url)} answered what is no JSON") from None


def _place(url: str) -> str:
    split = urllib.parse.urlsplit(url)
    return f"{split.scheme}://{split.netloc.rpartition('@')[2]}{split.path}"
