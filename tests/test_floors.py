"""No library is older than the release that closed its known holes, asked for or installed (SECURITY-FLOORS.toml)."""

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FLOORS: list[dict[str, Any]] = tomllib.loads((ROOT / "SECURITY-FLOORS.toml").read_text())["floor"]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def version(text: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", text)
    assert found, text
    return (*map(int, found[0].split(".")), 0, 0, 0)[:3]


def asked_for() -> dict[str, str]:
    """Every requirement of the project and its extras: name -> specifier."""
    lines = PROJECT["dependencies"] + [each for extra in PROJECT["optional-dependencies"].values() for each in extra]
    found = {}
    for line in lines:
        name, specifier = re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", line).groups()  # type: ignore[union-attr]
        found[name.lower().replace("_", "-")] = specifier
    return found


@pytest.mark.parametrize("floor", FLOORS, ids=lambda floor: str(floor["package"]))
def test_no_release_below_its_floor_is_asked_for_or_installed(floor: dict[str, Any]) -> None:
    package, lowest = floor["package"], version(floor["version"])
    assert floor["advisories"]
    assert floor["lesson"]
    specifier = asked_for().get(package)
    if specifier is not None:
        assert version(re.findall(r">=([\d.]+)", specifier)[0]) >= lowest
    try:
        installed = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        assert specifier is None or package not in str(PROJECT["dependencies"])
    else:
        assert version(installed) >= lowest


def test_every_requirement_has_a_lower_bound() -> None:
    assert [name for name, specifier in asked_for().items() if ">=" not in specifier] == []


def test_the_libraries_that_leak_or_smuggle_are_not_depended_on() -> None:
    assert not {"httpx", "granian", "python-multipart", "aiohttp", "h11", "orjson"} & set(asked_for())


def test_the_dependencies_stay_few() -> None:
    assert len(PROJECT["dependencies"]) < 15
