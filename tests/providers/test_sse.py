import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from providers import sse

ENDS = ("\n", "\r\n", "\r")


def blocks_of(*chunks: bytes, limit: int = sse.LIMIT) -> tuple[list[bytes], bytes]:
    splitter = sse.Splitter(limit)
    return [block for chunk in chunks for block in splitter.feed(chunk)], splitter.rest()


def payloads_of(*chunks: bytes) -> list[bytes]:
    return [payload for block in blocks_of(*chunks)[0] if (payload := sse.data(block)) is not None]


def by_the_spec(stream: bytes) -> list[bytes]:
    """WHATWG §9.2.6, as slowly and plainly as it stands there."""
    lines, line, at = [], bytearray(), 0
    while at < len(stream):
        if stream[at] in b"\r\n":
            lines.append(bytes(line))
            line.clear()
            at += 2 if stream[at : at + 2] == b"\r\n" else 1
        else:
            line.append(stream[at])
            at += 1
    events: list[bytes] = []
    kept: list[bytes] = []
    for done in lines:
        name, _, value = done.partition(b":")
        if not done:
            if kept:
                events.append(b"\n".join(kept))
            kept = []
        elif name == b"data":
            kept.append(value.removeprefix(b" "))
    return events


line_text = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12)
lines = st.one_of(
    line_text.map(lambda text: "data: " + text),
    line_text.map(lambda text: "data:" + text),
    line_text.map(lambda text: ": " + text),
    st.sampled_from(["event: x", "id: 1", "data", "", "data: \u2028", 'data: {"a":"é\U0001f600"}', "\u2029"]),
)
streams = st.lists(st.tuples(lines, st.sampled_from(ENDS))).map(lambda parts: "".join(map("".join, parts)).encode())


@given(streams)
def test_blocks_are_the_same_whole_and_byte_by_byte_and_at_every_split(stream: bytes) -> None:
    whole = blocks_of(stream)
    assert b"".join(whole[0]) + whole[1] == stream
    assert blocks_of(*(stream[at : at + 1] for at in range(len(stream)))) == whole
    for at in range(len(stream) + 1):
        assert blocks_of(stream[:at], stream[at:]) == whole


@given(streams)
def test_payloads_are_those_that_the_specification_gives(stream: bytes) -> None:
    assert payloads_of(stream + b"\n\n:") == by_the_spec(stream + b"\n\n")


@given(st.lists(st.sampled_from([b"\n", b"\r", b"a", b"data:b"]), max_size=14))
def test_any_mix_of_line_ends_splits_alike_in_any_chunks(parts: list[bytes]) -> None:
    stream = b"".join(parts)
    whole = blocks_of(stream)
    assert blocks_of(*parts) == whole
    assert blocks_of(*(stream[at : at + 1] for at in range(len(stream)))) == whole
    assert payloads_of(stream + b"\n\n:") == by_the_spec(stream + b"\n\n")


@pytest.mark.parametrize("end", ENDS)
def test_an_event_is_handed_out_with_the_chunk_that_ends_it(end: str) -> None:
    splitter = sse.Splitter()
    one = f"data: 1{end}{end}".encode()
    assert splitter.feed(one) == [one]
    assert splitter.feed(one) == [one]
    assert splitter.rest() == b""


@pytest.mark.parametrize(
    "chunk",
    [
        b'data: {"a":1}\n\ndata: {}\n\n',
        b'data: {"a":1}\n',
        b'data: {"a":1}\r\n\r\n',
        b"data: {\ndata: }\n\n",
        b": x\n\n",
        b"",
    ],
)
def test_only_a_chunk_that_is_one_block_of_one_line_is_taken_alone(chunk: bytes) -> None:
    assert sse.Splitter().lone(chunk) is None
    assert sse.Splitter().lone(b'data: {"a":1}\n\n') == b'{"a":1}'
    behind = sse.Splitter()
    behind.feed(b"data: half")
    assert behind.lone(b'data: {"a":1}\n\n') is None


def test_a_crlf_cut_between_its_bytes_is_one_line_end() -> None:
    assert blocks_of(b"data: a\r", b"\n\r", b"\ndata: b\r\n\r", b"\n") == (
        [b"data: a\r\n\r\n", b"data: b\r\n\r\n"],
        b"",
    )


def test_unicode_line_separators_do_not_split() -> None:
    block = 'data: {"text": "a\u2028b\u2029c\x85d\x0b\x0c\x1c"}\n\n'.encode()
    assert blocks_of(block + block) == ([block, block], b"")
    assert sse.data(block) == block[6:-2]


def test_a_character_cut_between_chunks_comes_out_whole() -> None:
    block = "data: 😀\n\n".encode()
    assert blocks_of(block[:8], block[8:]) == ([block], b"")


def test_comments_and_empty_blocks_have_no_payload() -> None:
    assert sse.data(b": ping\n\n") is None
    assert sse.data(b"\n\n") is None
    assert sse.data(b"event: x\nid: 1\n\n") is None
    assert sse.data(b"dataset: 1\n\n") is None


@pytest.mark.parametrize(
    ("block", "payload"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\n\n", b"x"),
        (b"data:  x\n\n", b" x"),
        (b"data:\n\n", b""),
        (b"data\n\n", b""),
        (b"data: \n\n", b""),
        (b"data: x\r\n\r\n", b"x"),
        (b"data: x\r\r", b"x"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b": c\nevent: e\ndata: a\r\ndata:\rdata:b\n\n", b"a\n\nb"),
        (b"\xef\xbb\xbfdata: x\n\n", b"x"),
        (b"\ndata: x\n\n", b"x"),
        (b"data: x", b"x"),
        (b"data: x\n", b"x"),
    ],
)
def test_a_payload_is_the_data_lines_joined(block: bytes, payload: bytes) -> None:
    assert sse.data(block) == payload


def test_a_block_larger_than_the_limit_comes_in_pieces_and_the_next_is_whole_again() -> None:
    splitter = sse.Splitter(limit=10)

    def fed(chunk: bytes) -> tuple[list[bytes], bool]:
        return splitter.feed(chunk), splitter.torn

    assert fed(b"data: 123") == ([], False)
    assert fed(b"456\n") == ([b"data: 123456"], True)
    assert fed(b"data: 7") == ([b"\ndata: 7"], True)
    assert fed(b"\n\ndata: 8\n\n") == ([b"\n\n", b"data: 8\n\n"], False)
    assert fed(b"data: 9") == ([], False)
    assert splitter.rest() == b"data: 9"


@given(streams, st.integers(1, 6))
def test_nothing_is_lost_or_kept_past_the_limit(stream: bytes, size: int) -> None:
    splitter = sse.Splitter(limit=8)
    out = b""
    for at in range(0, len(stream), size):
        out += b"".join(splitter.feed(stream[at : at + size]))
        assert len(splitter.rest()) <= 8
    assert out + splitter.rest() == stream


@given(st.dictionaries(st.text(), st.text()), st.sampled_from(["", "message"]))
@example({"a": "\u2028\u2029\x85 \u2026 é"}, "")
def test_what_is_written_reads_back_and_has_no_line_ends_that_only_python_sees(
    value: dict[str, str], name: str
) -> None:
    block = sse.event(msgspec.json.encode(value), name)
    assert blocks_of(block) == ([block], b"")
    assert json.loads(sse.data(block) or b"") == value
    assert len(block.decode().splitlines()) == (3 if name else 2)
