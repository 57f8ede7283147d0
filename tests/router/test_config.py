"""config.yaml: what it may say, and how every fault of it is told at once, with its place and never with a secret."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import providers
from router import config
from router.config import ConfigFaults, Loaded, checks
from router.config.environment import fill
from router.config.strict_yaml import Unreadable, parse
from router.keys import Keyring
from router.settings import Money, Rate

ROOT = Path(__file__).parents[2]
CANARY = "sk-canary-0123456789abcdef"

# The contract's example, but for `painter`, whose provider is not there yet.
EXAMPLE = """
server:   {host: 127.0.0.1, port: 8080, workers: 1, max_body: 20MiB, max_upload: 200MiB, drain: 30s}
auth:
  mode: keys
  admin_key: ${ROUTER_ADMIN_KEY:-}
plans:
  free: {requests: 300/hour, models: ["*"], not_models: ["meta-llama/*-70B-*"]}
  pro:  {requests: 20000/hour, tokens: 2000000/hour, concurrency: 32, budget: 20 USD/month}
virtual_keys:
  - {name: alice, key: "${ALICE_KEY}", plan: pro}
upstreams:
  local-tgi: {provider: tgi, base_url: "http://127.0.0.1:8081"}
  vllm:      {provider: openai, base_url: "http://127.0.0.1:8000/v1", models: discover}
  together:  {provider: together, keys: ["${TOGETHER_API_KEY:-}", "${TOGETHER_API_KEY_2:-}"]}
  azure-ish: {provider: openai, base_url: "https://example.com/v1", keys: [k], headers: {x-team: a}, \
timeouts: {connect: 5s, first_event: 10s, silence: 15s, last_candidate: 120s, total: 10m}}
tables: [providers/tables/*.yaml]
models:
  meta-llama/Llama-3.1-8B-Instruct:
    task: conversational
    policy: ordered
    deployments:
      - {upstream: local-tgi}
      - {upstream: together, provider_id: meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo, weight: 2}
  gpt-4o: {alias: meta-llama/Llama-3.1-8B-Instruct}
retry:   {tries_per_deployment: 2, rotations: 4, deployments: 3, backoff: {first: 250ms, most: 8s, jitter: full}, \
honour_retry_after: 20s, attempts: 6, budget: 20%, splice: true}
rest:    {after: 3 failures/10s, first: 1s, most: 60s}
cache:   {max_bytes: 256MiB, ttl: 10m, tasks: [text-generation, text-to-image, feature-extraction]}
stores:  {shared: memory, ledger: "sqlite:///router.db"}
telemetry: {metrics: true, listen: "", otlp: "${OTEL_EXPORTER_OTLP_ENDPOINT:-}", log: json}
"""


def load(tmp_path: Path, text: str, env: dict[str, str] | None = None, **server: Any) -> Loaded:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return config.load(path, env or {}, server)


def faults(tmp_path: Path, text: str, env: dict[str, str] | None = None, **server: Any) -> list[str]:
    with pytest.raises(ConfigFaults) as caught:
        load(tmp_path, text, env, **server)
    assert CANARY not in str(caught.value)
    return list(caught.value.faults)


def test_the_example_of_the_contract_means_what_it_says(tmp_path: Path) -> None:
    loaded = load(tmp_path, EXAMPLE, {"ALICE_KEY": CANARY, "TOGETHER_API_KEY": "tgp_v1_canary"})
    made = loaded.config
    assert list(made.upstreams) == ["local-tgi", "vllm", "together", "azure-ish"]
    assert made.server.max_body == 20 * 2**20 and made.server.drain == 30.0
    assert made.plans["free"].requests == Rate(300, 3600.0) and made.plans["pro"].budget == Money(20.0, "month")
    assert [key.reveal() for key in made.upstreams["together"].keys if key] == ["tgp_v1_canary"]
    assert made.upstreams["azure-ish"].timeouts.total == 600.0
    assert made.retry.backoff.first == 0.25 and made.retry.budget == 0.2
    route = config.table_of(loaded).route("gpt-4o")
    assert route is not None and [each.upstream for each in route.deployments] == ["local-tgi", "together"]
    assert Keyring(made.auth, made.plans, made.virtual_keys).tenants() == ["alice", "anonymous"]
    for shown in (repr(loaded), str(made), made.model_dump_json(), *loaded.notices):
        assert "canary" not in shown


def test_what_this_version_does_not_do_is_said(tmp_path: Path) -> None:
    loaded = load(tmp_path, EXAMPLE, {"ALICE_KEY": CANARY, "TOGETHER_API_KEY": "k"})
    said = [each for each in loaded.notices if "not enforced" in each]
    assert said == [], "an empty setting asks for nothing"
    other = EXAMPLE.replace('"${OTEL_EXPORTER_OTLP_ENDPOINT:-}"', "http://127.0.0.1:4318")
    loaded = load(tmp_path, other, {"ALICE_KEY": CANARY, "TOGETHER_API_KEY": "k"})
    assert any("telemetry.otlp is accepted but not enforced" in each for each in loaded.notices)


def test_the_shipped_file_starts_without_a_key_and_asks_for_nothing_that_is_not_there() -> None:
    loaded = config.load(config.SHIPPED, {})
    local = ["tgi", "vllm", "llama-cpp", "ollama", "tei", "painter", "reader"]
    assert list(loaded.config.upstreams) == [*local, "sandbox"]
    assert {each.when for name, each in loaded.config.upstreams.items() if name != "sandbox"} == {"answers"}
    assert not any("not enforced" in each or "no file" in each for each in loaded.notices)
    assert config.table_of(loaded).route("sandbox/echo") is not None


def test_the_shipped_file_has_every_hosted_provider_whose_key_is_there() -> None:
    loaded = config.load(config.SHIPPED, {"GROQ_API_KEY": "gsk_1", "HF_TOKEN": "hf_1", "ROUTER_KEY": CANARY})
    assert [name for name in loaded.config.upstreams if name not in loaded.off][7:] == [
        "groq",
        "hf-inference",
        "huggingface",
        "sandbox",
    ]
    written = yaml.safe_load(config.SHIPPED.read_text())["upstreams"]
    assert {each["provider"] for each in written.values()} == {*providers.names()}, "one is not listed"


def test_the_shipped_file_says_of_each_setting_what_it_is_unasked() -> None:
    written = yaml.safe_load(config.SHIPPED.read_text())
    for part in ("server", "auth", "retry", "rest", "idempotency", "stores", "telemetry"):
        shipped = getattr(config.load(config.SHIPPED, {}).config, part)
        assert shipped == type(shipped)(), part
        assert set(written[part]) <= set(type(shipped).model_fields)


def test_what_the_shipped_file_shows_in_its_comments_holds_where_it_is_written(tmp_path: Path) -> None:
    """And every setting of tenants, of keys and of ways in is shown."""
    text = config.SHIPPED.read_text()
    for line in ("plans: {}", "virtual_keys:", "models: {}"):
        text = _uncommented(text, line)
    keys = re.search(r"^#       # - (\{key: .*\})$", text, re.MULTILINE)
    limits = re.search(r"^#     limits: .* such as (\{.*\}):", text, re.MULTILINE)
    assert keys and limits
    text = text.replace('groq, keys: ["${GROQ_API_KEY:-}"]', f"groq, keys: [{keys[1]}], limits: {limits[1]}")
    hub, jwt = text.index("  # hub: {"), text.index("  # jwt:\n")
    ways = [line[4:] for line in text[jwt:].split("\n\n")[0].splitlines()] + [text[hub + 4 :].splitlines()[0]]
    text = text.replace("auth:\n", "auth:\n" + "".join(f"  {line}\n" for line in ways), 1)
    text = text.replace("acme: team, pro: pro", "acme: free, pro: free").replace("gold: pro", "gold: free")
    env = {"ALICE_KEY": CANARY, "KEY": "gsk_1", "GROQ_API_KEY": "gsk_1", "TOGETHER_API_KEY": "k"}
    made = load(tmp_path, text, env).config
    assert made.virtual_keys[0].owner == "acme" and made.auth.jwt is not None and made.auth.hub.plans
    assert made.upstreams["groq"].keys[0].weight == 2 and made.upstreams["groq"].limits.requests is not None
    price = next(iter(made.models.values())).deployments[0].price
    assert price is not None and price.output == 0.04
    for shown in (made.plans["free"], made.virtual_keys[0], made.auth.jwt, made.auth.hub):
        left_out = set(type(shown).model_fields) - shown.model_fields_set
        assert left_out <= {"key_sha256"}, left_out


def _uncommented(text: str, key: str) -> str:
    """With the example right above a section as what stands in it."""
    lines = text.splitlines()
    at = lines.index(key)
    first = at
    while lines[first - 1].startswith("#   "):
        first -= 1
    shown = [line.removeprefix("# ") for line in lines[first:at]]
    return "\n".join([*lines[:first], key.removesuffix(" {}"), *shown, *lines[at + 1 :]]) + "\n"


def test_openais_own_models_are_not_looked_for_on_compatible_servers(tmp_path: Path) -> None:
    text = """
upstreams:
  vllm: {provider: openai, base_url: "http://127.0.0.1:8000/v1", models: [mine]}
  openai: {provider: openai, keys: [k]}
"""
    table = config.table_of(load(tmp_path, text))
    assert [each.upstream for each in getattr(table.route("gpt-4o"), "deployments", ())] == ["openai"]
    assert [each.upstream for each in getattr(table.route("mine"), "deployments", ())] == ["vllm"]


def test_all_faults_come_at_once_each_with_its_place_and_a_suggestion(tmp_path: Path) -> None:
    text = """
server: {prot: 8080, workers: many, host: 5}
upstreams:
  gorq: {provider: gorq}
  local: {provider: tgi, base_url: "http://127.0.0.1:8081", models: discovr, timeouts: {conect: 5s}}
models:
  a.b: {policy: orderd, deployments: [{upstream: local}]}
retry: {budget: lots, attempts: 0}
"""
    assert sorted(faults(tmp_path, text)) == [
        'config.yaml models["a.b"].policy: expected ordered, weighted, fastest, cheapest or least_busy; '
        'did you mean "ordered"?',
        "config.yaml retry.attempts: expected greater than or equal to 1",
        "config.yaml retry.budget: expected a share such as 20% or 0.2",
        "config.yaml server.host: expected text; write it in quotes",
        'config.yaml server.prot: there is no setting "prot"; did you mean "port"?',
        "config.yaml server.workers: expected a valid integer",
        'config.yaml upstreams.gorq.provider: no provider is named "gorq"; did you mean "groq"?',
        'config.yaml upstreams.local.models: expected discover; did you mean "discover"?, or expected a list (`[…]`)',
        'config.yaml upstreams.local.timeouts.conect: there is no setting "conect"; did you mean "connect"?',
    ]


def test_names_that_name_nothing_are_faults_with_what_was_meant(tmp_path: Path) -> None:
    text = """
plans: {free: {}}
virtual_keys:
  - {name: alice, key: sk-canary-0123456789abcdef, plan: fre, user_keys: {togehter: k}}
  - {name: alice, key: sk-canary-0123456789abcdef}
upstreams:
  gorq: {provider: gorq}
  local: {provider: tgi}
  bad name: {provider: sandbox, base_url: "http://127.0.0.1:1"}
  together: {provider: together, keys: [k], headers: {Authorization: x, "b d": x, ok: "a\\r\\nb"}, tls: {ca: none.pem}}
models:
  m: {deployments: [{upstream: locl}]}
  n: {}
  both: {alias: m, deployments: [{upstream: local}]}
  "x*": {alias: m}
  a: {alias: b}
  b: {alias: a}
  t: {task: conversatonal, deployments: [{upstream: local}]}
default_models: {embedings: m}
cache: {tasks: [conversational, text-to-imag]}
tables: [nowhere.yaml]
"""
    assert [each.removeprefix("config.yaml ") for each in faults(tmp_path, text)] == [
        'upstreams.gorq.provider: no provider is named "gorq"; did you mean "groq"?',
        "upstreams.local.base_url: is missing: tgi has no address of its own",
        'upstreams["bad name"]: is no name for an upstream: letters, digits, `.`, `_`, `-`, and not a policy\'s name',
        'upstreams["bad name"].base_url: is not for the sandbox, which listens where it likes',
        "upstreams.together.headers.Authorization: is a header that the router writes itself; keys go into `keys`",
        'upstreams.together.headers["b d"]: is no name for a header',
        "upstreams.together.headers.ok: has characters that cannot be sent in a header",
        "upstreams.together.tls.ca: there is no such file",
        'virtual_keys[0].plan: no plan is named "fre"; did you mean "free"?',
        'virtual_keys[0].user_keys.togehter: is neither an upstream nor a provider of one; did you mean "together"?',
        'virtual_keys[1].name: "alice" stands twice',
        "virtual_keys[1].key: is also the key of alice",
        'models.m.deployments[0].upstream: no upstream is named "locl"; did you mean "local"?',
        "models.n: has neither deployments nor alias",
        "models.both: has both alias and deployments",
        'models["x*"].alias: a pattern cannot be an alias',
        "models.a.alias: runs in a ring: a → b → a",
        "models.b.alias: runs in a ring: b → a → b",
        'models.t.task: no provider has a task "conversatonal"; did you mean "conversational"?',
        'default_models.embedings: no provider has a task "embedings"',
        'cache.tasks[1]: no provider has a task "text-to-imag"; did you mean "text-to-image"?',
        "tables[0]: there is no file nowhere.yaml",
    ]


def test_an_alias_ends_somewhere(tmp_path: Path) -> None:
    text = "upstreams: {s: {provider: sandbox}}\nmodels: {a: {alias: sandbox/ecoh}, b: {alias: sandbox/echo}}\n"
    text += "default_models: {text-generation: nobody}"
    assert faults(tmp_path, text) == [
        'config.yaml models.a.alias: no model is named "sandbox/ecoh"; did you mean "sandbox/echo"?',
        'config.yaml default_models.text-generation: no model is named "nobody"',
    ]
    discovering = text.replace("}}\nm", '}, v: {provider: tgi, base_url: "http://h", models: discover}}\nm')
    load(tmp_path, discovering)  # what it will list cannot be known


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8081",
        "ftp://host",
        "http://",
        "http://host:0",
        "http://host:99999",
        "http://user:sk-canary-0123456789abcdef@host",
        "http://host/v1?key=sk-canary-0123456789abcdef",
        "http://host/#x",
        "http://host/a/../b",
        "http://host//v1",
        "http://host/%2e%2e",
        "http://host/a b",
        "http://ho st",
        "http://[::1",
    ],
)
def test_a_base_url_has_no_tricks_in_it(tmp_path: Path, url: str) -> None:
    (fault,) = faults(tmp_path, f"upstreams: {{x: {{provider: openai, base_url: '{url}'}}}}")
    assert fault.startswith("config.yaml upstreams.x.base_url: ")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/v1", "https://a.example.com", "http://[::1]:80/x/", "http://tgi"]
)
def test_a_plain_base_url_is_fine(tmp_path: Path, url: str) -> None:
    assert "x" in load(tmp_path, f"upstreams: {{x: {{provider: openai, base_url: '{url}'}}}}").config.upstreams


def test_variables_fill_values_once_and_a_missing_one_is_named(tmp_path: Path) -> None:
    text = """
server: {port: "${PORT:-9000}", host: "${HOST}"}
virtual_keys: [{name: a, key: "${ABSENT_KEY}"}, {name: b, key: "${ABSENT_KEY}"}]
upstreams: {"${HOST}": {provider: sandbox, headers: {x-a: "${open"}}}
"""
    assert [each.removeprefix("config.yaml ") for each in faults(tmp_path, text, {"HOST": "127.0.0.1"})] == [
        "virtual_keys[0].key: the environment has no ABSENT_KEY; set it, or write ${ABSENT_KEY:-} if it may be empty",
        "virtual_keys[1].key: the environment has no ABSENT_KEY; set it, or write ${ABSENT_KEY:-} if it may be empty",
        'upstreams["${HOST}"].headers.x-a: has a `${` that is neither ${NAME} nor ${NAME:-default}',
        'upstreams["${HOST}"]: is no name for an upstream: letters, digits, `.`, `_`, `-`, and not a policy\'s name',
    ]
    made = load(tmp_path, 'server: {port: "${PORT:-9000}"}', {"PORT": "7000"}).config
    assert made.server.port == 7000


def test_what_a_variable_holds_is_only_text() -> None:
    filled = fill({"a": "${X}", "b": ["${X}-${Y:-${X}"], "c": 5}, {"X": "${Y}: [x]\nz: 1"})
    assert filled.value["a"] == "${Y}: [x]\nz: 1"
    assert filled.value["c"] == 5
    assert fill("${X:-d}", {"X": ""}).value == "d" and fill("${X}", {"X": ""}).faults == {}


def test_an_empty_key_switches_its_upstream_off_and_the_variable_is_named(tmp_path: Path) -> None:
    text = """
upstreams:
  together: {provider: together, keys: ["${TOGETHER_API_KEY:-}", "${SECOND:-}"]}
  groq: {provider: groq}
  proxy: {provider: openai, base_url: "https://example.com/v1", keys: ["${PROXY_KEY:-}"]}
  free: {provider: openai, base_url: "https://example.com/v1"}
models: {m: {deployments: [{upstream: together}, {upstream: free}]}}
"""
    loaded = load(tmp_path, text)
    assert list(loaded.config.upstreams) == ["free"]
    assert loaded.off["together"].reason == "it has no key (TOGETHER_API_KEY or SECOND)"
    assert loaded.notices == (
        "off for want of a key: together (TOGETHER_API_KEY or SECOND), groq (GROQ_API_KEY), proxy (PROXY_KEY)",
    )


def test_an_upstream_without_a_key_stays_for_callers_who_bring_theirs(tmp_path: Path) -> None:
    text = "upstreams: {groq: {provider: groq}, together: {provider: together}}\n"
    text += f"virtual_keys: [{{name: a, key: {CANARY}, user_keys: {{groq: gsk_canary}}}}]"
    loaded = load(tmp_path, text)
    assert list(loaded.config.upstreams) == ["groq"]
    assert "upstreams.groq has no key of its own; it serves callers who bring theirs" in loaded.notices
    assert len(load(tmp_path, text + "\nauth: {user_keys: true}").config.upstreams) == 2


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", "127.0.0.1.example.com"])
def test_beyond_loopback_a_key_is_needed(tmp_path: Path, host: str) -> None:
    text = 'upstreams: {s: {provider: sandbox}}\nvirtual_keys: [{name: a, key: "${ROUTER_KEY:-}"}]\n'
    (fault,) = faults(tmp_path, text, host=host)
    assert fault.startswith("config.yaml server.host: other machines could reach it") and "set ROUTER_KEY" in fault
    loaded = load(tmp_path, text, {"ROUTER_KEY": CANARY}, host=host)
    assert loaded.config.server.host == host
    assert loaded.off["s"].reason == "the sandbox is for loopback only"
    load(tmp_path, text + "auth: {mode: open}", host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_on_loopback_none_is(tmp_path: Path, host: str) -> None:
    assert "s" in load(tmp_path, "upstreams: {s: {provider: sandbox}}", host=host).config.upstreams


def test_tables_of_ones_own_lie_over_the_shipped_ones_and_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    own = tmp_path / "tables" / "mine.yaml"
    own.write_text("provider: groq\nmodels: {me/mine: {id: mine, price: {input: 1}}}")
    text = "upstreams: {groq: {provider: groq, keys: [k]}}"
    loaded = load(tmp_path, text)
    assert config.table_files(loaded.config, loaded.path)[-1] == own
    assert loaded.tables["groq"]["me/mine"].price == {"input": 1} and len(loaded.tables["groq"]) > 1
    own.write_text("provider: gorq\nmodels: {}")
    assert faults(tmp_path, text) == ['mine.yaml provider: no provider is named "gorq"; did you mean "groq"?']
    own.write_text("provider: groq\nmodels: {a/b: {id: 5}, c: {id: c, prize: {}}, d: {id: d}, d: {id: e}}")
    assert faults(tmp_path, text) == ["mine.yaml line 2: the key 'd' stands twice; first on line 2"]
    own.write_text("provider: groq\nmodels: {a/b: {id: 5}, c: {id: c, prize: {}}}")
    assert faults(tmp_path, text) == [
        'mine.yaml models["a/b"]: Expected `str`, got `int` - at `$.id`',
        "mine.yaml models.c: Object contains unknown field `prize`",
    ]


def test_relative_paths_are_taken_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    text = 'upstreams: {x: {provider: openai, base_url: "https://h", tls: {ca: ca.pem}}}'
    assert load(tmp_path, text).config.upstreams["x"].tls.ca == str(tmp_path / "ca.pem")


def test_the_file_is_looked_for_in_four_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.located(None, {}) == config.SHIPPED
    Path("config.yaml").write_text("")
    assert config.located(None, {}) == Path("config.yaml")
    assert config.located(None, {"INFERENCE_ROUTER_CONFIG": "/a.yaml"}) == Path("/a.yaml")
    assert config.located(Path("b.yaml"), {"INFERENCE_ROUTER_CONFIG": "/a.yaml"}) == Path("b.yaml")
    assert config.load(None, {}).config == config.Config()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("server: {}\nserver: {}", "line 2: the key 'server' stands twice; first on line 1"),
        ("a: !!python/object/apply:os.system [ls]", "line 1: tags (`!name`) are not read here"),
        ("a: &a [*a]", "line 1: is nested more deeply than any setting is"),
        ("<<: {a: 1}", "line 1: merge keys (`<<`) are not read here; write the settings out"),
        ("? [1]\n: 2", "line 1: a key is a word, not a list or a mapping"),
        ("a: " + "1" * 5000, "line 1: is no int that fits"),
        ("a: !!int sk-canary-0123456789abcdef", "line 1: is no int that fits"),
        ("a: &x []\nb: [" + "*x, " * 101 + "]", "line 1: there are more than 100 aliases (`*name`)"),
    ],
)
def test_yaml_that_could_be_read_two_ways_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    assert faults(tmp_path, text) == [f"config.yaml {fault}"]


@pytest.mark.parametrize("text", ["a: [", "a: *x", "a: b: c", "a: \x00", "a: 1\n---\nb: 2", "[" * 5000, "a: '"])
def test_what_is_no_yaml_is_one_line(tmp_path: Path, text: str) -> None:
    (fault,) = faults(tmp_path, f"# {CANARY}\nsecret: {CANARY}\n{text}")
    assert fault.startswith("config.yaml ") and "\n" not in fault


def test_a_section_whose_lines_are_all_commented_out_is_an_empty_one(tmp_path: Path) -> None:
    assert load(tmp_path, "models:\n  # a: b\nserver:\n", port=9000).config.server.port == 9000


def test_a_file_that_is_no_settings_is_one_line(tmp_path: Path) -> None:
    assert faults(tmp_path, "- a") == ["config.yaml: expected settings (`name: value`)"]
    with pytest.raises(ConfigFaults, match=r"nowhere\.yaml: cannot be read: No such file"):
        config.load(tmp_path / "nowhere.yaml", {})
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(ConfigFaults, match="it is not UTF-8"):
        config.load(tmp_path / "latin.yaml", {})


def test_aliases_cannot_swell_a_file() -> None:
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
    bomb += "\n".join(f"a{each}: &a{each} [{', '.join([f'*a{each - 1}'] * 9)}]" for each in range(1, 11))
    with pytest.raises(Unreadable) as caught:
        parse(bomb)
    assert any("make too much of it" in each for each in caught.value.faults)


def test_words_that_yaml_1_1_would_change_stay_as_written() -> None:
    text = "[NO, yes, on, 012, 0x1f, 12:30:45, 2026-01-01, 1_000, .inf, '5', true, ~, 1.5, 10, -3, 1e3]"
    assert parse(text) == [
        *("NO", "yes", "on", "012", "0x1f", "12:30:45", "2026-01-01", "1_000", ".inf", "5"),
        *(True, None, 1.5, 10, -3, 1000.0),
    ]
    assert parse("{on: 1, 4: 2, ~: 3}") == {"on": 1, "4": 2, "~": 3}


@given(st.text(max_size=80))
def test_no_text_is_more_than_refused(text: str) -> None:
    with contextlib.suppress(Unreadable):
        parse(text)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(plain)
def test_json_is_read_as_what_it_is(value: Any) -> None:
    text = json.dumps(value)
    if "\\ud" not in text:  # YAML has no surrogate escapes
        assert parse(text) == value


@given(st.dictionaries(st.sampled_from(sorted(config.Config.model_fields)), plain, max_size=4))
def test_no_settings_are_more_than_refused(tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(json.dumps({"tables": [], **value}, ensure_ascii=True))  # thirty tables take thirty milliseconds
    with contextlib.suppress(ConfigFaults):
        config.load(path, {})


def test_every_secret_is_known_to_the_scrubber(tmp_path: Path) -> None:
    text = f"""
auth: {{admin_key: admin-{CANARY}}}
virtual_keys: [{{name: a, key: virtual-{CANARY}, user_keys: {{groq: user-{CANARY}}}}}]
upstreams:
  groq: {{provider: groq, keys: [pool-{CANARY}], headers: {{x-api-key: header-{CANARY}, x-team: blue}}, \
proxy: "http://me:proxy-{CANARY}@proxy:3128"}}
stores: {{shared: "redis://:redis-{CANARY}@host"}}
"""
    found = {each.removesuffix(CANARY) for each in config.secrets_of(load(tmp_path, text).config)}
    assert found == {"admin-", "virtual-", "user-", "pool-", "header-", "proxy-", "redis-"}


def test_the_shipped_schema_is_that_of_the_settings() -> None:
    assert config.SCHEMA.read_text() == config.schema(), (
        "run `inference-router check --schema > router/config.schema.json`"
    )


def test_the_schema_accepts_what_is_shipped_and_the_example_and_no_typo() -> None:
    schema = json.loads(config.schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    for text in (config.SHIPPED.read_text(), EXAMPLE, 'server: {port: "${PORT}"}'):
        jsonschema.validate(parse(text), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(parse("server: {prot: 1}"), schema)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True), ("localhost", True), ("10.1.2.3", True), ("192.168.0.7", True), ("[fd00::1]", True),
        ("vllm", True), ("gpu.local", True), ("tgi.default.svc.cluster.local", True), ("box.lan", True),
        ("api.together.xyz", False), ("93.184.216.34", False), ("local.example", False), ("", False),
    ],
)  # fmt: skip
def test_a_server_in_one_s_own_network_is_one_s_own(host: str, own: bool) -> None:
    assert checks.of_ones_own(host) is own
