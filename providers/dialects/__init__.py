"""The wire shapes that callers speak, by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from providers.dialects import huggingface, ollama, openai, tgi
from providers.spec import Dialect

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType(
    {module.DIALECT.name: module.DIALECT for module in (openai, huggingface, tgi, ollama)}
)
