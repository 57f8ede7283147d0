import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import envelope
from router.errors import Refused

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=8), VALUES, max_size=6)
STYLES = [{"separators": (",", ":")}, {}, {"indent": 2}, {"ensure_ascii": False}]


@given(OBJECTS, st.sampled_from(STYLES))
def test_what_is_read_is_what_was_written(value: dict[str, object], style: dict[str, object]) -> None:
    body = json.dumps(value, **style).encode()  # type: ignore[arg-type]
    if set(value) & set(envelope.FORBIDDEN):
        return
    fields = envelope.read(body)
    assert json.loads(envelope.write(fields)) == value


@given(OBJECTS.filter(bool), st.sampled_from(STYLES), VALUES)
def test_a_doubled_key_is_always_found(value: dict[str, object], style: dict[str, object], other: object) -> None:
    twice = next(iter(value))
    body = json.dumps(value, **style).rstrip()[:-1] + "," + json.dumps(twice) + ":" + json.dumps(other) + "}"  # type: ignore[arg-type]
    with pytest.raises(Refused) as refused:
        envelope.read(body.encode())
    assert refused.value.fault.code == "duplicate_field"
    assert refused.value.fault.param == twice


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"[]",
        b"null",
        b"1",
        b"{",
        b'{"a":1}x',
        b'{"a":NaN}',
        b'{"a":"\xff"}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":' + b"[" * 65 + b"]" * 65 + b"}",
        b'{"a":' + b"[" * 100_000,
        '{"a":1}'.encode("utf-16"),
    ],
)
def test_what_is_no_plain_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        envelope.read(body)
    assert refused.value.fault.status == 400


def test_brackets_in_strings_are_not_depth() -> None:
    assert "a" in envelope.read(b'{"a":"' + b"[{" * 200 + b'","b":"\\"' + b"[" * 99 + b'"}')


@pytest.mark.parametrize("name", envelope.FORBIDDEN)
def test_where_a_request_goes_is_not_the_callers_to_say(name: str) -> None:
    with pytest.raises(Refused) as refused:
        envelope.read(json.dumps({name: "http://127.0.0.1"}).encode())
    assert refused.value.fault.param == name


def test_a_bare_string_stands_for_the_field_named() -> None:
    assert msgspec.json.decode(envelope.read(b' "hi"', "inputs")["inputs"]) == "hi"
    with pytest.raises(Refused):
        envelope.read(b'"hi"')


def test_a_wrong_type_names_its_field() -> None:
    fields = envelope.read(b'{"model":1,"stream":"yes"}')
    for read, name in ((envelope.text, "model"), (envelope.flag, "stream")):
        with pytest.raises(Refused) as refused:
            read(fields, name)
        assert refused.value.fault.param == name
