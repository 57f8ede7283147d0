"""Answers over a real socket: the same however the network cuts them, and never a clean end where one was cut off."""

import asyncio
import gzip
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.upstream.answer import Answer
from router.upstream.compressed import opened
from router.upstream.faults import Broken, Silence
from tests.router.upstream.scripted import HELLO, End, Scripted, Whole, answered, looped, settled, silenced, whole

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
EXTENDED = CHUNKED + b'5;a=b;q="x;y"\r\nhello\r\n1\r\n!\r\n0;last\r\nx-checksum: 1\r\nx-more: 2\r\n\r\n'
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nhello\r\n\r\n0\r\n"
KEPT, CLOSED = True, False

# response, status, body, what becomes of the connection
RIGHT = {
    "content-length": (LENGTH, 200, b"hello\r\n\r\n0\r\n", KEPT),
    "content-length 0": (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, b"", KEPT),
    "chunked": (EXTENDED, 200, b"hello!", KEPT),
    "chunked, empty": (CHUNKED + b"0\r\n\r\n", 200, b"", KEPT),
    "close-delimited": (b"HTTP/1.1 200 OK\r\n\r\nall of it", 200, b"all of it", CLOSED),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", KEPT),
    "304 with the length of what it stands for": (
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n",
        304,
        b"",
        KEPT,
    ),
    "100 first": (b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO, 200, b"hello", KEPT),
    "102 and 103 first": (
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + HELLO,
        200,
        b"hello",
        KEPT,
    ),
    "connection: close": (
        b"HTTP/1.1 500 Oh\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno",
        500,
        b"no",
        CLOSED,
    ),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", CLOSED),
    "HTTP/1.0 keep-alive": (
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
        200,
        b"ok",
        KEPT,
    ),
    "no reason phrase": (b"HTTP/1.1 429\r\ncontent-length: 0\r\n\r\n", 429, b"", KEPT),
}


def fed(response: bytes, *edges: int) -> list[bytes | End]:
    """The response cut at these offsets, and what only a closing can end closed."""
    places = sorted({0, len(response), *(edge for edge in edges if 0 < edge < len(response))})
    pieces: list[bytes | End] = [response[start:end] for start, end in itertools.pairwise(places)]
    unframed = b"-length" not in response.lower() and b"chunked" not in response and b" 204 " not in response
    return [*pieces, End.CLOSE] if unframed else pieces


async def told(response: bytes, *edges: int) -> tuple[Whole, bool]:
    """The answer that was read, and whether its connection was used for the next request."""
    async with Scripted(fed(response, *edges)) as upstream:
        pool = upstream.pool()
        first = await whole(pool)
        assert isinstance(first, Whole), first
        await settled()
        assert await whole(pool) == first
        accepted = upstream.accepted
        await pool.close()
        return first, accepted == 1


@pytest.mark.parametrize("case", RIGHT)
@looped
async def test_a_correct_answer_is_read_the_same_whole_and_byte_by_byte(case: str) -> None:
    response, status, body, kept = RIGHT[case]
    at_once = await told(response)
    assert (at_once[0].status, at_once[0].body, at_once[1]) == (status, body, kept)
    assert await told(response, *range(len(response))) == at_once


@settings(max_examples=60, deadline=None)
@given(case=st.sampled_from(sorted(RIGHT)), edges=st.lists(st.integers(1, 250), max_size=12))
@looped
async def test_a_correct_answer_is_read_the_same_however_it_is_cut(case: str, edges: list[int]) -> None:
    response, status, body, kept = RIGHT[case]
    answer, reused = await told(response, *edges)
    assert (answer.status, answer.body, reused) == (status, body, kept)


