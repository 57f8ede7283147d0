"""The Hub's list of what a provider serves, page by page; what was read survives a run that breaks off.

`Kept` is a file of JSON lines beside the tables, one a page: appended as pages come, deleted when the tables stand.
"""

import contextlib
import json
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from router.catalog.client import Client, Unavailable, origin

PAGE: Final = 1000  # models a page; the Hub gives fewer where it likes
MOST_PAGES: Final = 1000
OLDEST: Final = 24 * 3600.0  # seconds; an older list is read anew

Page = tuple[list[Any], str]  # the models of a page, and where the next one is; empty: it was the last


class Kept:
    """Pages that an earlier run read of the same Hub. `path` None: nothing is kept."""

    def __init__(self, path: Path | None, hub: str, now: float | None = None) -> None:
        self._path = path
        self._hub = hub
        self._pages: dict[str, list[Page]] = {}
        if path is not None and path.is_file():
            fresh = (time.time() if now is None else now) - path.stat().st_mtime < OLDEST
            if not fresh or not self._read(path):
                path.unlink()
                self._pages.clear()

    def pages(self, provider: str) -> list[Page]:
        return list(self._pages.get(provider, ()))

    def keep(self, provider: str, page: Page) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            if file.tell() == 0:
                file.write(json.dumps({"hub": self._hub}) + "\n")
            file.write(json.dumps({"provider": provider, "models": page[0], "next": page[1]}) + "\n")

    def done(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _read(self, path: Path) -> bool:
        """Whether the file is of this Hub. A last line that was cut off is cut away, so that pages follow it whole."""
        whole = path.read_bytes()
        whole = whole[: whole.rfind(b"\n") + 1]
        path.write_bytes(whole)
        with contextlib.suppress(ValueError, KeyError, TypeError, UnicodeDecodeError):
            first, *lines = [json.loads(line) for line in whole.splitlines()]
            for line in lines:
                self._pages.setdefault(line["provider"], []).append((list(line["models"]), str(line["next"])))
            return bool(first["hub"] == self._hub)
        return False


def listing(
    client: Client, provider: str, kept: Kept, seen: Callable[[int], None] = lambda _: None
) -> Iterator[dict[str, Any]]:
    """Every model that the Hub lists for a provider, each page's once it is whole. Raises Unavailable."""
    asked = {"inference_provider": provider, "limit": PAGE}
    expand = "&expand[]=inferenceProviderMapping&expand[]=pipeline_tag"
    url = f"{client.hub}/api/models?{urllib.parse.urlencode(asked)}{expand}"
    read = 0
    for page in kept.pages(provider):
        read += 1
        url = page[1]
        yield from _models(page, seen)
    while url:
        read += 1
        if read > MOST_PAGES:
            raise Unavailable(f"{client.hub} goes on after {MOST_PAGES} pages of {provider}")
        page = _page(client, url)
        kept.keep(provider, page)
        url = page[1]
        yield from _models(page, seen)


def _models(page: Page, seen: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    models = [each for each in page[0] if isinstance(each, dict)]
    seen(len(models))
    return iter(models)


def _page(client: Client, url: str) -> Page:
    value, answer = client.get(url)
    if not isinstance(value, list):
        raise Unavailable(f"{client.hub} answered no list of models")
    found = answer.links.get("next", {}).get("url", "")
    following = urllib.parse.urljoin(url, found) if found else ""
    if following and origin(following) != origin(client.hub):
        raise Unavailable(f"{client.hub} sends on to {origin(following)[1]}, which is not followed")
    return value, following
