"""Where what a configuration keeps lies."""

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from router import state
from router.config.model import StoresSettings

OFF: Final = "off"


def digest_of(file: Path, tables: Iterable[Path]) -> str:
    """Of the configuration's file and its tables as they are written, without what the environment fills in."""
    whole = hashlib.sha256()
    for each in (file, *tables):
        with contextlib.suppress(OSError):  # gone since it was read
            whole.update(hashlib.sha256(each.read_bytes()).digest())
    return whole.hexdigest()[:12]


def state_of(stores: StoresSettings, file: Path) -> Path:
    """Where what outlives the process lies; a relative directory is one beside the configuration's file."""
    if not stores.directory:
        return state.state_directory(os.environ)
    return (file.parent / stores.directory).absolute()


def ledger_url(stores: StoresSettings, file: Path) -> str:
    """The ledger's database; empty where there is none. A relative file lies beside the configuration's."""
    if not stores.ledger:
        return state.ledger_url(state_of(stores, file))
    if stores.ledger == OFF:
        return ""
    path = stores.ledger.removeprefix("sqlite:///")
    return f"sqlite:///{(file.parent / path).absolute()}" if path != stores.ledger else stores.ledger
