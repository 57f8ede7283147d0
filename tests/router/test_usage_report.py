"""Sums and entries as text, CSV and JSON: exact for programs, legible for people, harmless in a spreadsheet."""

import csv
import io
import json

import pytest

from router import usage_report as report
from router.entry import Attempt, Entry
from router.stores.reports import Sum

NOW = 1_793_534_400.0  # 2026-11-01T12:00Z
BY = ("tenant", "model")
ROWS = [
    Sum(("alice", "org/m"), 1200, 1, 5000, 400, cost=12_500_000_000, charge=15_000_000_000),
    Sum(("=cmd|'/c calc'!A1", "-"), 1, unpriced=1),
]
ENTRY = Entry(
    "e1", NOW + 0.25, "@r", "alice", "alice", "org/m", "conversational", "openai", "together", "t/m", "together/0",
    "routed", "", 200, "ok", True, "", 1.5, 10, 5, cost=75, charge=None, tries=2,
    failed=(Attempt("groq", "groq/m", 500, "server_error", 0.5, True, 12),),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01", NOW - 12 * 3600),
        ("2026-11-01T13:00", NOW + 3600),
        ("2026-11-01T13:00:00+01:00", NOW),
        ("7d", NOW - 7 * 86_400),
        ("1.5h", NOW - 5400),
        ("2w", NOW - 14 * 86_400),
        ("999999w", 0.0),
    ],
)
def test_a_moment_is_a_date_in_utc_or_an_age(text: str, expected: float) -> None:
    assert report.moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "7", "-7d", "2026-13-01", "1e9d", "d"])
def test_what_is_no_moment_is_told_what_one_looks_like(text: str) -> None:
    with pytest.raises(ValueError, match="expected a date such as 2026-11-01 or an age such as 7d"):
        report.moment(text, NOW)


@pytest.mark.parametrize(
    ("nano", "shown"),
    [
        (0, "0.00"),
        (75, "0.000000075"),
        (123_456, "0.000123"),
        (12_500_000, "0.0125"),
        (999_999_999, "1.00"),
        (12_500_000_000, "12.50"),
        (1_234_567_890_123_456, "1,234,567.89"),
        (-75, "-0.000000075"),
        (None, "?"),
    ],
)
def test_money_is_shown_with_as_many_digits_as_there_is_something_to_see(nano: int | None, shown: str) -> None:
    assert report.usd(nano) == shown


def test_a_table_has_what_there_is_and_the_sum_of_all() -> None:
    assert list(report.as_table(BY, ROWS)) == [
        "tenant             model  requests  errors  input  output  cost USD  charge USD  unpriced",
        "alice              org/m     1,200       1  5,000     400     12.50       15.00         0",
        "=cmd|'/c calc'!A1  -             1       0      0       0         ?           ?         1",
        "in all             -         1,201       1  5,000     400     12.50       15.00         1",
    ]
    assert len(list(report.as_table((), [Sum((), 3)]))) == 2


def test_csv_is_exact_and_no_cell_of_it_is_a_formula() -> None:
    first, second = csv.DictReader(io.StringIO("".join(report.as_csv(BY, ROWS))))
    assert (first["tenant"], first["cost_nano_usd"], first["charge_nano_usd"]) == (
        "alice",
        "12500000000",
        "15000000000",
    )
    assert (second["tenant"], second["model"]) == ("'=cmd|'/c calc'!A1", "'-")
    assert (second["cost_nano_usd"], second["unpriced"]) == ("", "1")


def test_json_has_the_groups_by_name_and_null_for_what_nobody_knows() -> None:
    told = report.listed(BY, ROWS, NOW, None)
    assert told["data"][0]["tenant"] == "alice" and told["data"][0]["cost_nano_usd"] == 12_500_000_000
    assert told["data"][1]["cost_nano_usd"] is None
    assert (told["since"], told["until"]) == ("2026-11-01T12:00:00.000000Z", None)
    assert [json.loads(line) for line in report.as_jsonl(BY, ROWS)] == told["data"]


def test_an_entry_is_a_line_with_its_failed_attempts_in_json() -> None:
    (line,) = report.entries_as_jsonl([ENTRY])
    told = json.loads(line)
    assert told["attempts"] == [
        {
            "upstream": "groq",
            "deployment": "groq/m",
            "status": 500,
            "reason": "server_error",
            "seconds": 0.5,
            "sent": True,
            "cost_nano_usd": 12,
        }
    ]
    assert (told["time"], told["cost_nano_usd"], told["charge_nano_usd"]) == ("2026-11-01T12:00:00.250000Z", 75, None)
    (row,) = csv.DictReader(io.StringIO("".join(report.entries_as_csv([ENTRY]))))
    assert (row["request"], row["stream"], row["cost_nano_usd"], row["charge_nano_usd"]) == ("'@r", "1", "75", "")
    assert "attempts" not in row and "failed" not in row
