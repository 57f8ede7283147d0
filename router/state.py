"""Where what outlives a process lies, unless the configuration says otherwise."""

import os
import tempfile
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


def refusal(state: Path) -> str:
    """Why nothing can be written there; empty where it can."""
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=state):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def spool_directory(state: Path) -> Path:
    return state / "spool"
