"""`${NAME}` and `${NAME:-default}` in the text of a configuration, filled once, from the environment, in values only.

What a variable holds is never looked at again, so a `${` in a secret means nothing, and it is never YAML: a newline or
a `: ` in it cannot make settings. An empty variable counts as unset for the default, as in a shell.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Address = tuple[str | int, ...]
_VARIABLE: Final = re.compile(r"\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|)")


@dataclass(slots=True)
class Filled:
    """A value with its variables filled in; where variables stood, by path; which were missing; what is malformed."""

    value: Any = None
    names: dict[Address, tuple[str, ...]] = field(default_factory=dict)
    faults: dict[Address, str] = field(default_factory=dict)


def fill(value: Any, env: Mapping[str, str]) -> Filled:
    filled = Filled()
    filled.value = _fill(value, env, (), filled)
    return filled


def _fill(value: Any, env: Mapping[str, str], path: Address, filled: Filled) -> Any:
    if isinstance(value, dict):
        return {key: _fill(each, env, (*path, key), filled) for key, each in value.items()}
    if isinstance(value, list):
        return [_fill(each, env, (*path, index), filled) for index, each in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    names: list[str] = []

    def one(found: re.Match[str]) -> str:
        name, default = found[1], found[2]
        if name is None:
            filled.faults[path] = "has a `${` that is neither ${NAME} nor ${NAME:-default}"
            return ""
        names.append(name)
        if default is not None:
            return env.get(name) or default
        if name not in env:
            filled.faults[path] = f"the environment has no {name}; set it, or write ${{{name}:-}} if it may be empty"
        return env.get(name, "")

    text = _VARIABLE.sub(one, value)
    filled.names[path] = tuple(names)
    return text
