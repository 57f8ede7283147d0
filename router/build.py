"""How this program was built: its busiest modules as machine code, or plain Python (deploy/native.py)."""

from importlib.util import find_spec
from typing import Final

_BUSY: Final = find_spec("router.pipeline")
NATIVE: Final = _BUSY is not None and not (_BUSY.origin or "").endswith(".py")
WORD: Final = "native" if NATIVE else "plain Python"
