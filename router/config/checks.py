"""What no single setting can know: that names name something, that nothing runs in a ring, that the door is not open.

Each check reads the whole configuration and adds to `Findings`; none stops the others, so all faults come at once.
"""

import importlib.util
import ipaddress
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import providers
from providers import spec
from providers.spec import ANY_TASK, Provider
from router import jwt
from router.config.environment import Address
from router.config.faults import meant, spelled
from router.config.model import NOT_ENFORCED, Config
from router.settings import Settings
from router.upstream.settings import UpstreamSettings

SANDBOX: Final = "sandbox"
POLICY_SUFFIXES: Final = ("fastest", "cheapest", "preferred")

_UPSTREAM_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,63}").fullmatch
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]*").fullmatch
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+").fullmatch
_URL_PATH: Final = re.compile(r"[A-Za-z0-9._~/@:+-]*").fullmatch
# Written by the router itself, or meant for one connection only.
OWN_HEADERS: Final = frozenset(
    {
        *("accept", "accept-encoding", "authorization", "connection", "content-encoding", "content-length"),
        *("content-type", "expect", "host", "keep-alive", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade"),
    }
)


@dataclass(frozen=True, slots=True)
class Off:
    """An upstream that the file names and that is not used."""

    provider: str
    reason: str


@dataclass(slots=True)
class Findings:
    """Faults by place; notices; which upstreams are off, and why."""

    faults: list[tuple[Address, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    off: dict[str, Off] = field(default_factory=dict)

    def fault(self, message: str, *path: str | int) -> None:
        self.faults.append((path, message))


def on_loopback(host: str) -> bool:
    if host.casefold() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def of_ones_own(host: str) -> bool:
    """Whether a server of that name or address is on this machine or in its network: private addresses, names without
    a dot, and the endings that private networks and clusters use.
    """
    if on_loopback(host):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_private
    except ValueError:
        name = host.casefold().rstrip(".")
        return bool(name) and ("." not in name or name.endswith((".local", ".internal", ".lan", ".home.arpa", ".svc")))


def check_upstreams(
    config: Config, names: Mapping[Address, tuple[str, ...]], config_path: Path, found: Findings
) -> None:
    wanting: list[str] = []
    if config.server.tls is not None:
        _check_files(config.server.tls, config_path, found, "server", "tls")
    for name, settings in config.upstreams.items():
        here = ("upstreams", name)
        if not _UPSTREAM_NAME(name) or name in POLICY_SUFFIXES:
            found.fault("is no name for an upstream: letters, digits, `.`, `_`, `-`, and not a policy's name", *here)
        provider = providers.find(settings.provider)
        if provider is None:
            message = f'no provider is named "{settings.provider}"' + meant(settings.provider, providers.names())
            found.fault(message, *here, "provider")
            continue
        _check_url(settings, provider, found, here)
        _check_headers(settings, found, here)
        _check_files(settings.tls, config_path, found, *here, "tls")
        if provider.name == SANDBOX and not on_loopback(config.server.host):
            found.off[name] = Off(provider.name, "the sandbox is for loopback only")
            found.notices.append(f"upstreams.{name} is off: the sandbox is for loopback only")
        if _lacks_key(settings, provider):
            variables = _variables(names, (*here, "keys")) or provider.env
            if _brought(config, name, provider):
                found.notices.append(f"upstreams.{name} has no key of its own; it serves callers who bring theirs")
            else:
                hint = f" ({' or '.join(variables)})" if variables else ""
                found.off[name] = Off(provider.name, f"it has no key{hint}")
                wanting.append(f"{name}{hint}")
    if wanting:
        found.notices.append(f"off for want of a key: {', '.join(wanting)}")


def _lacks_key(settings: UpstreamSettings, provider: Provider) -> bool:
    """A place of one's own may need none; where keys are listed, it is meant to have one."""
    return not any(settings.keys) and (bool(settings.keys) or (provider.needs_key and not settings.base_url))


def _brought(config: Config, name: str, provider: Provider) -> bool:
    stored = (key.user_keys.get(each) for key in config.virtual_keys for each in (name, provider.name))
    return config.auth.user_keys or any(stored)


def _variables(names: Mapping[Address, tuple[str, ...]], below: Address) -> tuple[str, ...]:
    found = (name for path, each in names.items() if path[: len(below)] == below for name in each)
    return tuple(dict.fromkeys(found))


def _check_url(settings: UpstreamSettings, provider: Provider, found: Findings, here: tuple[str, str]) -> None:
    if not settings.base_url:
        if provider.base_url is None and provider.name != SANDBOX:
            found.fault(f"is missing: {provider.name} has no address of its own", *here, "base_url")
    elif provider.name == SANDBOX:
        found.fault("is not for the sandbox, which listens where it likes", *here, "base_url")
    elif reason := url_fault(settings.base_url):
        found.fault(reason, *here, "base_url")
    if settings.proxy and (reason := url_fault(settings.proxy, userinfo=True, schemes=("http",))):
        found.fault(reason, *here, "proxy")


def url_fault(url: str, userinfo: bool = False, schemes: tuple[str, ...] = ("http", "https")) -> str:
    """What is wrong with the address of a server; empty where nothing is."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme not in schemes or not parts.hostname or not _HOST(parts.hostname) or port == 0:
        return f"expected {' or '.join(f'{each}://host' for each in schemes)}, a port and a path if need be"
    if "@" in parts.netloc and not userinfo:
        return "must not hold a user or password; keys go into `keys`"
    if "?" in url or "#" in url:
        return "must not hold a query or a fragment"
    if not _URL_PATH(parts.path) or "//" in parts.path or {".", ".."} & set(parts.path.split("/")):
        return "has a path that servers could read differently: no `..`, `//`, `%` or spaces"
    return ""


def _check_headers(settings: UpstreamSettings, found: Findings, here: tuple[str, str]) -> None:
    for name, value in settings.headers.items():
        if not _HEADER_NAME(name):
            found.fault("is no name for a header", *here, "headers", name)
        elif name.lower() in OWN_HEADERS:
            found.fault("is a header that the router writes itself; keys go into `keys`", *here, "headers", name)
        elif not _HEADER_VALUE(value):
            found.fault("has characters that cannot be sent in a header", *here, "headers", name)


def check_stores(config: Config, found: Findings) -> None:
    """What the stores that are named need and is not installed."""
    needs = (("shared", "redis", config.stores.shared != "memory"),
             ("ledger", "psycopg", config.stores.ledger.startswith("postgresql")))  # fmt: skip
    for name, package, needed in needs:
        if needed and importlib.util.find_spec(package) is None:
            extra = "redis" if package == "redis" else "postgres"
            found.fault(f"needs {package}: pip install 'inference-router[{extra}]'", "stores", name)


def check_keys(config: Config, names: Mapping[Address, tuple[str, ...]], found: Findings) -> None:
    owners: dict[bytes, str] = {}
    tenants: set[str] = set()
    for index, key in enumerate(config.virtual_keys):
        here = ("virtual_keys", index)
        if key.name in tenants:
            found.fault(f'"{key.name}" stands twice', *here, "name")
        tenants.add(key.name)
        if key.plan and key.plan not in config.plans:
            found.fault(f'no plan is named "{key.plan}"' + meant(key.plan, config.plans), *here, "plan")
        known = _places(config)
        _check_providers(key.providers, known, found, *here)
        for name in key.user_keys:
            if name not in known:
                found.fault(
                    "is neither an upstream nor a provider of one" + meant(name, known), *here, "user_keys", name
                )
        digest = key.digest
        if digest is None:
            variables = " or ".join(_variables(names, here))
            found.notices.append(f"virtual key {key.name} is off: it is empty{f' ({variables})' if variables else ''}")
        elif digest in owners:
            found.fault(f"is also the key of {owners[digest]}", *here, "key" if key.key else "key_sha256")
        else:
            owners[digest] = key.name
    _check_ways_in(config, found)
    for name, plan in config.plans.items():
        _check_providers(plan.providers, _places(config), found, "plans", name)
    others = config.auth.mode != "keys" or config.auth.jwt is not None or config.stores.ledger not in ("", "off")
    if not owners and not others and not on_loopback(config.server.host):
        variables = " or ".join(_variables(names, ("virtual_keys",)))
        message = (
            f"other machines could reach it, and there is no virtual key: {f'set {variables}, ' if variables else ''}"
        )
        found.fault(message + "add one to virtual_keys, or write `auth: {mode: open}`", "server", "host")


def _places(config: Config) -> set[str]:
    return {*config.upstreams, *(each.provider for each in config.upstreams.values())}


def _check_providers(names: list[str], known: set[str], found: Findings, *here: str | int) -> None:
    for index, name in enumerate(names):
        if name not in known:
            found.fault("is neither an upstream nor a provider of one" + meant(name, known), *here, "providers", index)


def _check_ways_in(config: Config, found: Findings) -> None:
    auth = config.auth
    named: list[tuple[tuple[str, ...], str]]
    named = [(("hub", "plans", name), plan) for name, plan in auth.hub.plans.items()]
    if auth.jwt is not None:
        named += [(("jwt", "plans", name), plan) for name, plan in auth.jwt.plans.items()]
        named += [(("jwt", "default_plan"), auth.jwt.default_plan or "")]
        if not jwt.INSTALLED:
            found.fault("needs PyJWT: pip install 'inference-router[jwt]'", "auth", "jwt")
    for place, plan in named:
        if plan and plan not in config.plans:
            found.fault(f'no plan is named "{plan}"' + meant(plan, config.plans), "auth", *place)
    if auth.mode == "hub" and not auth.hub.plans:
        found.notices.append("auth.hub.plans is empty: every user of the Hub is let in, without a limit")


def check_models(config: Config, found: Findings) -> None:
    tasks = known_tasks()
    for model, route in config.models.items():
        here = ("models", model)
        if bool(route.alias) == bool(route.deployments):
            found.fault("has both alias and deployments" if route.alias else "has neither deployments nor alias", *here)
        if route.alias and "*" in model:
            found.fault("a pattern cannot be an alias", *here, "alias")
        if route.alias and (ring := _ring(config, model)):
            found.fault(f"runs in a ring: {' → '.join(ring)}", *here, "alias")
        if route.task != ANY_TASK and route.task not in tasks:
            found.fault(f'no provider has a task "{route.task}"' + meant(route.task, tasks), *here, "task")
        for index, each in enumerate(route.deployments):
            if each.upstream not in config.upstreams:
                message = f'no upstream is named "{each.upstream}"' + meant(each.upstream, config.upstreams)
                found.fault(message, *here, "deployments", index, "upstream")
    for task in config.default_models:
        if task not in tasks:
            found.fault(f'no provider has a task "{task}"' + meant(task, tasks), "default_models", task)
    for index, task in enumerate(config.cache.tasks):
        if task not in tasks:
            found.fault(f'no provider has a task "{task}"' + meant(task, tasks), "cache", "tasks", index)


def _ring(config: Config, start: str) -> list[str]:
    """The names of the ring that `start` stands in; none where it stands in none."""
    names = [start]
    while (route := config.models.get(names[-1])) is not None and route.alias:
        names.append(route.alias)
        if route.alias == start:
            return names
        if route.alias in names[:-1]:
            break  # leads into a ring: that is told at its own members
    return []


def known_tasks() -> frozenset[str]:
    found = (providers.find(name) for name in providers.names())
    return frozenset(task for provider in found if provider for task in provider.tasks()) | {spec.TOKENIZE}


def _check_files(tls: Settings, config_path: Path, found: Findings, *here: str) -> None:
    for part, file in tls.model_dump().items():
        if file and not (config_path.parent / file).is_file():
            found.fault("there is no such file", *here, part)


def not_enforced(written: Any) -> Iterator[str]:
    """A notice for each setting that stands in the file and does nothing yet."""
    for pattern in NOT_ENFORCED:
        for path, value in _matches(written, pattern.split("."), ()):
            if value not in ("", None, {}, []):
                yield f"{spelled(path)} is accepted but not enforced by this version"


def _matches(value: Any, pattern: list[str], path: Address) -> Iterator[tuple[Address, Any]]:
    if not pattern:
        yield path, value
    elif isinstance(value, dict):
        for name in value if pattern[0] == "*" else [pattern[0]]:
            if name in value:
                yield from _matches(value[name], pattern[1:], (*path, name))
