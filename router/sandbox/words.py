"""What stands in for a tokeniser: a token is a word with the white space before it. And what cuts a text to size."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final
from zlib import crc32

TOKEN: Final = re.compile(r"\s*\S+(?:\s+\Z)?|\s+")
MOST: Final = 16_384  # tokens of an answer for which the caller set no bound


def tokens(text: str) -> Iterator[str]:
    """Joined together they are the text again."""
    return (found[0] for found in TOKEN.finditer(text))


def count(text: str) -> int:
    return len(text.split())


def token_id(token: str) -> int:
    return crc32(token.encode("utf-8", "surrogatepass")) % 32_000


def log_probability(token: str) -> float:
    """Not random, not constant, and exact in every float type."""
    return -(token_id(token) % 64) / 64


@dataclass(frozen=True, slots=True)
class Written:
    """An answer as its tokens, and why it ended. `stopped` says that a stop sequence was met."""

    tokens: Sequence[str]
    cut: bool
    stopped: bool = False

    @property
    def text(self) -> str:
        return "".join(self.tokens)


def write(text: str, most: int | None, stops: Sequence[str] = (), *, keep_stop: bool = False) -> Written:
    """A text up to the first stop sequence (OpenAI leaves it out, TGI keeps it), and to `most` tokens."""
    met = [(at, stop) for stop in stops if (at := text.find(stop)) >= 0]
    if met:
        at, stop = min(met)
        text = text[: at + len(stop) if keep_stop else at]
    bound = MOST if most is None else most
    taken = list(islice(tokens(text), bound + 1))
    if len(taken) > bound:
        return Written(taken[:bound], cut=True)
    return Written(taken, cut=False, stopped=bool(met))
