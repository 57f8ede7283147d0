"""Prices: the row's, else those that genai-prices carries, else None; never 0 for what nobody knows, and no network."""

import socket

import pytest

from router.prices import listed, price_of
from router.routing import Row

LLAMA = "meta-llama/Llama-3.3-70B-Instruct"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("prices were about to be fetched")

    listed.cache_clear()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_a_row_says_what_its_tokens_cost() -> None:
    row = Row("x", price={"input": 0.5, "output": 2.0, "cached_input": None, "image": 0.1})
    assert price_of(row, "groq", "org/x") == {"input": 0.5, "output": 2.0}


def test_what_no_row_says_is_looked_up_under_the_providers_name_and_then_under_the_hubs() -> None:
    own = price_of(Row("llama-3.3-70b-versatile"), "groq", LLAMA)
    assert own is not None and set(own) == {"input", "output"} and all(each > 0 for each in own.values())
    by_hub = price_of(Row("an-id-that-nobody-lists"), "nscale", LLAMA)
    assert by_hub is not None and by_hub["input"] > 0
    renamed = price_of(Row("accounts/fireworks/models/gpt-oss-120b"), "fireworks-ai", "openai/gpt-oss-120b")
    assert renamed is not None and renamed["cached_input"] < renamed["input"]


@pytest.mark.parametrize("provider", ["tgi", "sandbox", "openai", "huggingface", "replicate", "a-house-of-mine"])
def test_a_server_of_ones_own_and_a_place_that_nobody_lists_have_no_price(provider: str) -> None:
    assert price_of(Row("gpt-4o"), provider, "gpt-4o") is None


def test_an_unknown_price_is_none_and_never_zero() -> None:
    assert price_of(Row("no-such-model"), "groq", "org/no-such-model") is None
    assert price_of(Row("x", price={"image": 0.03}), "groq", LLAMA) is None, "it is paid by the picture"
    assert price_of(Row("llama-3.3-70b-versatile", price={"input": None}), "groq", LLAMA) is not None
    free = price_of(Row("whisper-large-v3"), "groq", "openai/whisper-large-v3")
    assert free is None, "it is paid by the hour"
