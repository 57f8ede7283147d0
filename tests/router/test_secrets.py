"""Secrets do not print, whatever prints them; and are struck out of what others wrote."""

import base64
import copy
import json
import logging
import pickle
import traceback
import urllib.parse

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from router.secrets import REDACTED, Scrubber, Secret
from router.settings import Settings

CANARY = "sk-canary/9f8e+7d6c=5b4a"


class Holder(Settings):
    key: Secret
    keys: list[Secret] = []  # noqa: RUF012 - pydantic copies it


def test_no_way_of_printing_shows_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(CANARY)
    holder = Holder(key=secret, keys=[secret])
    logging.getLogger("test").warning("%s %r %s", secret, holder, {"key": secret})
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>40}", f"{secret!r}", repr([secret]), "%s" % secret]  # noqa: UP031
    shown += [repr(holder), str(holder), str(holder.model_dump()), holder.model_dump_json(), caplog.text]
    assert not any(CANARY in each for each in shown)
    assert secret.reveal() == CANARY


def test_a_secret_is_not_written_by_encoders_that_do_not_know_it() -> None:
    for write in (json.dumps, msgspec.json.encode, pickle.dumps):
        with pytest.raises(TypeError) as caught:
            write(Secret(CANARY))
        assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_secret_is_equal_to_its_like_and_survives_copying() -> None:
    secret = Secret(CANARY)
    assert secret == Secret(CANARY) and secret != Secret("other") and secret != CANARY
    assert {secret: 1}[Secret(CANARY)] == 1
    assert copy.deepcopy([copy.copy(secret)]) == [secret]
    assert secret and not Secret("")


@pytest.mark.parametrize("bad", [f"{CANARY}\r\nx: y", f"{CANARY}é", f"{CANARY} {CANARY}", 12345])
def test_a_key_that_cannot_be_sent_is_refused_and_not_repeated(bad: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Holder.model_validate({"key": bad})
    assert CANARY not in str(caught.value)


def test_a_newline_around_a_key_is_no_part_of_it() -> None:
    assert Holder.model_validate({"key": f" {CANARY}\n"}).key.reveal() == CANARY


@pytest.mark.parametrize(
    "form",
    [
        CANARY,
        urllib.parse.quote(CANARY),
        urllib.parse.quote(CANARY, safe=""),
        urllib.parse.quote_plus(CANARY),
        json.dumps(CANARY),
        base64.b64encode(CANARY.encode()).decode(),
        base64.urlsafe_b64encode(f"user:{CANARY}".encode()).decode(),
        base64.b64encode(f"u:{CANARY}:x".encode()).decode(),
        base64.b64encode(f"us:{CANARY}".encode()).decode(),
    ],
)
def test_each_form_of_a_secret_is_struck_out(form: str) -> None:
    scrubber = Scrubber([CANARY])
    assert form.strip('"')[4:-4] not in scrubber.text(f"before {form} after")
    text = scrubber.text(f"before {form} after")
    assert REDACTED in text and text.startswith("before ") and text.endswith(" after")
    assert scrubber.bytes(form.encode()).decode() == scrubber.text(form)
    assert CANARY not in repr(scrubber)


def test_what_is_no_secret_stays() -> None:
    assert Scrubber([]).text("all of it") == "all of it"
    assert Scrubber(["k", "", "1234567"]).bytes(b"k 1234567") == b"k 1234567"


def test_of_two_secrets_the_longer_is_struck_out_whole() -> None:
    assert Scrubber(["sk-12345678", "sk-12345678-more"]).text("sk-12345678-more") == REDACTED


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=60), st.binary(max_size=9))
def test_base64_hides_no_secret_wherever_it_begins(secret: str, before: bytes) -> None:
    encoded = base64.b64encode(before + secret.encode() + b"after").decode()
    assert REDACTED in Scrubber([secret]).text(encoded)
