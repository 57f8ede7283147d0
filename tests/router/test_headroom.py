"""What an upstream's headers say of waiting and of what is left, in all the forms that they have."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.headroom import NAMES, UNTOLD, hint_of, reset_of, room_of, says_nothing

WALL = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([(b"retry-after", b"2")], 2.0),
        ([(b"retry-after", b"0.5")], 0.5),
        ([(b"retry-after-ms", b"1500"), (b"retry-after", b"9")], 1.5),
        (
            [(b"date", b"Sat, 21 Nov 2026 10:00:00 GMT"), (b"retry-after", b"Sat, 21 Nov 2026 10:00:07 GMT")],
            7.0,
        ),
        ([(b"x-ratelimit-reset-requests", b"6m0s")], 360.0),
        ([(b"x-ratelimit-reset-tokens", b"20ms")], 0.02),
        ([(b"ratelimit", b'"api";r=0;t=55')], 55.0),
        ([(b"ratelimit", b'"api";r=9;t=55')], None),
        ([(b"retry-after", b"0")], None),
        ([(b"retry-after", b"-1")], None),
        ([(b"retry-after", b"-0.0")], None),
        ([(b"retry-after", b"nan")], None),
        ([(b"retry-after", b"")], None),
        ([(b"retry-after", b"soon")], None),
        ([(b"retry-after", b"1_0")], None),
        ([(b"retry-after", b"0x10")], None),
        ([(b"retry-after", b"5" * 10_000)], 3600.0),
        ([(b"retry-after", b"1e308")], 3600.0),  # beyond an hour it is asked for in error: nobody sleeps for it
        ([(b"retry-after", b"inf")], 3600.0),
        ([(b"retry-after", b"-inf")], None),
        ([(b"retry-after", b"99999999")], 3600.0),
        ([(b"retry-after", b"3"), (b"retry-after", b"5")], 5.0),
        ([(b"retry-after", b" 4 ")], 4.0),
        ([(b"retry-after-ms", b"0")], None),
        ([(b"retry-after-ms", b"x"), (b"retry-after", b"6")], 6.0),
        (
            [(b"date", b"Sat, 21 Nov 2026 10:00:00 GMT"), (b"retry-after", b"Sat, 21 Nov 2026 09:00:00 GMT")],
            None,
        ),
        (
            [(b"date", b"Sat, 21 Nov 2026 10:00:00 GMT"), (b"retry-after", b"Fri, 31 Dec 9999 23:59:59 GMT")],
            3600.0,
        ),
        ([(b"retry-after", b"Sat, 21 Nov 2026 25:61:00 GMT")], None),
        ([(b"x-ratelimit-reset", b"12")], 12.0),
        ([(b"x-ratelimit-reset-requests", b"1h2m3.5s")], 3600.0),
        ([(b"x-ratelimit-reset-requests", b"m")], None),
        ([(b"ratelimit", b"garbage;;=;r=0;t=")], None),
        ([(b"x-ratelimit-reset-requests", b"12ms"), (b"x-ratelimit-reset-tokens", b"6s")], 0.012),
        (
            [
                *((b"x-ratelimit-reset-requests", b"12ms"), (b"x-ratelimit-remaining-requests", b"4999")),
                *((b"x-ratelimit-reset-tokens", b"6s"), (b"x-ratelimit-remaining-tokens", b"0")),
            ],
            6.0,
        ),
        ([(b"x-ratelimit-reset", b"55"), (b"x-ratelimit-remaining", b"8")], None),
        ([(b"date", b"Sat, 21 Nov 2026 10:00:00 GMT"), (b"x-ratelimit-reset", b"1795255230")], 30.0),
        ([(b"date", b"Sat, 21 Nov 2026 10:00:00 GMT"), (b"x-ratelimit-reset", b"1795255230000")], 30.0),
        ([(b"x-ratelimit-reset", b"1795255230")], None),  # a moment, and nobody says when that is
        ([], None),
    ],
)
def test_a_hint_is_read_in_every_form_in_use(headers: list[tuple[bytes, bytes]], seconds: float | None) -> None:
    assert hint_of(headers) == seconds


@given(st.sampled_from([b"retry-after", b"retry-after-ms", b"x-ratelimit-reset", b"ratelimit"]), st.binary(max_size=64))
def test_no_hint_is_an_exception_or_out_of_bounds(name: bytes, value: bytes) -> None:
    found = hint_of([(b"date", b"Sat, 21 Nov 2026 10:00:00 GMT"), (name, value)])
    assert found is None or (math.isfinite(found) and 0 < found <= 3600)


def fields(text: str) -> dict[bytes, bytes]:
    pairs = (line.strip().partition(": ") for line in text.strip().splitlines())
    return {name.lower().encode(): value.encode() for name, _, value in pairs}


@pytest.mark.parametrize(
    ("text", "share", "resets", "of"),
    [
        (  # OpenAI: plenty; a moment is of no interest then
            """x-ratelimit-limit-requests: 5000
            x-ratelimit-limit-tokens: 160000
            x-ratelimit-remaining-requests: 4999
            x-ratelimit-remaining-tokens: 120000
            x-ratelimit-reset-requests: 12ms
            x-ratelimit-reset-tokens: 9ms""",
            0.75,
            0.0,
            "tokens",
        ),
        (  # Groq
            """x-ratelimit-limit-requests: 14400
            x-ratelimit-limit-tokens: 18000
            x-ratelimit-remaining-requests: 14370
            x-ratelimit-remaining-tokens: 900
            x-ratelimit-reset-requests: 2m59.56s
            x-ratelimit-reset-tokens: 7.66s""",
            0.05,
            7.66,
            "tokens",
        ),
        (  # Anthropic
            """anthropic-ratelimit-requests-limit: 50
            anthropic-ratelimit-requests-remaining: 0
            anthropic-ratelimit-requests-reset: 2026-11-21T10:00:30Z
            anthropic-ratelimit-input-tokens-limit: 40000
            anthropic-ratelimit-input-tokens-remaining: 39000
            anthropic-ratelimit-input-tokens-reset: 2026-11-21T10:00:01Z""",
            0.0,
            30.0,
            "requests",
        ),
        (
            """anthropic-ratelimit-output-tokens-limit: 8000
            anthropic-ratelimit-output-tokens-remaining: 800
            anthropic-ratelimit-output-tokens-reset: 2026-11-21T11:00:06+01:00""",
            0.1,
            6.0,
            "output-tokens",
        ),
        ('ratelimit: "api";r=0;t=55', 0.0, 55.0, "requests"),
        ('ratelimit: "api";r=9;t=55\nratelimit-policy: "api";q=100;w=60', 0.09, 55.0, "requests"),
        (  # the Hub's
            'ratelimit: "api";r=250;t=240\nratelimit-policy: "fixed window";"api";q=1000;w=300',
            0.25,
            240.0,
            "requests",
        ),
        (
            'ratelimit: "burst";r=9;t=1, "daily";r=5;t=9000\nratelimit-policy: "burst";q=10;w=1, "daily";q=100;w=86400',
            0.05,
            3600.0,
            "requests",
        ),
        ("ratelimit: limit=100, remaining=20, reset=50", 0.2, 50.0, "requests"),
        ("ratelimit-limit: 100, 100;w=60\nratelimit-remaining: 1\nratelimit-reset: 30", 0.01, 30.0, "requests"),
        ("x-ratelimit-limit: 60\nx-ratelimit-remaining: 0\nx-ratelimit-reset: 1795255230", 0.0, 30.0, "requests"),
        ("x-ratelimit-limit: 60\nx-ratelimit-remaining: 3\nx-ratelimit-reset: 1795255230000", 0.05, 30.0, "requests"),
        ("x-ratelimit-limit: 60\nx-ratelimit-remaining: 3\nx-ratelimit-reset: 44", 0.05, 44.0, "requests"),
        (  # Cerebras
            """x-ratelimit-limit-requests-day: 14400
            x-ratelimit-remaining-requests-day: 1440
            x-ratelimit-reset-requests-day: 330.38""",
            0.1,
            330.38,
            "requests-day",
        ),
        ("x-ratelimit-remaining-requests: 0\nretry-after: 4", 0.0, 4.0, "requests"),
        ("x-ratelimit-remaining-requests: 0", 0.0, UNTOLD, "requests"),
        ("x-ratelimit-remaining-requests: 0\nx-ratelimit-reset-requests: soon", 0.0, UNTOLD, "requests"),
        ("x-ratelimit-remaining-requests: 7", 1.0, 0.0, "requests"),  # of how many, nobody says
        ("x-ratelimit-limit-requests: 0\nx-ratelimit-remaining-requests: 7", 1.0, 0.0, "requests"),
    ],
)
def test_what_is_left_is_that_of_the_tightest_limit(text: str, share: float, resets: float, of: str) -> None:
    room = room_of(fields(text), WALL)
    assert room is not None
    assert room.share == pytest.approx(share) and room.resets == pytest.approx(resets) and room.of == of


@pytest.mark.parametrize(
    "text",
    [
        "content-type: application/json",
        "retry-after: 5",
        "x-ratelimit-remaining-requests: many",
        "x-ratelimit-remaining-requests: nan",
        "x-ratelimit-limit-requests: inf\nx-ratelimit-remaining-requests: 1",
        "ratelimit: garbage",
        "ratelimit: ;;=;",
        'ratelimit: "api";r=;t=5',
    ],
)
def test_headers_that_say_nothing_of_it_are_no_news(text: str) -> None:
    assert room_of(fields(text), WALL) is None


def test_whether_there_is_such_a_header_is_told_by_the_names_alone() -> None:
    assert says_nothing(fields("content-type: a/b\nx-request-id: 1\nretry-after: 3"))
    assert not says_nothing(fields("content-type: a/b\nX-RateLimit-Remaining-Tokens: 3"))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"6m0s", 360.0),
        (b"7.66s", 7.66),
        (b"120ms", 0.12),
        (b"2026-11-21T10:01:00Z", 60.0),
        (b"2026-11-21T10:01:00", 60.0),
        (b"2026-11-21T09:59:59Z", None),
        (b"9999-12-31T23:59:59Z", 3600.0),
        (b"0", None),
        (b"-5", None),
        (b"inf", 3600.0),
        (b"", None),
    ],
)
def test_a_moment_or_a_while_is_read_and_never_over_an_hour(value: bytes, seconds: float | None) -> None:
    assert reset_of(value, WALL) == (None if seconds is None else pytest.approx(seconds))


@given(st.dictionaries(st.sampled_from(sorted(NAMES | {b"ratelimit-policy", b"x-ratelimit-reset"})), st.binary()))
def test_no_header_is_an_exception_or_out_of_bounds(said: dict[bytes, bytes]) -> None:
    room = room_of(said, WALL)
    assert room is None or (0.0 <= room.share <= 1.0 and 0.0 <= room.resets <= 3600.0)
