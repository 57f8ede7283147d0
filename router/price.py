"""What a place asks, as whole numbers."""

from typing import Final, Literal

import msgspec

Source = Literal["config", "table", "genai-prices"]

MILLION: Final = 1_000_000


class Rates(msgspec.Struct, frozen=True, gc=False):
    """Nano-USD per million tokens. `cached`: read from the provider's cache; `written`: to it."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    written: int | None = None
    reasoning: int | None = None


class Price(msgspec.Struct, frozen=True, gc=False):
    """`image`, `second` and `character` are nano-USD per million of them, too, so that none is rounded. `steps`: for
    prompts of more tokens than that these rates hold, for the whole request; the highest first.
    """

    source: Source
    rates: Rates
    image: int | None = None
    second: int | None = None
    character: int | None = None
    least_seconds: int = 0
    steps: tuple[tuple[int, Rates], ...] = ()
    flat: tuple[int, int, int] | None = None  # input, output, and what a cached token costs beside: where that is all

    @property
    def by_token(self) -> bool:
        return self.rates.input is not None or self.rates.output is not None

    def at(self, tokens: int) -> Rates:
        """Of a prompt of so many tokens."""
        for above, rates in self.steps:
            if tokens > above:
                return rates
        return self.rates