@looped
async def test_an_interim_heads_headers_and_trailers_are_not_the_answers_headers() -> None:
    hinted, _ = await told(RIGHT["102 and 103 first"][0])
    assert hinted.headers == [(b"content-length", b"5")]
    trailed, _ = await told(EXTENDED, *range(len(EXTENDED)))
    assert trailed.headers == [(b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize(
    "response",
    [LENGTH, EXTENDED, EXTENDED.replace(b"chunked", b"gzip, chunked")],
    ids=["content-length", "chunked", "coded and chunked"],
)
@looped
async def test_an_answer_cut_off_at_any_offset_is_a_fault_and_never_a_clean_end(response: bytes, end: End) -> None:
    head = response.index(b"\r\n\r\n") + 4
    cuts = range(len(response))
    async with Scripted(*((response[:cut], end) for cut in cuts)) as upstream:
        pool = upstream.pool()
        for cut in cuts:
            result = await whole(pool)
            if result == "closed":
                assert cut >= head, cut
            else:  # no byte of the body was in hand
                assert result == Silence("closed", sent=True) and cut <= head + len(b'5;a=b;q="x;y"\r\n'), (cut, result)
        await settled()
        assert pool.opened == 0 and upstream.accepted == len(cuts)


@looped
async def test_a_body_that_only_the_connections_end_delimits_is_said_to_prove_nothing_and_a_reset_breaks_it() -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    async with Scripted([head + b"some", End.CLOSE], [head + b"some", End.RESET], [HELLO]) as upstream:
        pool = upstream.pool()
        answer = await answered(pool)
        assert await answer.read(100) == b"some"
        assert not answer.framed
        answer = await answered(pool)
        with pytest.raises(Broken, match="closed"):
            await answer.read(100)
        assert (await answered(pool)).framed
        await pool.close()


FAULTY = {
    "two lengths that differ": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "a list of lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello",
    "a negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello",
    "length and chunked": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "no chunk size": CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    "a chunk size that is no number": CHUNKED + b"xyz\r\nhello\r\n0\r\n\r\n",
    "a signed chunk size": CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
    "a chunk size past 64 bits": CHUNKED + b"fffffffffffffffff\r\nhello",
    "a chunk longer than its size": CHUNKED + b"4\r\nhello\r\n0\r\n\r\n",
    "bytes after the end": HELLO + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    "bytes after the last chunk": CHUNKED + b"0\r\n\r\nevil",
    "bytes after a closing answer": HELLO.replace(b"200 OK", b"200 OK\r\nconnection: close") + b"evil",
    "a body behind 204": b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello",
    "an upgrade nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"
    b"connection: upgrade\r\n\r\n",
    "a status below 100": b"HTTP/1.1 099 Early\r\ncontent-length: 4\r\n\r\nevil" + HELLO,
    "a status of two digits": b"HTTP/1.1 20 OK\r\ncontent-length: 5\r\n\r\nhello",
    "not HTTP": b"220 mail.example ESMTP\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "a folded header": b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 0\r\n\r\n",
    "a space before the colon": b"HTTP/1.1 200 OK\r\ncontent-length : 5\r\n\r\nhello",
    "NUL in a value": b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n",
}


@pytest.mark.parametrize("case", FAULTY)
@looped
async def test_what_could_be_framed_in_two_ways_is_a_fault_and_its_connection_is_never_used_again(case: str) -> None:
    async with Scripted([FAULTY[case]], [HELLO]) as upstream:
        pool = upstream.pool()
        assert await whole(pool) in ("framing", Silence("framing", sent=True))
        await settled()
        assert pool.opened == 0
        assert await whole(pool) == Whole(200, [(b"content-length", b"5")], b"hello")
        assert upstream.accepted == 2
        await pool.close()


@pytest.mark.parametrize("late", [b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"HTTP/1.1 408 Timeout\r\n\r\n"])
@looped
async def test_bytes_that_come_after_a_finished_answer_never_begin_the_next_one(late: bytes) -> None:
    later = asyncio.Event()
    async with Scripted([HELLO, later, late], [HELLO]) as upstream:
        pool = upstream.pool()
        assert isinstance(await whole(pool), Whole)
        later.set()
        await settled()
        assert pool.opened == 0
        again = await whole(pool)
        assert isinstance(again, Whole) and again.body == b"hello" and upstream.accepted == 2
        await pool.close()


@pytest.mark.parametrize("pieces", [1, 8], ids=["at once", "in pieces"])
@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\n" + b"x-bomb: %b\r\n" % (b"a" * 1000) * 120 + b"content-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-bomb: " + b"a" * 120_000 + b"\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n" * 4000 + HELLO,
    ],
    ids=["many fields", "one field", "interim answers without end"],
)
@looped
async def test_a_head_of_more_than_64_kib_is_refused_however_it_comes(response: bytes, pieces: int) -> None:
    size = len(response) // pieces + 1
    async with Scripted([response[at : at + size] for at in range(0, len(response), size)]) as upstream:
        pool = upstream.pool()
        silence = await silenced(pool)
        assert silence.reason in ("framing", "head_too_large") and silence.sent
        await settled()
        assert pool.opened == 0


@looped
async def test_a_large_body_behind_a_small_head_is_no_large_head() -> None:
    body = b"x" * 200_000
    async with Scripted([b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n" + body]) as upstream:
        pool = upstream.pool()
        assert await (await answered(pool)).read(300_000) == body
        await pool.close()


SQUEEZED = gzip.compress(b"hi")


@looped
async def test_a_compressed_body_that_comes_all_the_same_is_poured_as_it_is_with_its_coding() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(SQUEEZED)
    async with Scripted([head + SQUEEZED]) as upstream:
        pool = upstream.pool()
        answer = await answered(pool)
        assert isinstance(answer, Answer)
        assert answer.fields[b"content-encoding"] == b"gzip"
        assert await answer.chunk() == SQUEEZED
        await pool.close()


@looped
async def test_where_it_is_read_it_is_opened_and_its_coding_forgotten() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(SQUEEZED)
    async with Scripted([head + SQUEEZED]) as upstream:
        pool = upstream.pool()
        answer = await answered(pool)
        assert await answer.read(100) == b"hi"
        assert not any(name == b"content-encoding" for name, _ in answer.headers)
        await pool.close()


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (gzip.compress(b"a" * 101), b"gzip"),
        (gzip.compress(b"a" * 50_000_000), b"gzip"),
        (SQUEEZED[:-4], b"gzip"),
        (b"hi", b"gzip"),
        (SQUEEZED, b"br"),
        (gzip.compress(SQUEEZED), b"gzip, gzip"),
    ],
    ids=["over", "bomb", "torn", "none", "unknown", "twice"],
)
def test_what_cannot_be_opened_within_its_bound_is_no_body(body: bytes, coding: bytes) -> None:
    assert opened(body, coding, 100) is None
