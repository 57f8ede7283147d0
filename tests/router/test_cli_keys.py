"""`inference-router keys`: a line for the file, or a row in the store."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from router import config
from router.cli_keys import keys
from router.plans import digest_of
from router.stores.keyrows import KeyRows
from router.stores.sql import database

FILE = """
stores: {{ledger: "sqlite:///{place}/router.db"}}
plans: {{free: {{requests: 300/hour}}}}
virtual_keys: [{{name: of-file, key: sk-canary-0123456789abcdef, plan: free}}]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(FILE.format(place=tmp_path))
    return path


def run(*words: str | Path) -> Result:
    result = CliRunner().invoke(keys, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output and "canary" not in result.output
    return result


EVERYTHING = (
    *("--name", "laptop", "--tenant", "acme", "--plan", "free", "--model", "a/*", "--not-model", "a/b"),
    *("--provider", "groq", "--provider", "together", "--requests", "300/hour", "--budget", "20 USD/month"),
    *("--input-tokens", "9/minute", "--concurrency", "4", "--org", "acme", "--expires", "2027-06-01"),
    *("--metadata", "team=a=b", "--style", "sk"),
)


def test_a_line_for_the_file_says_all_that_was_asked_for(file: Path) -> None:
    key, line = run("create", *EVERYTHING, "--print-only").stdout.splitlines()
    upstreams = "{groq: {provider: groq, keys: [k]}, together: {provider: together, keys: [k]}}"
    file.write_text(f"plans: {{free: {{}}}}\nupstreams: {upstreams}\nvirtual_keys:\n{line}\n")
    (made,) = config.load(file, {}).config.virtual_keys
    assert made.digest == digest_of(key.encode()) and key.startswith("sk-")
    assert (made.name, made.owner, made.plan, made.models, made.not_models) == (
        *("laptop", "acme", "free"),
        *(["a/*"], ["a/b"]),
    )
    assert made.providers == ["groq", "together"] and made.orgs == ["acme"] and made.metadata == {"team": "a=b"}
    assert str(made.limits.budget) == "20 USD/month" and made.limits.concurrency == 4
    assert made.expires == 1_811_808_000.0
    assert not (file.parent / "router.db").exists()


def test_with_a_store_the_key_is_in_it(file: Path) -> None:
    result = run("create", *EVERYTHING, "--config", file)
    opened = database(f"sqlite:///{file.parent}/router.db")
    (row,) = KeyRows(opened).rows()
    opened.close()
    assert result.stdout.splitlines() and digest_of(result.stdout.strip().encode()).hex() == row.digest
    assert row.tenant == "acme" and row.expires == 1_811_808_000.0
    assert "laptop of acme is in the store" in result.stderr
    assert json.loads(row.settings)["limits"] == {
        "requests": "300/hour",
        "input_tokens": "9/minute",
        "concurrency": "4",
        "budget": "20 USD/month",
    }


def test_a_key_is_rotated_listed_and_revoked(file: Path) -> None:
    first = run("create", "--name", "laptop", "--config", file).stdout.strip()
    second = run("rotate", "laptop", "--grace", "1h", "--config", file)
    assert second.stdout.strip() not in ("", first) and "1h" in second.stderr
    listed = run("list", "--config", file).stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["of-file", "laptop", "laptop"]
    assert first[-4:] in listed and first not in listed and "until" in listed
    assert run("revoke", "laptop", "--config", file).stdout.startswith("laptop: 2 revoked")
    assert len(run("list", "--config", file).stdout.splitlines()) == 1
    shown = [json.loads(line) for line in run("list", "--all", "--json", "--config", file).stdout.splitlines()]
    assert [each["state"] for each in shown] == ["", "revoked", "revoked"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("create", "--name", "of-file"), "named"),
        (("create", "--name", "a b"), "name: "),
        (("create", "--plan", "gold"), 'no plan is named "gold"'),
        (("create", "--requests", "many"), "limits.requests: expected a rate"),
        (("create", "--requests", "many", "--file"), "limits.requests: expected a rate"),
        (("create", "--concurrency", "0"), "limits.concurrency"),
        (("create", "--expires", "soon"), "expires: expected a date"),
        (("create", "--metadata", "x"), "expected name=value"),
        (("rotate", "nobody"), 'no live key of the store is named "nobody"'),
        (("rotate", "nobody", "--grace", "soon"), "expected a duration"),
        (("revoke", "of-file"), "no live key"),
    ],
)
def test_what_is_wrong_is_one_line(file: Path, words: tuple[str, ...], said: str) -> None:
    result = run(*words, "--config", file)
    assert result.exit_code in (1, 2) and said in result.stderr and result.stdout == ""


def test_without_a_store_only_the_file_can_have_keys(file: Path) -> None:
    file.write_text("stores: {ledger: 'off'}")
    assert "keeps no store" in run("rotate", "a", "--config", file).stderr
    assert "keeps no store" in run("create", "--save", "--config", file).stderr
    assert "key_sha256" in run("create", "--config", file).stdout


def test_a_first_key_is_made_for_a_configuration_that_needs_one_to_hold(file: Path) -> None:
    file.write_text("server: {host: 0.0.0.0}")
    result = run("create", "--config", file)
    assert "key_sha256" in result.stdout and "does not hold" in result.stderr
    with pytest.raises(config.ConfigFaults):
        CliRunner().invoke(keys, ["create", "--save", "--config", str(file)], catch_exceptions=False)


def test_a_store_that_is_away_is_one_line(file: Path) -> None:
    file.write_text("stores: {ledger: 'sqlite:////proc/nowhere/router.db'}")
    for words in (("create",), ("list",), ("revoke", "a")):
        result = run(*words, "--config", file)
        assert result.exit_code == 1 and "the store is away" in result.stderr
