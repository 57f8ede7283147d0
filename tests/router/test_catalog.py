"""`catalog sync`, against a server that answers as the Hub and its router do."""

import functools
import json
import os
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from router import catalog, cli
from router.catalog import client, listing, rows, table
from router.config.files import read_tables
from router.routing import Row
from tests.threaded import Threaded

TOKEN = "hf_canary_0123456789"


def model(name: str, provider: str, provider_id: str, task: str, **more: Any) -> dict[str, Any]:
    mapping = {"status": "live", "providerId": provider_id, "task": task, "isModelAuthor": False, **more}
    return {"_id": name, "id": name, "pipeline_tag": task, "inferenceProviderMapping": {provider: mapping}}


def listed(name: str, provider: str, provider_id: str, task: str) -> dict[str, Any]:
    """The newer form: a list of objects that name their provider."""
    mapping = {"provider": provider, "status": "live", "providerId": provider_id, "task": task}
    other = {**mapping, "provider": "someone-else", "providerId": "not/this"}
    return {"_id": name, "id": name, "pipeline_tag": "text-generation", "inferenceProviderMapping": [other, mapping]}


LLAMA, FLUX, CODER = "meta-llama/Llama-3.3-70B-Instruct", "black-forest-labs/FLUX.1-dev", "Qwen/Qwen2.5-Coder-7B"
ROUTER = {
    "object": "list",
    "data": [
        {
            "id": LLAMA,
            "object": "model",
            "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
            "providers": [
                {
                    "provider": "together",
                    "status": "live",
                    "context_length": 131072,
                    "pricing": {"input": 0.88, "output": 0.88},
                    "supports_tools": True,
                    "supports_structured_output": False,
                    "is_model_author": False,
                },
                {"provider": "groq", "status": "live", "pricing": {"input": 0, "output": 0}, "is_model_author": False},
            ],
        }
    ],
}


