"""The words of settings: what each spelling means, and that nothing else has a meaning."""

import contextlib
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from router.settings import Duration, Matching, Money, Rate, Settings, Share, Size


class Words(Settings):
    duration: Duration = 1.0
    size: Size = 1
    share: Share = 0.5
    rate: Rate | None = None
    money: Money | None = None


@pytest.mark.parametrize(
    ("name", "written", "meant"),
    [
        ("duration", "250ms", 0.25),
        ("duration", "30s", 30.0),
        ("duration", "1.5m", 90.0),
        ("duration", "1h", 3600.0),
        ("duration", "2d", 172800.0),
        ("duration", 5, 5.0),
        ("duration", "5", 5.0),
        ("size", "20MiB", 20 * 2**20),
        ("size", "64 KiB", 65536),
        ("size", "10MB", 10_000_000),
        ("size", "1.5kib", 1536),
        ("size", 512, 512),
        ("share", "20%", 0.2),
        ("share", 0.2, 0.2),
        ("share", 1, 1.0),
        ("rate", "300/hour", Rate(300, 3600.0)),
        ("rate", "2000000 / day", Rate(2_000_000, 86400.0)),
        ("rate", "5/10s", Rate(5, 10.0)),
        ("rate", "3 failures/10s", Rate(3, 10.0)),
        ("rate", None, None),
        ("money", "20 USD/month", Money(20.0, "month")),
        ("money", "0.5USD", Money(0.5, "")),
    ],
)
def test_a_word_means_what_it_says(name: str, written: Any, meant: Any) -> None:
    assert getattr(Words.model_validate({name: written}), name) == meant


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("duration", "10 parsecs"),
        ("duration", "-1s"),
        ("duration", -1),
        ("duration", True),
        ("duration", float("nan")),
        ("duration", float("inf")),
        ("duration", "12:30"),
        ("duration", None),
        ("size", "1TB"),
        ("size", -1),
        ("size", "MiB"),
        ("share", "120%"),
        ("share", 2),
        ("rate", "300"),
        ("rate", "300/fortnight"),
        ("rate", "5/0s"),
        ("rate", 300),
        ("money", "20 EUR/month"),
        ("money", 20),
        ("money", "20 USD/hour"),
    ],
)
def test_anything_else_is_refused_with_an_example(name: str, written: Any) -> None:
    with pytest.raises(ValidationError, match="expected"):
        Words.model_validate({name: written})


@pytest.mark.parametrize("name", Words.model_fields)
def test_what_is_refused_is_never_repeated(name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Words.model_validate({name: "sk-canary"})
    assert "canary" not in str(caught.value)


@given(st.text(max_size=20), st.sampled_from(["duration", "size", "share", "rate", "money"]))
def test_no_text_is_more_than_refused(text: str, name: str) -> None:
    with contextlib.suppress(ValidationError):
        Words.model_validate({name: text})


def test_words_can_be_written_back() -> None:
    words = Words.model_validate({"rate": "300/hour", "money": "20 USD/month"})
    assert Words.model_validate_json(words.model_dump_json()) == words


def test_settings_cannot_be_changed_and_hold_nothing_unknown() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Words().duration = 2.0  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        Words.model_validate({"durration": 1})


class Named(Settings):
    name: Annotated[str, Matching(r"^([a-z][\w.-]{0,7})?$")] = ""


@pytest.mark.parametrize("name", ["", "a", "a.b-c_d", "a\u00fc", "a2345678"])
def test_a_name_may_be_all_that_its_pattern_says(name: str) -> None:
    assert Named(name=name).name == name


@pytest.mark.parametrize("name", ["a\n", "\na", "a b", "1a", "a23456789", "a/b", "a\x00", 5, None])
def test_a_name_is_refused_by_its_pattern_whole_and_never_repeated(name: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        Named(name=name)
    (error,) = refused.value.errors(include_url=False, include_input=False)
    assert error["msg"] in (r"String should match pattern '^([a-z][\w.-]{0,7})?$'", "Input should be a valid string")
    schema = Named.model_json_schema()["properties"]["name"]
    assert schema == {"default": "", "pattern": r"^([a-z][\w.-]{0,7})?$", "title": "Name", "type": "string"}
