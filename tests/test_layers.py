"""The shape of the house, read off the source: which way imports point, who owns which library, how big a file may be.

LAYERS is the order, lowest first. A module may import what stands on an earlier line, and its own package's modules; a
new module is entered here, which is when its place is thought about.
"""

import ast
import functools
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Each line: modules of one height, none importing another on its line. A name stands for the package below it too.
LAYERS: list[tuple[str, ...]] = [
    ("providers.spec",),
    ("providers.sse", "providers.media", "providers.fim"),
    ("providers.multipart",),
    ("providers.dialects",),
    ("providers.openai_shaped", "providers.response_format", "providers.files", "providers.toolkit"),
    ("providers.*",),  # one file per provider
    ("providers",),
    ("router.build",),
    ("router.errors", "router.secrets", "router.settings", "router.bench", "router.caller"),
    ("router.record", "router.bounds", "router.entry", "router.segment", "router.series", "router.state"),
    ("router.plans",),
    ("router.identity", "router.jwt"),
    ("router.told", "router.durations"),
    ("router.upstream", "router.siblings", "router.envelope", "router.uploads", "router.usage"),
    ("router.retry",),
    ("router.health", "router.keys", "router.headroom", "router.ceiling"),
    ("router.rests",),
    ("router.keypool",),
    ("router.call", "router.doorman", "router.loans"),
    ("router.routing",),
    ("router.price",),
    ("router.splice", "router.prices", "router.units"),
    ("router.permit",),
    ("router.story",),
    ("router.estimates", "router.charges", "router.leases", "router.refusals"),
    ("router.translate", "router.failures", "router.crossing", "router.links"),
    ("router.catalog_view", "router.hub_view"),
    ("router.served", "router.coldstart"),
    ("router.limits", "router.naming", "router.cors", "router.cache", "router.metrics"),
    ("router.recorder", "router.claims", "router.exposition"),
    ("router.spool",),
    ("router.stores", "router.orphans"),
    ("router.ledger", "router.usage_report", "router.seeds"),
    ("router.sandbox", "router.backend"),
    ("router.config",),
    ("router.outgoing",),
    ("router.beginning", "router.exchange", "router.catalog", "router.live", "router.spending"),
    ("router.load",),
    ("router.attempts", "router.endings"),
    ("router.stream",),
    ("router.relay",),
    ("router.metering",),
    ("router.passthrough", "router.keeping"),
    ("router.endpoints", "router.idempotency"),
    ("router.reading", "router.accounts"),
    ("router.pipeline", "router.lasting"),
    ("router.parts", "router.watch", "router.operators", "router.usage_views", "router.hub", "router.keys_admin"),
    ("router.views",),
    ("router.app",),
    ("router.server", "router.cli_keys", "router.cli_usage"),
    ("router.cli",),
    ("router.__main__",),
]

OWNERS = {
    "httptools": ("router.upstream", "router.server", "router.sandbox"),  # the three that speak HTTP on a socket
    "uvicorn": ("router.server", "router.backend"),
    "uvloop": ("router.server", "router.cli", "router.bench"),
    "prometheus_client": ("router.exposition",),
    "cachetools": ("router.doorman", "router.cache"),
    "yaml": ("router.config",),
    "redis": ("router.stores",),
    "psycopg": ("router.stores",),
    "jwt": ("router.jwt",),
    "click": ("router.cli", "router.cli_keys", "router.cli_usage"),
    "starlette": (
        "router.app",
        "router.operators",
        "router.usage_views",
        "router.keys_admin",
        "router.hub",
        "router.backend",
    ),
    "httpx2": ("router.upstream", "router.catalog", "router.doorman"),
    "genai_prices": ("router.prices",),
}

FORBIDDEN_NAMES = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "manager",
    "handler",
    "handlers",
    "base",
    "core",
    "misc",
}
LONGEST = 350

FILES = sorted([*ROOT.glob("router/**/*.py"), *ROOT.glob("providers/**/*.py")])


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def layer_of(module: str) -> tuple[int, str] | None:
    """The height of a module and the entry of LAYERS that names it: the most exact one."""
    entries = [(index, entry) for index, layer in enumerate(LAYERS) for entry in layer]
    exact = [(index, entry) for index, entry in entries if "*" not in entry and inside(module, entry)]
    found = max(exact, key=lambda each: len(each[1]), default=None)
    if module.startswith("providers.") and (found is None or found[1] == "providers"):
        return next((index, module) for index, entry in entries if entry == "providers.*")
    return found if found and (found[1] != "router") else None


@functools.cache
def imports_of(path: Path) -> list[str]:
    """What a file imports, as the most exact module names of ours, or the top package of others'."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return [own_name(name) for name in found]


def own_name(name: str) -> str:
    while name and name not in MODULES:
        if "." not in name:
            return name
        name, _, _ = name.rpartition(".")
    return name


@pytest.mark.parametrize("module", [name for name in MODULES if name != "router"])
def test_imports_point_down(module: str) -> None:
    here = layer_of(module)
    assert here is not None, f"{module} has no place in LAYERS"
    for name in imports_of(MODULES[module]):
        if name.split(".")[0] not in ("router", "providers") or name == "router":
            continue
        there = layer_of(name)
        assert there is not None, f"{name} has no place in LAYERS"
        assert there[1] == here[1] or there[0] < here[0], f"{module} imports {name}, which does not lie below it"


@pytest.mark.parametrize("module", MODULES)
def test_each_library_is_used_by_its_owner_alone(module: str) -> None:
    for name in imports_of(MODULES[module]):
        owners = OWNERS.get(name.split(".")[0])
        if owners is not None:
            assert any(inside(module, owner) for owner in owners), f"{module} imports {name}; {owners} own it"


@pytest.mark.parametrize("module", [name for name in MODULES if inside(name, "providers")])
def test_providers_need_nothing_but_the_standard_library_and_msgspec(module: str) -> None:
    allowed = {*sys.stdlib_module_names, "msgspec", "providers"}
    assert {name.split(".")[0] for name in imports_of(MODULES[module])} <= allowed


@pytest.mark.parametrize("module", MODULES)
def test_no_import_hides_in_a_function(module: str) -> None:
    for function in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            hidden = [node.lineno for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)]
            assert hidden == [], f"{module}.{function.name}"


@pytest.mark.parametrize("module", MODULES)
def test_no_file_is_long_or_named_for_nothing(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= LONGEST
    assert not set(module.split(".")) & FORBIDDEN_NAMES


@pytest.mark.parametrize("module", MODULES)
def test_every_file_says_why_it_exists(module: str) -> None:
    assert ast.get_docstring(ast.parse(MODULES[module].read_text())) or not MODULES[module].read_text().strip()


@pytest.mark.parametrize("path", sorted(ROOT.glob("providers/*.py")), ids=lambda path: path.stem)
def test_every_provider_has_golden_cases(path: Path) -> None:
    if "\nPROVIDER = " in path.read_text() or "\nPROVIDER: " in path.read_text():
        assert (ROOT / "tests" / "cases" / f"{path.stem.replace('_', '-')}.yaml").is_file()


def test_the_order_names_no_module_twice() -> None:
    entries = [entry for layer in LAYERS for entry in layer]
    assert len(entries) == len(set(entries))


def test_the_image_copies_only_what_exists() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    sources = [
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    assert sources
    assert [name for name in sources if not (ROOT / name).exists()] == []
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(sources) == kept, "what the image copies and what .dockerignore lets through differ"
    assert any(line.startswith("USER ") for line in lines)
