"""Where what outlives a process lies, unless the configuration says otherwise."""

import os
from collections.abc import Mapping
from pathlib import Path

_OURS = "inference-router"


def state_directory(env: Mapping[str, str]) -> Path:
    """systemd's own (the first, where it names several), then the platform's for a user's programs."""
    if given := env.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(given)
    if given := env.get("XDG_STATE_HOME", ""):
        return Path(given) / _OURS
    if os.name == "nt" and (given := env.get("LOCALAPPDATA", "")):
        return Path(given) / _OURS
    home = env.get("HOME", "")
    return (Path(home) if home else Path.home()) / ".local" / "state" / _OURS


def ledger_url(state: Path) -> str:
    return f"sqlite:///{state / 'router.db'}"


def spool_directory(state: Path) -> Path:
    return state / "spool"
