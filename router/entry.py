"""What the ledger holds: an `Entry` for each request that ended, and the `Intent` that stood before it was sent.

Money is whole nano-USD (10⁻⁹); None where nobody knows the price, which is not 0. `cost` is what the provider asks of
us, `charge` what the tenant owes us. Both are encoded as arrays, which another version may have to read.
"""

from typing import Final

import msgspec


class Attempt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A try that did not serve. `cost`: what the provider may ask for it all the same; the tenant owes nothing."""

    upstream: str
    deployment: str
    status: int  # 0: no answer
    reason: str
    seconds: float
    sent: bool  # the provider may have worked on it
    cost: int | None = None


class Intent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A request is about to be sent. `most`: nano-USD that it may cost, where a price is known."""

    id: str
    time: float
    request: str
    tenant: str
    key: str
    model: str
    task: str
    dialect: str
    upstream: str  # that is tried first
    most: int | None = None
    idempotency: str = ""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A request that ended. `id` is ours, never the caller's; `request` is the x-request-id that it was answered with.

    `outcome`: ok, error, broken, client_gone, or lost, for an intent whose process died: its usage is the estimate of
    the intent, its charge 0.
    """

    id: str
    time: float  # Unix, at the end
    request: str
    tenant: str
    key: str  # the virtual key's name
    model: str
    task: str
    dialect: str
    upstream: str
    provider_id: str
    provider_key: str  # the pooled key's name, which tells nothing about it
    billing: str  # routed, direct, none
    billed_to: str
    status: int
    outcome: str
    stream: bool
    cache: str
    seconds: float
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    images: int = 0
    media_seconds: float = 0.0
    characters: int = 0
    estimated: bool = False  # of its usage: counted by us, for want of the upstream's word
    cost: int | None = None
    charge: int | None = None
    tries: int = 0
    idempotency: str = ""
    failed: tuple[Attempt, ...] = ()  # the last, which has a table of its own


class _Named(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What both kinds begin with."""

    id: str


_named: Final = msgspec.msgpack.Decoder(_Named).decode


def id_of(payload: bytes) -> str | None:
    """Of an encoded intent or entry; None where it is neither."""
    try:
        return _named(payload).id
    except msgspec.DecodeError:
        return None
