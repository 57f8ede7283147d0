"""Every provider, by its golden cases: what a caller sent, and the exact request that must go out for it.

A case of a play gives what is asked (`ask`) and what each request in turn is answered (`replies`), and says all that
goes out (`sends`: requests with the key, and `fetch` without it) and how it ends: with a `result`, or what it `fails`
with. A file is `{file: base64, mime: …}`, a caller's URL `{link: …}`, a file that is passed on `{fetch: url, mime: …}`.
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import providers
from providers.openai_shaped import PATHS
from providers.spec import (
    OWN,
    Adapt,
    Adapter,
    Ask,
    Blob,
    Failed,
    Fetch,
    Fields,
    Link,
    Play,
    Provider,
    Result,
    Send,
    Unreadable,
    raw,
)
from tests.providers.driving import ended, on_the_wire, play_of, reply_of

ROOT = Path(__file__).parents[2]
CASES = sorted((ROOT / "tests" / "cases").glob("*.yaml"))


def provider_of(name: str) -> Provider:
    provider = providers.find(name)
    assert provider is not None, f"no provider is named {name}"
    return provider


def golden(plays: bool = False) -> list[Any]:
    pages = [(path.stem, yaml.safe_load(path.read_text())) for path in CASES]
    return [
        pytest.param(name, page.get("base_url"), case, id=f"{name}: {case['name']}")
        for name, page in pages
        for case in page["cases"]
        if ("ask" in case) is plays
    ]


def fields_of(body: dict[str, Any]) -> Fields:
    return msgspec.json.decode(msgspec.json.encode(body), type=Fields)


def sent(provider: Provider, adapter: Adapter, case: dict[str, Any]) -> Any:
    """The body that goes out: adapted, and the model exchanged where the dialect has one in its body."""
    fields = fields_of(case["body"])
    if adapter.adapt is not None:
        fields = adapter.adapt(fields)
    if case["dialect"] == "openai":
        fields = fields | {"model": raw(case.get("id", "PROVIDER-ID"))}
    return json.loads(msgspec.json.encode(fields))


@pytest.mark.parametrize(("name", "base_url", "case"), golden())
def test_exactly_this_request_goes_out(name: str, base_url: str | None, case: dict[str, Any]) -> None:
    provider = provider_of(name)
    adapter = provider.adapters[case["task"], case["dialect"]]
    if "refuses" in case:
        with pytest.raises(Unreadable) as refused:
            sent(provider, adapter, case)
        assert refused.value.param == case["refuses"] and case["refuses"] in refused.value.message
        return
    base = base_url or provider.base_url
    assert base is not None
    model = case.get("id", "PROVIDER-ID")
    path = adapter.stream_path if case.get("stream") and adapter.stream_path else adapter.path
    header, prefix = provider.auth
    headers = {key: value.replace("{id}", model) for key, value in provider.headers.items()}
    assert base + path.replace("{id}", quote(model)) == case["url"]
    assert {**headers, header: f"{prefix}KEY"} == case["headers"]
    if case["body"] == "upload":
        assert adapter.adapt is None, "an upload is streamed; nothing reads its fields"
    else:
        assert sent(provider, adapter, case) == case["sends"]


def file_of(value: Any) -> Any:
    """Files as a case writes them → as a play has them."""
    if isinstance(value, dict):
        if "file" in value:
            return Blob(base64.b64decode(value["file"]), value.get("mime", ""))
        return Link(value["link"]) if "link" in value else {name: file_of(each) for name, each in value.items()}
    return [file_of(each) for each in value] if isinstance(value, list) else value


def written(step: Any, provider: Provider, provider_id: str) -> Any:
    """A step or a result as a case writes it."""
    if isinstance(step, Send):
        sent = on_the_wire(provider, step, provider_id)
        return {name: value for name, value in sent.items() if name != "body" or value is not None}
    if isinstance(step, Fetch):
        return {"fetch": step.url} | ({"mime": step.mime} if step.mime else {})
    if isinstance(step, Blob):
        return {"file": base64.b64encode(step.data).decode(), "mime": step.mime}
    return step


@pytest.mark.parametrize(("name", "base_url", "case"), golden(plays=True))
def test_exactly_these_requests_go_out_and_this_comes_of_them(
    name: str, base_url: str | None, case: dict[str, Any]
) -> None:
    provider = provider_of(name)
    given = case["ask"]
    provider_id = case.get("id", "PROVIDER-ID")
    ask = Ask(
        case["task"],
        file_of(given.get("inputs")),
        file_of(given.get("parameters", {})),
        provider_id=provider_id,
        model=given.get("model", "org/model"),
        adapter=given.get("adapter"),
        adapter_weights=given.get("adapter_weights"),
    )
    replies = [file_of(reply) for reply in case.get("replies", [])]
    script = [reply_of(each.data, each.mime) if isinstance(each, Blob) else reply_of(each) for each in replies]
    steps, end = ended(play_of(provider, ask), script)
    assert [written(step, provider, provider_id) for step in steps if isinstance(step, Send | Fetch)] == case["sends"]
    if isinstance(end, Failed):
        assert {"status": end.status, "code": end.code, "message": end.message} == case["fails"]
    else:
        assert isinstance(end, Result) and "fails" not in case
        assert written(end.value, provider, provider_id) == case["result"]


@pytest.mark.parametrize("name", providers.names())
def test_every_adapter_has_a_golden_case(name: str) -> None:
    page = yaml.safe_load((ROOT / "tests" / "cases" / f"{name}.yaml").read_text())
    assert {(case["task"], case["dialect"]) for case in page["cases"]} == set(provider_of(name).adapters)


def test_every_file_of_cases_is_a_providers() -> None:
    assert {path.stem for path in CASES} == set(providers.names())


@pytest.mark.parametrize("name", providers.names())
def test_a_provider_is_named_as_its_file_and_speaks_plainly(name: str) -> None:
    provider = provider_of(name)
    assert provider.name == name
    assert provider.base_url is None or provider.base_url.startswith("https://")
    assert provider.base_url is None or not provider.base_url.endswith("/")
    assert all(adapter.path.startswith("/") or adapter.play for adapter in provider.adapters.values())
    assert all((dialect == OWN) is (adapter.play is not None) for (_, dialect), adapter in provider.adapters.items())
    assert all(origin.startswith("https://") and origin.count("/") == 2 for origin in provider.origins)
    assert all(key == key.lower() for key in (*provider.headers, provider.auth[0]))
    assert not provider.needs_key or provider.env, "a key that is needed has a place where users keep it"


def test_a_name_that_is_no_provider_is_not_imported() -> None:
    for name in ("spec", "sse", "openai_shaped", "response-format", "dialects", "../tgi", "tgi.", "", "os"):
        assert providers.find(name) is None


def test_no_two_providers_claim_the_same_beginning_of_a_key() -> None:
    claimed = [prefix for name in providers.names() for prefix in provider_of(name).key_prefixes]
    assert len(claimed) == len(set(claimed))
    assert not [(a, b) for a in claimed for b in claimed if a != b and b.startswith(a)]


def test_the_generic_provider_has_every_openai_task_below_a_base_url_that_ends_in_v1() -> None:
    openai = provider_of("openai")
    assert openai.tasks() == set(PATHS)
    assert openai.base_url == "https://api.openai.com/v1"
    assert not any(adapter.path.startswith("/v1") for adapter in openai.adapters.values())


ADAPTS = [
    pytest.param(adapter.adapt, id=f"{name} {task}")
    for name in providers.names()
    for (task, _), adapter in provider_of(name).adapters.items()
    if adapter.adapt is not None
]
READ = ("response_format", "stop", "top_p", "presence_penalty", "logit_bias", "store", "stream_options")


@pytest.mark.parametrize("adapt", ADAPTS)
def test_what_it_does_not_know_goes_on_byte_for_byte_and_the_callers_fields_stay_as_they_were(adapt: Adapt) -> None:
    odd = msgspec.Raw(b'{"a": 1.0e5,  "b":"\\u00e9"}')
    schema = {"type": "json_schema", "json_schema": {"schema": odd}}
    fields = {"x": odd, "stop": raw("a"), "top_p": raw(1), "store": raw(True), "response_format": raw(schema)}
    before = {name: bytes(value) for name, value in fields.items()}
    after = adapt(fields)
    assert bytes(after["x"]) == bytes(odd)
    assert bytes(odd) in bytes(after["response_format"]), "a schema is never read, so never written anew"
    assert {name: bytes(value) for name, value in fields.items()} == before


def outcome(adapt: Adapt, fields: Fields) -> tuple[Fields | None, str]:
    """What came out, or the field that was refused. Any other exception would be an answer of 500."""
    try:
        return adapt(fields), ""
    except Unreadable as refused:
        return None, refused.param


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("type", "json_schema", "schema", "strict", "value", "k")), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("adapt", ADAPTS)
@settings(max_examples=60, deadline=None)
@given(body=st.dictionaries(st.sampled_from(READ), json_values))
def test_any_json_in_a_field_is_adapted_passed_or_refused_by_name(adapt: Adapt, body: dict[str, Any]) -> None:
    fields = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in body.items()}
    adapted, refused = outcome(adapt, fields)
    assert refused in body if adapted is None else json.loads(msgspec.json.encode(adapted)) is not None


@pytest.mark.parametrize("adapt", ADAPTS)
def test_a_number_that_no_machine_can_hold_is_the_providers_to_refuse(adapt: Adapt) -> None:
    for name in READ:
        for text in (b"1e999", b"[1e999]", b'{"type": 1e999}', b'{"type": "json_schema", "json_schema": 1e999}'):
            adapted, refused = outcome(adapt, {name: msgspec.Raw(text)})
            assert adapted is not None or refused == name


PLAYS = [
    pytest.param(name, task, adapter.play, id=f"{name} {task}")
    for name in providers.names()
    for (task, _), adapter in provider_of(name).adapters.items()
    if adapter.play is not None
]
SAID = ("data", "status", "urls", "get", "output", "outputs", "images", "url", "id", "detail", "response_url", "text")
a_reply = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(("", "succeeded", "COMPLETED", "completed", "/a", "b")),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(SAID), inner, max_size=5),
    max_leaves=12,
)


@pytest.mark.parametrize(("name", "task", "play"), PLAYS)
@settings(max_examples=20, deadline=None)
@given(replies=st.lists(a_reply, min_size=8, max_size=8), file=st.booleans())
def test_whatever_a_provider_answers_a_play_ends_or_asks_again_at_its_own_host(
    name: str, task: str, play: Callable[[Ask], Play], replies: list[Any], file: bool
) -> None:
    playing = play(
        Ask(task, Blob(b"\x89PNG\r\n\x1a\n") if file else "hi", {"prompt": "hi"}, "owner/app/x", "org/model")
    )
    try:
        step = next(playing)
        for reply in replies:
            if isinstance(step, Send):
                on_the_wire(provider_of(name), step, "owner/app/x")
            step = playing.send(reply_of(reply))
    except (StopIteration, Failed, ValueError, LookupError, TypeError, AttributeError):
        pass  # the router takes each but the first two for an answer that is none
