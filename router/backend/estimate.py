"""How long a model takes to load: as long as it took before on this machine, else a guess from the size of its files.

What was learned is one small JSON file in the platform's cache directory. It is a help to callers and nothing more: a
file that cannot be read or written is as good as none.
"""

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from router.backend.engine import Order

LIBRARIES: Final = 5.0  # seconds for the libraries to be imported and the weights to be made modules
READ: Final = 300e6  # bytes of weights a second from a disk
FETCHED: Final = 60.0  # seconds, where the model has to be fetched first and nothing is known of it
WEIGHTS: Final = (".safetensors", ".bin", ".pt", ".ckpt", ".gguf")


def cache_directory(env: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Where programs of this platform keep what can be found out again."""
    if platform == "win32":
        kept = env.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif platform == "darwin":
        kept = str(Path.home() / "Library" / "Caches")
    else:
        kept = env.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(kept) / "inference-router"


def expected(order: Order, cache: Path, hub: Path) -> float:
    """Seconds. `hub` is where the Hub's library keeps models."""
    return _learned(cache).get(_key(order)) or guess(order.model, hub)


def learn(order: Order, cache: Path, seconds: float) -> None:
    known = _learned(cache) | {_key(order): round(seconds, 1)}
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        draft = cache / f"loads.json.{os.getpid()}"
        draft.write_text(json.dumps(known, indent=1))
        draft.replace(cache / "loads.json")


def guess(model: str, hub: Path) -> float:
    place = Path(model) if Path(model).is_dir() else hub / f"models--{model.replace('/', '--')}" / "snapshots"
    size = sum(file.stat().st_size for file in place.rglob("*") if file.suffix in WEIGHTS and file.is_file())
    return round(LIBRARIES + size / READ, 1) if size else FETCHED


def hub_directory(env: Mapping[str, str] = os.environ) -> Path:
    """Where huggingface_hub keeps models, by its own variables."""
    home = env.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    return Path(env.get("HF_HUB_CACHE") or Path(home) / "hub")


def _learned(cache: Path) -> dict[str, float]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((cache / "loads.json").read_text())
        if isinstance(found, dict):
            return {key: float(each) for key, each in found.items() if isinstance(each, int | float)}
    return {}


def _key(order: Order) -> str:
    return f"{order.task} {order.model} {order.device} {order.dtype}"
