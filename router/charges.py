"""What a request costs at its provider, and what its tenant owes for it: whole nano-USD, rounded up once, never floats.

Pure. A price that is needed and that nobody knows makes the whole unknown: None, which is not 0. Cached tokens are part
of those read and reasoning of those written, so that neither is counted twice.
"""

from typing import Final

from router.price import MILLION, Price, Rates
from router.record import Billing, Outcome, Record
from router.usage import Usage

FREE: Final = ("hit", "joined")  # answered from what was paid for before
MOST: Final = 10**16  # nano-USD that one request may come to: more is an upstream's nonsense, and fits into no column
_FINEST: Final = MILLION * MILLION  # prices are per million, and seconds are counted in millionths


def cost_of(record: Record, price: Price | None, written: int = 0) -> int | None:
    """What the provider asks for it. `written`: of the tokens read, those that went into its cache."""
    if record.cache in FREE or record.outcome == "error" or not (record.upstream or record.tries):
        return 0
    if price is None:
        return None
    read, wrote = record.input_tokens, record.output_tokens
    if (flat := price.flat) is not None and not (record.images or record.media_seconds or record.characters):
        each, more, cached = flat  # as it nearly always is
        total = read * each + wrote * more
        if record.cached_tokens:
            total += min(record.cached_tokens, read) * cached
        cost = -(-total // MILLION)
        return cost if cost < MOST else MOST
    tokens: int | None = 0
    if price.by_token:
        cached = min(record.cached_tokens, read)
        thought = min(record.reasoning_tokens, wrote)
        tokens = _tokens(price.at(read), read, cached, min(written, read - cached), wrote, thought)
    return _whole(price, tokens, read or wrote, record.images, record.media_seconds, record.characters)


def most_cost(input_estimate: int, most_output: int, units: Usage | None, price: Price | None) -> int | None:
    """The most that a call may cost: all of it at its dearest rate, none of it from a cache."""
    if price is None:
        return None
    tokens: int | None = 0
    if price.by_token:
        tokens = _tokens(_dearest(price.at(input_estimate)), input_estimate, 0, 0, most_output, 0)
    images, seconds, characters = (units.images, units.seconds, units.characters) if units else (0, 0.0, 0)
    return _whole(price, tokens, input_estimate or most_output, images or 0, seconds or 0.0, characters or 0)


def charge_of(cost: int | None, markup: int, billing: Billing, outcome: Outcome = "ok") -> int | None:
    """What the tenant owes. `markup` in millionths of the cost, as `markup_of` makes them. Nothing where the request
    failed or went with a key of the tenant's own; a stream that broke or was left owes what was delivered.
    """
    if billing == "direct" or outcome == "error":
        return 0
    return None if cost is None else min(-(-cost * (MILLION + markup) // MILLION), MOST)


def markup_of(share: float) -> int:
    """A plan's `markup`, `20%` say, in millionths."""
    return round(share * MILLION)


def _tokens(rates: Rates, read: int, cached: int, kept: int, wrote: int, thought: int) -> int | None:
    """Millionths of a nano-USD. What has no price of its own costs what its kind does."""
    reading, writing = rates.input, rates.output
    if (reading is None and read) or (writing is None and wrote):
        return None
    reading, writing = reading or 0, writing or 0
    total = read * reading + wrote * writing
    if cached and rates.cached is not None:
        total += cached * (rates.cached - reading)
    if kept and rates.written is not None:
        total += kept * (rates.written - reading)
    if thought and rates.reasoning is not None:
        total += thought * (rates.reasoning - writing)
    return total


def _dearest(rates: Rates) -> Rates:
    read = None if rates.input is None else max(rates.input, rates.cached or 0, rates.written or 0)
    wrote = None if rates.output is None else max(rates.output, rates.reasoning or 0)
    return Rates(read, wrote)


def _whole(price: Price, tokens: int | None, counted: int, images: int, seconds: float, characters: int) -> int | None:
    """Tokens and pieces together. Where a place is paid by the piece, none counted is not 0: nobody measured."""
    if tokens is None:
        return None
    total = tokens * MILLION
    if images or seconds or characters or not price.by_token:
        pieces = _pieces(price, images, seconds, characters)
        if pieces is None and not (price.by_token and counted):
            return None
        total += pieces or 0
    return min(-(-total // _FINEST), MOST)


def _pieces(price: Price, images: int, seconds: float, characters: int) -> int | None:
    """Millionths of millionths; None where nothing of it has a price."""
    heard = max(round(seconds * MILLION), price.least_seconds * MILLION) if seconds else 0
    parts = ((images * MILLION, price.image), (heard, price.second), (characters * MILLION, price.character))
    known = [count * rate for count, rate in parts if count and rate is not None]
    return sum(known) if known else None
