"""A program of Debian's, unpacked aside: nothing is installed, no service starts, and nothing is left behind.

Where there is no apt, or it reaches no package, there is no such program, and whoever asked says so.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# What the program needs beyond what every Debian has.
PACKAGES: Final = {
    "haproxy": ("haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"),
    "promtool": ("prometheus",),
}
PATIENCE: Final = 120.0  # seconds for each step


@dataclass(frozen=True)
class Program:
    path: Path
    libraries: Path | None = None

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, **({"LD_LIBRARY_PATH": str(self.libraries)} if self.libraries else {})}

    def run(self, *words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        command = [self.path, *words]
        return subprocess.run(command, env={**self.env, **env}, capture_output=True, text=True, check=False)


def program(name: str, place: Path) -> Program | None:
    """One that is installed; else one unpacked into `place`, which is kept for the next time."""
    if installed := shutil.which(name):
        return Program(Path(installed))
    tree = place / name
    if not (tree / "whole").exists() and not _unpacked(PACKAGES[name], tree):
        return None
    found = next((each for each in tree.glob(f"usr/*bin/{name}")), None)
    libraries = next(iter(tree.glob("usr/lib/*-linux-gnu*")), None)
    return Program(found, libraries) if found and _starts(Program(found, libraries)) else None


def _unpacked(packages: tuple[str, ...], tree: Path) -> bool:
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        return False
    tree.mkdir(parents=True, exist_ok=True)
    if not _did(["apt-get", "-qq", "download", *packages], tree):
        _did(["apt-get", "-qq", "update"], tree)  # a new machine has no lists yet
        if not _did(["apt-get", "-qq", "download", *packages], tree):
            return False
    held = all(_did(["dpkg", "-x", str(each), str(tree)], tree) for each in tree.glob("*.deb"))
    if held:
        (tree / "whole").touch()
    return held


def _did(command: list[str], where: Path) -> bool:
    try:
        return subprocess.run(command, cwd=where, capture_output=True, timeout=PATIENCE, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _starts(found: Program) -> bool:
    """Its libraries are all there."""
    try:
        return found.run("--version" if found.path.name == "promtool" else "-v").returncode == 0
    except OSError:
        return False