@dataclass
class Hub:
    """The pages of each provider, and what was asked. `faults`: answers that come first, whatever is asked."""

    pages: dict[str, list[list[Any]]]
    router: Any = field(default_factory=lambda: ROUTER)
    faults: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    cut_at: str = ""  # the connection breaks in the middle of the answer to this cursor
    next_host: str = ""
    asked: list[str] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)
    url: str = ""

    def answer(self, target: str) -> tuple[int, dict[str, str], bytes]:
        split = urllib.parse.urlsplit(target)
        query = dict(urllib.parse.parse_qsl(split.query))
        if self.faults:
            return self.faults.pop(0)
        if split.path == "/v1/models":
            return 200, {}, json.dumps(self.router).encode()
        pages = self.pages.get(query["inference_provider"])
        if pages is None:
            return 400, {}, b'{"error": "no such provider"}'
        at = int(query.get("cursor", "0"))
        more = {}
        if at + 1 < len(pages):
            following = urllib.parse.urlencode({**query, "cursor": at + 1})
            more = {"link": f'<{self.next_host or self.url}/api/models?{following}>; rel="next"'}
        return 200, more, json.dumps(pages[at]).encode()


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub(
        {
            "together": [
                [model(LLAMA, "together", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "conversational")],
                [listed(CODER, "together", CODER, "conversational"), {"id": "no/mapping"}],
                [model(FLUX, "together", FLUX, "text-to-image")],
            ],
            "groq": [[model(LLAMA, "groq", "llama-3.3-70b-versatile", "conversational")]],
            "nscale": [[]],
        }
    )

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            made.asked.append(self.path)
            made.tokens[self.path] = self.headers.get("authorization", "")
            status, headers, body = made.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if made.cut_at and made.cut_at in self.path:
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
            else:
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = Threaded(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What would have been slept."""
    slept: list[float] = []
    monkeypatch.setattr(catalog, "Client", functools.partial(client.Client, pause=slept.append))
    return slept


def sync(hub: Hub, out: Path, *words: str, token: str = "") -> Result:
    where = ["--hub", hub.url, "--router", hub.url, "--out", str(out)]
    result = CliRunner().invoke(cli.main, ["catalog", "sync", *where, *words], env={"HF_TOKEN": token})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "canary" not in result.output
    return result


def rows_of(path: Path) -> dict[str, Row]:
    tables, faults = read_tables([path])
    assert faults == []
    return next(iter(tables.values()))


ONLY = ("--provider", "together")


def test_pages_are_followed_and_both_forms_of_the_mapping_become_rows(hub: Hub, tmp_path: Path) -> None:
    result = sync(hub, tmp_path, *ONLY)
    assert result.exit_code == 0, result.output
    assert "together: 3 models; 3 new, 0 gone, 0 changed" in result.output
    assert f"  + {FLUX}: text-to-image {FLUX}" in result.output
    made = rows_of(tmp_path / "together.yaml")
    assert list(made) == sorted(made, key=str.casefold) and set(made) == {LLAMA, CODER, FLUX}
    llama = made[LLAMA]
    assert (llama.id, llama.task, llama.context) == (f"{LLAMA}-Turbo", "conversational", 131072)
    assert llama.can == {"tools", "vision"} and llama.price == {"input": 0.88, "output": 0.88}
    assert made[FLUX].price == {}, "unknown is not 0"
    assert made[CODER].fim is None, "the family's marks are known without a row"
    assert sum("/api/models" in each for each in hub.asked) == 3
    assert os.listdir(tmp_path) == ["together.yaml"]
    first = urllib.parse.urlsplit(next(each for each in hub.asked if "/api/models" in each)).query
    assert urllib.parse.parse_qs(first)["expand[]"] == ["inferenceProviderMapping", "pipeline_tag"]


def test_a_second_run_says_what_changed_and_writes_no_more_than_that(hub: Hub, tmp_path: Path) -> None:
    sync(hub, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["groq.yaml", "huggingface.yaml", "together.yaml"]
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = sync(hub, tmp_path)
    assert "nothing written" in again.output and "together: 3 models; no change" in again.output
    hub.pages["together"][2] = [model("org/new", "together", "org/new", "text-to-image")]
    hub.pages["together"][1] = [listed(CODER, "together", f"{CODER}-Turbo", "conversational")]
    third = sync(hub, tmp_path)
    assert "together: 3 models; 1 new, 1 gone, 1 changed" in third.output
    assert "  + org/new: text-to-image org/new" in third.output and f"  - {FLUX}: " in third.output
    assert f'  ~ {CODER}: id "{CODER}" → "{CODER}-Turbo"' in third.output
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert [name for name in after if after[name] != before[name]] == ["together.yaml"]


def test_a_dry_run_writes_nothing_at_all(hub: Hub, tmp_path: Path) -> None:
    out = tmp_path / "tables"
    result = sync(hub, out, "--dry-run")
    assert result.exit_code == 0 and "3 new" in result.output and "nothing written" in result.output
    assert not out.exists()


def test_what_the_router_does_not_price_is_priced_from_the_list_or_not_at_all(hub: Hub, tmp_path: Path) -> None:
    sync(hub, tmp_path, "--provider", "groq", "--provider", "huggingface")
    price = rows_of(tmp_path / "groq.yaml")[LLAMA].price
    assert price["input"] and price["output"], "the router's 0 is not said to be free, so it is no price"
    router = rows_of(tmp_path / "huggingface.yaml")[LLAMA]
    assert router == Row(LLAMA, "conversational", can=frozenset({"vision"}))


def test_a_provider_that_the_hub_has_no_more_keeps_its_table(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "nebius.yaml").write_text("provider: nebius\nmodels: {a/b: {id: b, task: conversational}}\n")
    result = sync(hub, tmp_path, "--provider", "nebius", "--provider", "nscale")
    assert "nebius: 1 models; no change, the Hub lists nothing of it; its table stays as it is" in result.output
    assert "nscale: 0 models" in result.output
    assert list(rows_of(tmp_path / "nebius.yaml")) == ["a/b"] and not (tmp_path / "nscale.yaml").exists()


def test_a_sync_that_broke_off_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.cut_at = "cursor=2"
    broken = sync(hub, tmp_path, *ONLY)
    assert broken.exit_code == 1 and "cannot be reached" in broken.output
    assert os.listdir(tmp_path) == [".sync.partial"], "no table by halves"
    with (tmp_path / ".sync.partial").open("a") as file:
        file.write('{"provider": "together", "models": [{"id": "cut/of')  # killed in the middle of a line
    hub.cut_at = ""
    hub.asked.clear()
    whole = sync(hub, tmp_path, *ONLY)
    assert whole.exit_code == 0, whole.output
    pages = [each for each in hub.asked if "/api/models" in each]
    assert len(pages) == 1 and pages[0].endswith("cursor=2")
    assert set(rows_of(tmp_path / "together.yaml")) == {LLAMA, CODER, FLUX}
    assert os.listdir(tmp_path) == ["together.yaml"]


def test_what_was_kept_of_another_hub_or_long_ago_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / ".sync.partial"
    kept = listing.Kept(path, "http://one")
    kept.keep("together", ([{"id": "a/b"}], "http://one/next"))
    assert listing.Kept(path, "http://one").pages("together") == [([{"id": "a/b"}], "http://one/next")]
    assert listing.Kept(path, "http://two").pages("together") == [] and not path.exists()
    kept.keep("together", ([], ""))
    later = path.stat().st_mtime + listing.OLDEST + 1
    assert listing.Kept(path, "http://one", now=later).pages("together") == [] and not path.exists()
    path.write_text("[]\n")
    assert listing.Kept(path, "http://one").pages("together") == [] and not path.exists()


def test_a_refusal_is_waited_out_as_long_as_it_asks(hub: Hub, tmp_path: Path, waits: list[float]) -> None:
    hub.faults = [(429, {"retry-after": "7"}, b""), (503, {}, b"busy"), (429, {"retry-after": "86400"}, b"")]
    assert sync(hub, tmp_path, *ONLY).exit_code == 0
    assert waits[0] == 7.0 and 1.0 <= waits[1] <= 2.0 and waits[2] == client.LONGEST_WAIT


def test_a_hub_that_refuses_for_good_is_asked_so_often_and_no_more(
    hub: Hub, tmp_path: Path, waits: list[float]
) -> None:
    hub.faults = [(503, {}, b"")] * 50
    result = sync(hub, tmp_path, *ONLY)
    assert result.exit_code == 1 and f"answered 503, {client.TRIES} times" in result.output
    assert len(hub.asked) == client.TRIES and len(waits) == client.TRIES - 1
    hub.faults = [(401, {}, b"")]
    hub.asked.clear()
    assert "answered 401" in sync(hub, tmp_path, *ONLY).output and len(hub.asked) == 1


@pytest.mark.parametrize("body", [b"<html>a proxy</html>", b'{"data": ', b"[" * 100_000, b"", b'{"object": "list"}'])
def test_an_answer_that_is_no_list_is_a_line_and_no_table(hub: Hub, tmp_path: Path, body: bytes) -> None:
    hub.faults = [(200, {}, body)]
    result = sync(hub, tmp_path, *ONLY)
    assert result.exit_code == 1 and result.output.count("inference-router: ") == 1
    assert list(tmp_path.iterdir()) == []
    hub.router = ROUTER
    good = hub.answer("/v1/models")
    hub.faults = [good, (200, {}, body)]
    assert sync(hub, tmp_path, *ONLY).exit_code == 1 and not (tmp_path / "together.yaml").exists()


def test_the_token_goes_to_the_hub_alone(hub: Hub, tmp_path: Path) -> None:
    elsewhere = hub.url.replace("127.0.0.1", "localhost")
    words = ["catalog", "sync", "--hub", hub.url, "--router", elsewhere, "--out", str(tmp_path), *ONLY]
    assert CliRunner().invoke(cli.main, words, env={"HF_TOKEN": TOKEN}).exit_code == 0
    assert hub.tokens.pop("/v1/models") == ""
    assert set(hub.tokens.values()) == {f"Bearer {TOKEN}"} and len(hub.tokens) == 3
    hub.next_host = elsewhere
    away = sync(hub, tmp_path, *ONLY, token=TOKEN)
    assert away.exit_code == 1 and "sends on to localhost, which is not followed" in away.output


def test_pages_that_never_end_come_to_an_end(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MOST_PAGES", 2)
    assert "goes on after 2 pages of together" in sync(hub, tmp_path, *ONLY).output


def test_adapters_come_when_they_are_asked_for(hub: Hub, tmp_path: Path) -> None:
    lora = model(
        "a/lora", "together", "t/flux-lora", "text-to-image", adapter="lora", adapterWeightsPath="镜.safetensors"
    )
    hub.pages["together"] = [[lora, model(FLUX, "together", FLUX, "text-to-image")]]
    assert "1 adapters are left out; --adapters takes them too" in sync(hub, tmp_path, *ONLY).output
    assert list(rows_of(tmp_path / "together.yaml")) == [FLUX]
    sync(hub, tmp_path, *ONLY, "--adapters")
    made = rows_of(tmp_path / "together.yaml")["a/lora"]
    assert (made.adapter, made.adapter_weights) == ("lora", "镜.safetensors")


@pytest.mark.parametrize(
    "bad",
    [
        {"id": "../../etc/passwd"},
        {"id": "a/b/c"},
        {"id": 7},
        {"id": "a/b", "inferenceProviderMapping": "x"},
        model("a/b", "together", "https://evil/", "conversational"),
        model("a/b", "together", "a/../b", "conversational"),
        model("a/b", "together", "a/b", "conversational", status="gone"),
        model("a/b", "together", "a/b", "conversational", adapter="lora", adapterWeightsPath="a\x00b"),
        model("a/b", "groq", "a/b", "conversational"),
    ],
)
def test_what_is_not_of_the_form_is_left_out(bad: dict[str, Any]) -> None:
    assert rows.routed([bad, model("a/good", "together", "a/good", "conversational")], "together").keys() == {"a/good"}


def test_facts_that_are_none_are_left_out() -> None:
    place = {"provider": "p", "context_length": -1, "pricing": {"input": float("nan"), "output": "2"}}
    free = {"provider": "q", "pricing": {"input": 0, "output": 0}, "is_free": True}
    facts = rows.facts_of({"data": [{"id": "a/b", "providers": [place, free, "x"]}, {"id": "a/c"}, None]})
    assert facts["p"]["a/b"] == rows.Facts() and facts["q"]["a/b"].price == {"input": 0, "output": 0}
    assert rows.facts_of([]) == rows.facts_of({"data": {}}) == {}


def test_what_the_hub_never_says_is_carried_over(hub: Hub, tmp_path: Path) -> None:
    old = {"id": "x", "task": "text-to-image", "price": {"image": 0.025, "input": 9}, "can": ["prefill", "json"]}
    marks = {"prefix": "<P>", "suffix": "<S>", "middle": "<M>"}
    page = {"provider": "together", "models": {FLUX: {**old, "fim": marks}}}
    (tmp_path / "together.yaml").write_text(yaml.safe_dump(page))
    sync(hub, tmp_path, *ONLY)
    made = rows_of(tmp_path / "together.yaml")[FLUX]
    assert made.price == {"image": 0.025} and made.can == {"prefill"} and made.fim and made.fim.prefix == "<P>"


def test_a_table_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "groq.yaml"
    table.write(path, "groq", {"a/b": Row("b", "conversational")}, "the first")
    before = path.read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            table.write(path, "groq", {}, "the second")
    with monkeypatch.context() as patch:
        patch.setattr(table, "read_tables", lambda _: ({}, ["a fault"]))
        with pytest.raises(catalog.Unavailable, match="does not read back"):
            table.write(path, "groq", {}, "the third")
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["groq.yaml"]


@pytest.mark.parametrize("name", ["NO", "012", "1e3", "null", "~", "12:30", "2026-01-01", "true/false", "a.b/c_d-e"])
def test_no_word_turns_into_something_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / "groq.yaml"
    made = {name: Row(name, "12:30", price={"input": 1e-06, "output": 3}, context=8192, adapter="lora")}
    table.write(path, "groq", made, "a source")
    assert rows_of(path) == made
    assert table.text("groq", made, "a source") == path.read_text(), "the same rows make the same file"


def test_it_asks_before_it_writes_where_someone_can_answer(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def no(question: str) -> bool:
        asked.append(question)
        return False

    monkeypatch.setattr(cli, "_at_a_terminal", lambda: True)
    monkeypatch.setattr(click, "confirm", no)
    assert "nothing written" in sync(hub, tmp_path, *ONLY).output
    assert asked == [f"Write 1 tables to {tmp_path}?"] and os.listdir(tmp_path) == []
    assert "1 tables written" in sync(hub, tmp_path, *ONLY, "--yes").output and len(asked) == 1


def test_there_must_be_a_place_to_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INFERENCE_ROUTER_CONFIG", raising=False)
    result = CliRunner().invoke(cli.main, ["catalog", "sync"])
    assert result.exit_code == 2 and "name one with --config, or --out DIR" in result.output


def test_tables_lie_beside_the_configuration_and_over_the_shipped_ones(hub: Hub, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        'tables: ["builtin:*.yaml", "tables/*.yaml"]\nupstreams: {together: {provider: together, keys: [x]}}\n'
    )
    words = ["catalog", "sync", "--hub", hub.url, "--router", hub.url, "--config", str(file), *ONLY]
    assert CliRunner().invoke(cli.main, words).exit_code == 0
    assert rows_of(tmp_path / "tables" / "together.yaml")[LLAMA].context == 131072
    assert CliRunner().invoke(cli.main, ["check", str(file)]).exit_code == 0


def test_a_date_says_when_to_come_again() -> None:
    assert client.waited({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert client.waited({"retry-after": "Fri, 21 Oct 2095 07:28:00 GMT"}) or 0 > 1e6
    assert client.waited({"retry-after": "soon"}) is client.waited({}) is None
