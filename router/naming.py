"""Which models a passed-through request names: what a key's rights and limits are held against.

Whoever reads the body in the end may be more lenient than we are, and look elsewhere first: so every name counts that
it may go by, in the body and in the path, and a body in which names cannot be told from other bytes is no request of a
key that may not have everything. `Register` says what this server knows of an upstream's own id.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from providers import multipart
from providers.media import sniff
from providers.spec import ANY_TASK, Provider, Task
from router import envelope
from router.bounds import Bound
from router.errors import bad_request
from router.routing import Deployment, Row, Table
from router.uploads import boundary_of

_NAMES: Final = ("model", "model_name", "version")
_BY_PATH: Final = frozenset({"black-forest-labs", "fal-ai", "hf-inference", "novita", "replicate", "wavespeed"})
_NAMELESS: Final = frozenset({"/v1/predictions"})  # of Replicate's, with a version in the body
_REPLICATE: Final = re.compile(r"/v1/models/([^/]+/[^/]+)(?:/.*)?").fullmatch
LONGEST: Final = 512
KEPT: Final = 1024  # ids that no table has


class Known(msgspec.Struct, frozen=True):
    """A model at an upstream. `names`: the ids that callers write, those of routes first; none where it has no other
    than the upstream's. `bounds`: of all callers together, under any of them.
    """

    deployment: Deployment
    names: tuple[str, ...] = ()
    bounds: tuple[Bound, ...] = ()
    task: Task = ANY_TASK


class Register:
    """Models by the ids that upstreams know them under, found in any case; made once for a table and an upstream."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Table, Mapping[str, Known]]] = {}
        self._others: dict[tuple[str, str], Known] = {}

    def find(self, table: Table, upstream: str, provider_id: str) -> Known:
        found = self._of(table, upstream).get(provider_id.casefold())
        return found or self._unlisted(table, upstream, provider_id)

    def ids(self, table: Table, upstream: str) -> list[str]:
        return [each.deployment.provider_id for each in self._of(table, upstream).values()]

    def _of(self, table: Table, upstream: str) -> Mapping[str, Known]:
        made = self._made.get(upstream)
        if made is None or made[0].routes is not table.routes or made[0].rows is not table.rows:
            made = self._made[upstream] = (table, _listed(table, upstream))
            self._others.clear()
        return made[1]

    def _unlisted(self, table: Table, upstream: str, provider_id: str) -> Known:
        """Nobody wrote it down; a wildcard may be meant for it all the same. Kept, so that its price is."""
        known = self._others.get((upstream, provider_id))
        if known is None:
            deployment = Deployment(upstream, provider_id, Row(provider_id))
            known = Known(deployment)
            for pattern, route in table.wildcards:
                filled = table.route(provider_id) if _could(pattern, provider_id) else None
                meant = [each for each in filled.deployments if each.upstream == upstream] if filled else []
                if meant and meant[0].provider_id == provider_id:
                    known = Known(meant[0], (), route.bounds, route.task)
                    break
            if len(self._others) >= KEPT:
                self._others.clear()
            self._others[upstream, provider_id] = known
        return known


def _could(pattern: str, name: str) -> bool:
    return name.startswith(pattern.partition("*")[0])


def _listed(table: Table, upstream: str) -> dict[str, Known]:
    found: dict[str, Known] = {}
    for route in (*table.routes.values(), *(each for _, each in table.wildcards)):
        for each in route.deployments:
            if each.upstream == upstream and each.provider_id:
                _add(found, each, route.model, route.bounds, route.task)
    for model, row in table.rows.get(upstream, {}).items():
        _add(found, Deployment(upstream, row.id, row, context=row.context, model=model), model, (), row.task)
    return found


def _add(found: dict[str, Known], deployment: Deployment, name: str, bounds: tuple[Bound, ...], task: Task) -> None:
    """Of several that are the same there, the first that says a price is the one that prices."""
    folded = deployment.provider_id.casefold()
    task = deployment.row.task if task == ANY_TASK else task
    before = found.get(folded)
    if before is None:
        found[folded] = Known(deployment, (name,), bounds, task)
        return
    known = before.deployment
    found[folded] = Known(
        known if _priced(known) or not _priced(deployment) else deployment,
        tuple(dict.fromkeys((*before.names, name))),
        tuple(dict.fromkeys((*before.bounds, *bounds))),
        before.task if before.task != ANY_TASK else task,
    )


def _priced(deployment: Deployment) -> bool:
    return bool(deployment.price or deployment.row.price)


def models(body: bytes, content_type: bytes, path: str, provider: Provider, ids: Iterable[str]) -> list[str]:
    """The provider's ids, the likeliest first. `ids`: those that are known there. Raises Refused."""
    named = [each[:LONGEST] for each in in_body(body, content_type)]
    if provider.name == "replicate":  # owner/name:version, and of several names the version
        named = [each.partition(":")[0] if "/" in each else each for each in reversed(named)]
    plain = {each.path for each in provider.adapters.values() if each.path and "{id}" not in each.path} | _NAMELESS
    if provider.name in _BY_PATH and path not in plain:
        return [_in_path(path, ids), *named]
    return named or [_in_path(path, ids)]


def in_body(body: bytes, content_type: bytes) -> list[str]:
    """Whatever it says it is, an object in braces is JSON."""
    if body.lstrip()[:1] == b"{":
        fields = envelope.read(body)
        return [envelope.text(fields, name) for name in _NAMES if name in fields]
    if content_type[:10].lower() == b"multipart/":
        try:
            parts = multipart.parse(body, boundary_of(content_type))
        except ValueError as error:
            raise bad_request(f"The multipart body cannot be read: {error}.", code="invalid_multipart") from None
        return [value for name, value in parts if name in _NAMES and isinstance(value, str)]
    return []


def readable(body: bytes, content_type: bytes) -> bool:
    """Whether `in_body` has seen all the names that there are: in JSON, in a form, or in a file, which has none."""
    begins = body.lstrip()[:1]
    return not body or begins == b"{" or content_type[:10].lower() == b"multipart/" or bool(sniff(body))


def _in_path(path: str, ids: Iterable[str]) -> str:
    """The longest of the known ids that stands in it; else Replicate's owner and name, else all of it."""
    folded = f"{path}/".casefold()
    known = max((each for each in ids if each and f"/{each}/".casefold() in folded), key=len, default="")
    found = _REPLICATE(path)
    return (known or (found[1] if found else path.strip("/").partition("/requests/")[0]))[:LONGEST]
