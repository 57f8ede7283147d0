"""The words that settings are written in: durations, sizes, rates, money, shares. Each part owns its own model of them.

Every word may also be a plain number in its smallest unit, so that a file made by a program needs no spelling. What is
refused is refused by a sentence with an example in it; the value itself is never repeated, for it may be a secret that
was pasted into the wrong line.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
PERIODS: Final = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0, "week": 604800.0}
BYTES: Final = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
BUDGET_PERIODS: Final = ("day", "week", "month", "year")

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)").fullmatch
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(b|kb|mb|gb|kib|mib|gib)", re.IGNORECASE).fullmatch
_RATE: Final = re.compile(r"(\d+)(?:\s+[a-z]+)?\s*/\s*(?:(second|minute|hour|day|week)|(.+))").fullmatch
_MONEY: Final = re.compile(r"(\d+(?:\.\d+)?)\s*USD(?:\s*/\s*(day|week|month|year))?").fullmatch
_PERCENT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*%").fullmatch
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?").fullmatch


class Settings(BaseModel):
    """A part's own piece of the configuration: frozen, nothing unknown in it, and silent about what it was given."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _plain(value: Any) -> float | None:
    """A number as it stands in the file, or in a variable of the environment; None where it is something else."""
    if isinstance(value, str) and _NUMBER(value.strip()):
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value) or value < 0:
            raise ValueError("expected a number that is finite and not negative")
        return value
    return None


def duration(value: Any) -> float:
    """`250ms`, `30s`, `10m`, `1h`, `2d`, or seconds."""
    plain = _plain(value)
    if plain is not None:
        return float(plain)
    found = _DURATION(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("expected a duration such as 250ms, 30s, 10m or 1h")
    return float(found[1]) * SECONDS[found[2]]


def size(value: Any) -> int:
    """`64MiB`, `10MB`, or bytes."""
    plain = _plain(value)
    if plain is not None:
        return int(plain)
    found = _SIZE(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("expected a size such as 64MiB, 512KiB or 10MB")
    return int(float(found[1]) * BYTES[found[2].lower()])


def share(value: Any) -> float:
    """`20%`, or 0.2."""
    found = _PERCENT(value.strip()) if isinstance(value, str) else None
    part = float(found[1]) / 100 if found else _plain(value)
    if part is None or part > 1:
        raise ValueError("expected a share such as 20% or 0.2")
    return part


_SPELLED: Final = WithJsonSchema({"type": ["string", "number"]})

Duration = Annotated[float, BeforeValidator(duration), _SPELLED]
Size = Annotated[int, BeforeValidator(size), _SPELLED, Field(ge=0)]
Share = Annotated[float, BeforeValidator(share), _SPELLED]


def _spelled(read: Callable[[Any], Any]) -> CoreSchema:
    """A record that is written as one string."""
    return core_schema.no_info_before_validator_function(
        read,
        core_schema.any_schema(metadata={"pydantic_js_updates": {"type": "string"}}),
        serialization=core_schema.to_string_ser_schema(),
    )


@dataclass(frozen=True, slots=True)
class Matching:
    """A text that is all of a pattern, which is anchored at both ends, as JSON Schema has it. By Python's own engine:
    pydantic's unrolls each repeated `\\w`, all of Unicode, into some megabytes that stay.
    """

    pattern: str

    def _check(self, value: str) -> str:
        if re.fullmatch(self.pattern.removesuffix("$"), value) is None:
            told = {"pattern": self.pattern}
            raise PydanticCustomError("string_pattern_mismatch", "String should match pattern '{pattern}'", told)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": self.pattern}


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in so many seconds: `300/hour`, `5/10s`, `3 failures/10s`."""

    count: int
    seconds: float

    @classmethod
    def read(cls, value: Any) -> "Rate":
        if isinstance(value, Rate):
            return value
        found = _RATE(value.strip()) if isinstance(value, str) else None
        within = _DURATION(found[3]) if found and found[3] else None
        if found is None or (found[3] and within is None):
            raise ValueError("expected a rate such as 300/hour, 20/minute or 5/10s")
        seconds = float(within[1]) * SECONDS[within[2]] if within else PERIODS[found[2]]
        if seconds == 0:
            raise ValueError("expected a rate over some time, such as 300/hour")
        return cls(int(found[1]), seconds)

    def __str__(self) -> str:
        return f"{self.count}/{self.seconds:g}s"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _spelled(cls.read)


@dataclass(frozen=True, slots=True)
class Money:
    """US dollars, each period anew, or in all where there is none: `20 USD/month`, `5 USD`."""

    amount: float
    period: str = ""  # one of BUDGET_PERIODS

    @classmethod
    def read(cls, value: Any) -> "Money":
        if isinstance(value, Money):
            return value
        found = _MONEY(value.strip()) if isinstance(value, str) else None
        if found is None:
            raise ValueError("expected money such as 20 USD/month or 5 USD")
        return cls(float(found[1]), found[2] or "")

    def __str__(self) -> str:
        return f"{self.amount:g} USD" + (f"/{self.period}" if self.period else "")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _spelled(cls.read)
