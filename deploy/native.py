"""The busiest modules as machine code, where a wheel is made and the machine has a C compiler: the same files, by mypyc.

    python deploy/native.py [DIRECTORY]      in place, below a checkout (or a copy of one), to try it

pip asks for it by itself (`tool.hatch.build.targets.wheel.hooks.custom` in pyproject.toml, which names the modules).
Without a compiler the wheel is plain Python and does the same. INFERENCE_ROUTER_NATIVE=0 makes it plain in any case, 1
makes a build fail that could not be native. An editable install is always plain: its files are there to be changed.

Of third parties' types msgspec's alone come into it, so that the outcome is the same whatever is installed.
"""

import os
import shutil
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SWITCH = "INFERENCE_ROUTER_NATIVE"
NEEDS = ["mypy~=2.4", "setuptools>=77", "msgspec>=0.19"]
GROUP = "inference_router"  # the one library's name: inference_router__mypyc
FLAGS = [
    "--config-file=",
    f"--python-version={sys.version_info.major}.{sys.version_info.minor}",
    "--explicit-package-bases",
    "--follow-imports=silent",
    "--no-site-packages",
    "--ignore-missing-imports",
    "--no-incremental",
]


class Native(BuildHookInterface[Any]):
    """Adds the compiled modules to a wheel, beside their sources."""

    def dependencies(self) -> list[str]:
        return NEEDS if self.target_name == "wheel" and wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or not wanted():
            return
        self._place = tempfile.TemporaryDirectory(prefix="native-")
        made = build(Path(self.root), self.config["modules"], Path(self._place.name))
        build_data["pure_python"] = not made
        build_data["infer_tag"] = bool(made)
        build_data["force_include"] |= {str(path): name for name, path in made.items()}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "_place"):
            self._place.cleanup()


def wanted() -> bool:
    """Whether to compile: if it is said so, or if there is what it takes."""
    said = os.environ.get(SWITCH, "")
    return said != "0" and (said == "1" or can())


def can() -> bool:
    compiler = (sysconfig.get_config_var("CC") or "").split()
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return bool(compiler) and shutil.which(compiler[0]) is not None and header.is_file()


def build(root: Path, modules: list[str], place: Path) -> dict[str, Path]:
    """Name in the wheel → file, of all that was made; nothing where it failed and need not succeed."""
    try:
        return compiled(root, modules, place)
    except (Exception, SystemExit) as error:
        if os.environ.get(SWITCH) == "1":
            raise
        sys.stderr.write(f"native modules were not made, plain ones do the same: {error!r}\n")
        return {}


def compiled(root: Path, modules: list[str], place: Path) -> dict[str, Path]:
    import msgspec
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    shutil.copytree(Path(msgspec.__file__).parent, place / "types" / "msgspec", ignore=shutil.ignore_patterns("*.so"))
    os.environ["MYPYPATH"] = str(place / "types")
    before = Path.cwd()
    os.chdir(root)
    try:
        extensions = mypycify(
            [*FLAGS, *modules], opt_level="3", debug_level="0", group_name=GROUP, target_dir=str(place)
        )
        made = build_ext(Distribution({"name": GROUP, "ext_modules": extensions}))
        made.build_lib, made.build_temp = str(place / "lib"), str(place / "temp")
        made.parallel = os.cpu_count()
        made.ensure_finalized()
        made.run()
    finally:
        os.chdir(before)
    library = place / "lib"
    return {str(path.relative_to(library)): path for path in library.rglob("*") if path.is_file()}


def main(root: Path) -> None:
    """In place."""
    tables = tomllib.loads((root / "pyproject.toml").read_text())
    modules = tables["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
    with tempfile.TemporaryDirectory(prefix="native-") as place:
        for name, path in compiled(root, modules, Path(place)).items():
            shutil.copy2(path, root / name)
            print(name)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve())
