"""The phrasebook: how each kind of API is spoken. One file a provider; that the file is there is its registration.

A file `fireworks_ai.py` beside this one exports `PROVIDER`, named `fireworks-ai`. Nothing in this package opens a
socket, reads a clock or knows a key; it imports only the standard library and msgspec.
"""

import importlib
import pkgutil
from functools import cache

from providers.spec import Provider

_NOT_PROVIDERS = frozenset(
    {
        "spec",
        "sse",
        "fim",
        "media",
        "multipart",
        "files",
        "toolkit",
        "openai_shaped",
        "response_format",
        "dialects",
        "tables",
    }
)


@cache
def names() -> tuple[str, ...]:
    """The names of every provider there is, in order of the alphabet."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name.replace("_", "-") for name in modules if name not in _NOT_PROVIDERS))


def find(name: str) -> Provider | None:
    """The provider of that name. Only names that exist are imported: `name` may come from a caller's path."""
    if name not in names():
        return None
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    provider = module.PROVIDER
    assert isinstance(provider, Provider), f"providers/{module.__name__} exports no Provider"
    return provider
