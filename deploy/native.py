"""The busiest modules as machine code, where a wheel is made and there is a C compiler: the same files, by mypyc.

    python deploy/native.py DIRECTORY      in place, in a copy of a checkout, to test it (or to have it by the source)

pip does it by itself; pyproject.toml names the modules. Without a compiler, or with INFERENCE_ROUTER_NATIVE=0, the
wheel is plain Python and does the same at two thirds of the speed; 1 makes a build fail that cannot be native. An
editable install is always plain: its files are there to be changed.

Of third parties' types msgspec's alone come into it, so that the outcome is the same whatever else is installed.
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
LIBRARY = "inference_router"  # all modules are in one: inference_router__mypyc
LEVEL = "1"  # of optimisation: 3 takes half a minute more and is no faster
LEAN = ["-fno-asynchronous-unwind-tables"], ["-Wl,-s", "-Wl,-z,noseparate-code"]  # a quarter less, and as fast
FLAGS = [
    f"--python-version={sys.version_info.major}.{sys.version_info.minor}",
    "--explicit-package-bases",
    "--follow-imports=silent",
    "--no-site-packages",
    "--ignore-missing-imports",
    "--no-incremental",
]


class Native(BuildHookInterface[Any]):
    """Puts the compiled modules into a wheel, beside their sources."""

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
    """Whether to compile: where it is said, else where there is what it takes."""
    said = os.environ.get(SWITCH, "")
    return said != "0" and (said == "1" or can())


def can() -> bool:
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "").split()
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return bool(compiler) and shutil.which(compiler[0]) is not None and header.is_file()


def build(root: Path, modules: list[str], place: Path) -> dict[str, Path]:
    """Name in the wheel → file, of all that was made; nothing where it failed and need not succeed."""
    try:
        return compiled(root, modules, place)
    except (Exception, SystemExit) as error:
        if os.environ.get(SWITCH) == "1":
            raise
        sys.stderr.write(f"native modules could not be made, plain ones do the same: {error!r}\n")
        return {}


def compiled(root: Path, modules: list[str], place: Path) -> dict[str, Path]:
    import msgspec
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    types = place / "types"
    shutil.copytree(Path(msgspec.__file__).parent, types / "msgspec", ignore=shutil.ignore_patterns("*.so"))
    config = place / "mypy.ini"
    config.write_text(f"[mypy]\nmypy_path = {types}\n")
    before = Path.cwd()
    os.chdir(root)
    try:
        named = [f"--config-file={config}", *FLAGS, *modules]
        extensions = mypycify(named, opt_level=LEVEL, debug_level="0", group_name=LIBRARY, target_dir=str(place))
        for each in extensions:
            if sys.platform == "linux":
                each.extra_compile_args += LEAN[0]
                each.extra_link_args += LEAN[1]
        made = build_ext(Distribution({"name": LIBRARY, "ext_modules": extensions}))
        made.build_lib, made.build_temp = str(place / "lib"), str(place / "temp")
        made.ensure_finalized()
        made.run()
    finally:
        os.chdir(before)
    library = place / "lib"
    return {str(path.relative_to(library)): path for path in library.rglob("*") if path.is_file()}


def main(root: Path) -> None:
    """In place."""
    table = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    with tempfile.TemporaryDirectory(prefix="native-") as place:
        made = compiled(root, table["hooks"]["custom"]["modules"], Path(place))
        for name, path in made.items():
            shutil.copy2(path, root / name)
    print(f"{len(made) - 1} modules are native")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve())
