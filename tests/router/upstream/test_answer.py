"""Answers byte by byte: the same however they are cut, and never whole when they are not."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.router.upstream.played import ran, whole

BODY = b'{"text":"caf\xc3\xa9 \xe2\x80\xa8 and more"}'


def chunked(*pieces: bytes, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    framed = b"".join(b"%x%b\r\n%b\r\n" % (len(each), extension, each) for each in pieces)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + framed + b"0\r\n" + trailer + b"\r\n"


FRAMED = {
    "length": whole(BODY, b"content-type: application/json"),
    "empty": whole(b""),
    "chunked": chunked(BODY[:7], BODY[7:]),
    "chunk extensions": chunked(BODY, extension=b";name=value"),
    "trailers": chunked(BODY, trailer=b"x-sum: 1\r\n"),
    "many small chunks": chunked(*(bytes([each]) for each in BODY)),
    "an interim answer first": b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + whole(BODY),
    "no content": b"HTTP/1.1 204 No Content\r\nx-a: b\r\n\r\n",
    "a name in capitals": b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH: 2\r\n\r\nhi",
    "closing": whole(BODY, b"connection: close"),
    "chunked with a space behind": chunked(BODY).replace(b"chunked\r\n", b"Chunked \r\n"),
    "of http 1.0": b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
}
BODIES = {"empty": b"", "no content": b"", "a name in capitals": b"hi", "of http 1.0": b"hi"}
KEPT = frozenset(FRAMED) - {"closing", "of http 1.0"}


@pytest.mark.parametrize("name", FRAMED)
def test_an_answer_is_read_whole_and_byte_by_byte_alike(name: str) -> None:
    text = FRAMED[name]
    once = ran([text])
    assert (once.fault, once.body) == ("", BODIES.get(name, BODY))
    assert once.kept == (name in KEPT)
    assert ran(bytes([each]) for each in text) == once


@given(st.sampled_from(sorted(FRAMED)), st.lists(st.integers(0, 400), max_size=12))
def test_an_answer_is_the_same_however_it_is_cut(name: str, places: list[int]) -> None:
    text = FRAMED[name]
    cuts = [0, *sorted(min(each, len(text)) for each in places), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(cuts) if start < end]
    assert ran(pieces) == ran([text])


@pytest.mark.parametrize("name", FRAMED)
def test_an_answer_that_is_cut_anywhere_is_never_a_whole_one(name: str) -> None:
    text = FRAMED[name]
    for end in range(len(text)):
        found = ran([text[:end]] if end else [], ends=True)
        assert found.fault == "closed", (end, text[:end], found)
        assert not found.kept


def test_names_are_lower_case_values_untouched_and_doubles_kept() -> None:
    found = ran([b"HTTP/1.1 200 OK\r\nX-A: One\r\nx-a:  two\r\nContent-Length: 0\r\n\r\n"])
    assert found.headers == [(b"x-a", b"One"), (b"x-a", b"two"), (b"content-length", b"0")]


def test_the_headers_of_an_interim_answer_and_trailers_are_not_the_answers() -> None:
    assert ran([FRAMED["an interim answer first"]]).headers == ran([whole(BODY)]).headers
    assert ran([FRAMED["trailers"]]).headers == [(b"transfer-encoding", b"chunked")]


def test_a_body_without_framing_ends_with_its_connection() -> None:
    text = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nall of it"
    assert ran([text]).fault == "unfinished"
    found = ran([text], ends=True)
    assert (found.fault, found.body, found.kept) == ("", b"all of it", False)


FAULTY = {
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
    "both framings": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "a negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "a length that is no number": b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nab",
    "a bad chunk size": chunked(b"a").replace(b"1\r\na", b"x\r\na"),
    "a chunk longer than it says": chunked(b"abc").replace(b"3\r\nabc", b"2\r\nabc"),
    "an upgrade nobody asked for": b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    "no http at all": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a header without a name": b"HTTP/1.1 200 OK\r\n: x\r\ncontent-length: 0\r\n\r\n",
    "a NUL in a header": b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 9000,
}


@pytest.mark.parametrize("name", FAULTY)
def test_framing_that_two_could_read_differently_is_a_fault_however_it_is_cut(name: str) -> None:
    for pieces in ([FAULTY[name]], [bytes([each]) for each in FAULTY[name][:3000]]):
        found = ran(pieces, ends=True)
        assert found.fault in ("framing", "closed"), found
        assert not found.kept
    assert ran([FAULTY[name]]).left == "aborted"


def test_bytes_behind_an_answer_spoil_it_when_they_come_with_it_and_the_connection_when_later() -> None:
    spoilt = ran([whole(b"hi") + b"HTTP/1.1 200 OK\r\n"])
    assert (spoilt.fault, spoilt.left, spoilt.kept) == ("framing", "aborted", False)
    later = ran([whole(b"hi"), b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"])
    assert (later.fault, later.body, later.left) == ("", b"hi", "aborted")
