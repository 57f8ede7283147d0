"""`inference-router usage` over a real database: printed, exported, pruned after a question."""

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from router import cli_usage
from router.entry import Entry
from router.stores import sql

NAMES = [name for name in Entry.__struct_fields__ if name != "failed"]


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/l.db"
    database = sql.database(url)
    database.open()
    rows = [
        (f"e{number}", time.time() - number * 86_400 - 60, f"r{number}", tenant, tenant, "org/m", "conversational",
         "openai", "together", "t/m", "together/0", "routed", "", 200, "ok", 0, "", 1.0, 100, 10, 0, 0, 0, 0.0, 0, 0,
         1_500_000, 2_000_000, 1, "")
        for number, tenant in enumerate(["alice", "bob", "alice"])
    ]  # fmt: skip
    database.many(f"INSERT INTO entries ({', '.join(NAMES)}) VALUES ({', '.join('?' * len(NAMES))})", rows)
    database.close()
    return url


def run(*words: str, ledger: str = "", said: str | None = None) -> Result:
    result = CliRunner().invoke(cli_usage.commands(lambda file: ledger), words, input=said)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_usage_alone_is_the_sum_of_all(ledger: str) -> None:
    title, line = run(ledger=ledger).output.splitlines()
    assert title.split() == ["requests", "errors", "input", "output", "cost", "USD", "charge", "USD"]
    assert line.split() == ["3", "0", "300", "30", "0.0045", "0.006"]


def test_usage_is_by_what_is_asked_of_a_time_and_of_somebody(ledger: str) -> None:
    lines = run("--by", "tenant,day", "--by", "provider", "--since", "36h", ledger=ledger).output.splitlines()
    assert lines[0].split()[:3] == ["tenant", "day", "provider"] and len(lines) == 4
    told = json.loads(run("--by", "tenant", "--tenant", "bob", "--format", "json", ledger=ledger).output)
    assert told["data"][0]["charge_nano_usd"] == 2_000_000
    assert run("--by", "key", "--format", "csv", ledger=ledger).output.splitlines()[1].startswith("alice,2,0,200")
    assert json.loads(run("--format", "jsonl", "--model", "org/m", ledger=ledger).output)["requests"] == 3
    assert run("--until", "2020-01-01", ledger=ledger).output == "No requests.\n"


def test_an_export_is_whole_private_and_has_each_entry(ledger: str, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    said = run("export", "--format", "jsonl", "-o", str(out), ledger=ledger)
    assert said.output == f"3 entries in {out}\n"
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["e2", "e1", "e0"]
    assert out.stat().st_mode & 0o777 == 0o600 and not list(tmp_path.glob("*.part"))
    assert len(run("export", "--format", "csv", "--since", "1h", ledger=ledger).output.splitlines()) == 2
    away = run("export", "--format", "csv", "-o", str(tmp_path / "none" / "o.csv"), ledger=ledger)
    assert away.exit_code == 1 and "No such file or directory" in away.output


def test_prune_says_how_many_it_would_delete_and_asks(ledger: str) -> None:
    said = run("prune", "--before", "36h", ledger=ledger, said="n\n")
    assert "Delete 1 entries from before " in said.output and "Nothing deleted" in said.output
    assert run("--format", "jsonl", ledger=ledger).output.startswith('{"requests":3')
    assert run("prune", "--before", "36h", "--yes", ledger=ledger).output == "1 entries deleted.\n"
    assert "There are no entries from before" in run("prune", "--before", "36h", ledger=ledger).output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--since", "yesterday"), "since: expected a date such as 2026-11-01 or an age such as 7d"),
        (("export", "--format", "csv", "--until", "soon"), "until: expected a date such as 2026-11-01 or an age"),
        (("--by", "tenant,colour"), 'by: nothing is grouped by "colour". One of: tenant, key, model'),
        (("prune", "--before", "90"), "before: expected a date"),
    ],
)
def test_what_is_wrong_is_named(ledger: str, words: tuple[str, ...], said: str) -> None:
    result = run(*words, ledger=ledger)
    assert result.exit_code == 2 and said in result.output


def test_a_ledger_that_is_off_or_away_is_said_in_a_line(tmp_path: Path) -> None:
    assert "keeps no ledger (stores.ledger: off)" in run().output
    (tmp_path / "file").touch()
    away = run("--ledger", f"sqlite:///{tmp_path}/file/l.db")
    assert away.exit_code == 1 and "the ledger cannot be used: SQLite: " in away.output
