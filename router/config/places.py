"""Where what a configuration keeps lies."""

import os
from pathlib import Path
from typing import Final

from router import state
from router.config.model import StoresSettings

OFF: Final = "off"


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
