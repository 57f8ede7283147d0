"""Who calls, by what key, and which of our keys is lent next."""

import hashlib
import threading
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from router.errors import Refused
from router.health import Resting
from router.identity import Licence
from router.keypool import KeyPool
from router.keys import ANONYMOUS, AuthSettings, Headers, Identity, Keyring, PlanSettings, Question, VirtualKey
from router.plans import KeyRow, Snapshot, digest_of, mint
from router.secrets import Secret

ALICE = "hf_alicealicealicealice"
BOB = "sk-bobbobbobbobbobbobbob"
ADMIN = "admin-canary-0123456789"


class Clock:
    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def ring(
    keys: list[dict[str, Any]] | None = None,
    plans: dict[str, Any] | None = None,
    *,
    stored: bool = False,
    loopback: bool = True,
    clock: Clock | None = None,
    **auth: Any,
) -> Keyring:
    keys = [{"name": "alice", "key": ALICE, "plan": "free"}] if keys is None else keys
    plans = plans or {"free": {}}
    return Keyring(
        AuthSettings(**auth),
        {name: PlanSettings(**each) for name, each in plans.items()},
        [VirtualKey(**each) for each in keys],
        stored=stored,
        loopback=loopback,
        clock=clock or Clock(),
    )


def row(key: str, name: str = "bob", **more: Any) -> KeyRow:
    given = {"tenant": name, "hint": key[-4:], "settings": "", "created": 0.0, **more}
    return KeyRow(digest_of(key.encode()).hex(), name, **given)


def bearer(value: str) -> Headers:
    return [(b"host", b"x"), (b"authorization", f"Bearer {value}".encode())]


def status_of(keyring: Keyring, headers: Headers) -> int:
    with pytest.raises(Refused) as caught:
        keyring.identify(headers)
    assert ALICE not in str(caught.value.fault)
    return caught.value.fault.status


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer " + ALICE.encode())],
        [(b"authorization", b"bearer " + ALICE.encode())],
        [(b"authorization", b"BEARER   " + ALICE.encode() + b"  ")],
        [(b"x-api-key", ALICE.encode())],
        [(b"api-key", b" " + ALICE.encode())],
        [(b"authorization", b"Bearer " + ALICE.encode()), (b"x-api-key", ALICE.encode())],
    ],
)
def test_a_virtual_key_is_known_in_every_header_that_clients_use(headers: Headers) -> None:
    keyring = ring()
    assert [keyring.identify(headers).tenant for _ in range(2)] == ["alice", "alice"]


def test_the_hash_of_a_key_is_as_good_as_the_key() -> None:
    digest = hashlib.sha256(BOB.encode()).hexdigest()
    keyring = ring([{"name": "bob", "key_sha256": digest.upper()}])
    assert keyring.identify(bearer(BOB)).tenant == "bob"
    assert status_of(keyring, bearer(digest)) == 401


@pytest.mark.parametrize(
    "value",
    [
        b"Bearer",
        b"Bearer ",
        b"",
        b"Basic " + ALICE.encode(),
        ALICE.encode(),
        b"Bearer " + ALICE[:-1].encode(),
        b"Bearer " + ALICE.encode() + b"x",
        b"Bearer " + ALICE.upper().encode(),
        b"Bearer " + ALICE.encode() + b"' OR 1=1--",
        b"Bearer " + ALICE.encode() + b"\x00",
        "Bearer hf_аliceаliceаliceаlice".encode(),  # Cyrillic
        b"Bearer " + b"x" * 60_000,
    ],
)
def test_whatever_is_wrong_with_a_credential_it_is_the_same_401(value: bytes) -> None:
    keyring = ring()
    for _ in range(2):
        assert status_of(keyring, [(b"authorization", value)]) == 401
    assert status_of(keyring, []) == 401


def test_the_same_header_twice_is_400() -> None:
    one = (b"authorization", b"Bearer " + ALICE.encode())
    assert status_of(ring(), [one, one]) == 400
    assert status_of(ring([]), [one, one]) == 400


def test_two_headers_that_disagree_are_no_credential() -> None:
    headers = [(b"authorization", b"Bearer " + ALICE.encode()), (b"x-api-key", BOB.encode())]
    assert status_of(ring(), headers) == 401
    assert status_of(ring(), headers[::-1]) == 401
    assert status_of(ring(), [*headers, (b"api-key", ALICE.encode())]) == 401
    assert ring(user_keys=True, mode="open").identify(headers).user_key is None


def test_a_ring_without_any_key_lets_everybody_in_by_no_name() -> None:
    keyring = ring([{"name": "default", "key": ""}])
    for headers in ([], bearer("sk-anything")):
        identity = keyring.identify(headers)
        assert (identity.tenant, identity.user_key, identity.allows("any/model")) == (ANONYMOUS, None, True)
    assert keyring.tenants() == [ANONYMOUS]


def test_an_open_ring_still_knows_its_keys() -> None:
    keyring = ring(mode="open")
    assert keyring.identify(bearer(ALICE)).tenant == "alice"
    assert keyring.identify(bearer(BOB)).tenant == ANONYMOUS
    assert keyring.identify([]).tenant == ANONYMOUS


def test_an_unknown_bearer_is_the_callers_own_key_only_where_that_is_allowed() -> None:
    identity = ring(user_keys=True).identify(bearer("gsk_canary"))
    assert identity.tenant == ANONYMOUS
    assert identity.user_key == Secret("gsk_canary")
    assert "gsk_canary" not in repr(identity)
    assert ring(user_keys=True).identify(bearer(ALICE)).user_key is None
    assert status_of(ring(user_keys=True), []) == 401
    assert status_of(ring(user_keys=True), bearer("é")) == 401
    assert status_of(ring(), bearer("gsk_canary")) == 401


def test_a_tenants_stored_keys_come_with_it_but_for_the_empty_ones() -> None:
    keyring = ring([{"name": "alice", "key": ALICE, "user_keys": {"groq": "gsk_canary", "together": ""}}])
    identity = keyring.identify(bearer(ALICE))
    assert dict(identity.stored_keys) == {"groq": Secret("gsk_canary")}
    assert "gsk_canary" not in repr(identity)


def test_a_plan_says_which_models() -> None:
    plan = {"models": ["meta-llama/*", "gpt-4o"], "not_models": ["meta-llama/*-70B-*"]}
    identity = ring(plans={"free": plan}).identify(bearer(ALICE))
    assert identity.plan == "free"
    assert identity.allows("meta-llama/Llama-3.1-8B-Instruct") and identity.allows("GPT-4o")
    assert not identity.allows("meta-llama/Llama-3.1-70B-Instruct")
    assert not identity.allows("META-LLAMA/llama-3.1-70b-instruct")
    assert not identity.allows("gpt-4o-mini") and not identity.allows("x/meta-llama/y")
    assert not ring(plans={"free": {"models": []}}).identify(bearer(ALICE)).allows("gpt-4o")


def test_the_admin_key_opens_administration_and_nothing_else() -> None:
    keyring = ring(admin_key=ADMIN)
    assert keyring.is_admin(bearer(ADMIN)) and not keyring.is_admin(bearer(ALICE)) and not keyring.is_admin([])
    assert status_of(keyring, bearer(ADMIN)) == 401
    assert not ring().is_admin(bearer("")) and not ring().is_admin(bearer(ALICE))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"name": "a", "key": "sk-canary"}, "fewer than 20"),
        ({"name": "a"}, "neither key nor key_sha256"),
        ({"name": "a", "key": ALICE, "key_sha256": "0" * 64}, "both key and key_sha256"),
        ({"name": "a", "key_sha256": "0" * 63}, "pattern"),
        ({"name": "a b", "key": ALICE}, "pattern"),
    ],
)
def test_a_virtual_key_that_cannot_be_right_is_a_fault(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        VirtualKey(**entry)
    assert "canary" not in str(caught.value) and ALICE not in str(caught.value)


def test_keys_are_lent_in_turn_and_those_at_rest_passed_over() -> None:
    resting = Resting()
    pool = KeyPool("groq", (Secret("gsk_1"), Secret(""), Secret("gsk_2"), Secret("gsk_3"), Secret("gsk_1")), resting)
    lent = [pool.lend(0.0) for _ in range(4)]
    assert [each.secret.reveal() for each in lent if each] == ["gsk_1", "gsk_2", "gsk_3", "gsk_1"]
    resting.rest(pool.names()[1], until=10.0)
    assert [each.secret.reveal() for _ in range(3) if (each := pool.lend(5.0))] == ["gsk_3", "gsk_1", "gsk_3"]
    resting.rest(pool.names()[0], until=10.0)
    resting.rest(pool.names()[2], until=20.0)
    assert pool.lend(5.0) is None
    assert (each := pool.lend(10.0)) is not None and each.secret.reveal() == "gsk_1"


def test_a_lent_key_is_named_by_its_upstream_and_four_digits_of_its_hash() -> None:
    pool = KeyPool("groq", (Secret("gsk_canary"),), Resting())
    lent = pool.lend(0.0)
    assert lent is not None and lent.upstream == "groq"
    assert lent.name == f"groq/…{hashlib.sha256(b'gsk_canary').hexdigest()[-4:]}" == pool.names()[0]
    assert "canary" not in repr(lent)


def test_a_pool_without_keys_lends_none() -> None:
    pool = KeyPool("local", (Secret(""),), Resting())
    assert pool.lend(0.0) is None and pool.empty and pool.names() == []


def test_an_organisation_is_billed_only_by_those_who_may_have_it_billed() -> None:
    alice = VirtualKey.model_validate({"name": "alice", "key": "hf_of-alice-000000000000000", "orgs": ["acme", "a.b"]})
    ring = Keyring(AuthSettings(), {}, [alice])
    known = ring.identify([(b"authorization", b"Bearer hf_of-alice-000000000000000")])
    assert known.billed(b"acme") == "acme"
    for other in (b"evil", b"", b"ACME", b"acme\r\nx: y", "é".encode()):
        with pytest.raises(Refused) as refused:
            known.billed(other)
        assert refused.value.fault.status == 403 and refused.value.fault.param == "X-HF-Bill-To"


def test_where_nobody_is_billed_the_name_is_only_written_down() -> None:
    nobody = Keyring(AuthSettings(), {}, []).identify([])
    assert nobody.billed(b"acme") == "acme"
    with pytest.raises(Refused):
        nobody.billed(b"a b")


# What a key brings


def bounds(identity: Identity) -> dict[str, int]:
    taken = [*(bound for bound, _ in identity.admission), *identity.reserved]
    return {bound.name: bound.amount for bound in taken}


def test_the_bounds_of_a_tenant_and_of_its_key_are_ready_when_the_request_comes() -> None:
    limits = {"requests": "300/hour", "tokens": "9/minute", "concurrency": 4, "budget": "20 USD/month"}
    key = {"name": "laptop", "tenant": "acme", "key": ALICE, "plan": "free", "limits": {"requests": "5/minute"}}
    identity = ring([key], {"free": limits}).identify(bearer(ALICE))
    assert (identity.tenant, identity.key, identity.limited) == ("acme", "laptop", True)
    head = [(bound.name, bound.kind, count) for bound, count in identity.admission]
    assert head == [
        ("tenant/acme/requests", "requests", 1),
        ("tenant/acme/concurrency", "concurrency", 1),
        ("key/laptop/requests", "requests", 1),
    ]
    assert [each.name for each in identity.reserved] == ["tenant/acme/tokens", "tenant/acme/budget"]
    assert bounds(identity)["tenant/acme/budget"] == 20_000_000_000
    assert ring([key], {"free": limits}).identify(bearer(ALICE)).admission == identity.admission


def test_keys_of_one_tenant_share_its_bounds_and_have_their_own() -> None:
    keys = [
        {"name": name, "tenant": "acme", "key": key, "plan": "free", "limits": {"tokens": "1/s"}}
        for name, key in (("a", ALICE), ("b", BOB))
    ]
    with pytest.raises(ValidationError, match="expected a rate"):
        ring(keys)
    for each in keys:
        each["limits"] = {"tokens": "1/second"}
    keyring = ring(keys, {"free": {"requests": "1/hour"}})
    first, second = keyring.identify(bearer(ALICE)), keyring.identify(bearer(BOB))
    assert first.admission == second.admission
    assert {*bounds(first)} ^ {*bounds(second)} == {"key/a/tokens", "key/b/tokens"}
    assert keyring.tenants() == ["acme", ANONYMOUS]


def test_limits_for_some_models_are_found_by_the_model() -> None:
    per_model = {"meta-llama/*": {"requests": "5/hour"}, "*70B*": {"concurrency": 1, "tokens": "9/hour"}}
    identity = ring(plans={"free": {"per_model": per_model}}).identify(bearer(ALICE))
    found = [each.name for each in identity.bounds_for("Meta-Llama/Llama-3.1-70b")]
    assert found == [
        "tenant/alice/meta-llama/*/requests",
        "tenant/alice/*70B*/tokens",
        "tenant/alice/*70B*/concurrency",
    ]
    assert identity.bounds_for("gpt-4o") == () and ring().identify(bearer(ALICE)).bounds_for("x") == ()


def test_both_the_plan_and_the_key_must_allow_a_model() -> None:
    key = {"name": "a", "key": ALICE, "plan": "free", "models": ["*llama*", "gpt-4o"], "not_models": ["*-vision"]}
    identity = ring([key], {"free": {"models": ["meta-llama/*"], "not_models": ["*70B*"]}}).identify(bearer(ALICE))
    assert identity.allows("meta-llama/Llama-3.1-8B") and not identity.rights.all
    for model in ("gpt-4o", "meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.2-vision", "other/llama", "meta-x/y"):
        assert not identity.allows(model), model
    wider = ring([{**key, "models": ["*"], "not_models": []}]).identify(bearer(ALICE))
    assert wider.rights.all


def test_both_the_plan_and_the_key_must_allow_a_place() -> None:
    key = {"name": "a", "key": ALICE, "plan": "free", "providers": ["together-eu"]}
    both = ring([key], {"free": {"providers": ["together", "groq"]}}).identify(bearer(ALICE))
    assert both.reaches("together-eu", "together")
    assert not both.reaches("together-us", "together") and not both.reaches("groq", "groq")
    none = ring([{**key, "providers": ["novita"]}], {"free": {"providers": ["groq"]}}).identify(bearer(ALICE))
    assert not none.reaches("novita", "novita") and not none.reaches("groq", "groq")
    assert ring().identify(bearer(ALICE)).reaches("any", "any")


def test_a_plan_that_nobody_made_allows_nothing() -> None:
    assert not Licence({}).of_tenant("x", "gold").allows("gpt-4o")
    assert Licence({}).of_tenant("x", "").allows("gpt-4o")


@pytest.mark.parametrize(("said", "means"), [("20%", 0.2), (0.2, 0.2), ("0.2", 0.2), ("150%", 1.5), (0, 0.0)])
def test_a_markup_is_a_share_that_may_be_more_than_all(said: Any, means: float) -> None:
    assert ring(plans={"free": {"markup": said}}).identify(bearer(ALICE)).markup == pytest.approx(means)


@pytest.mark.parametrize("said", ["-1%", -0.5, "a lot", "1001%", True, None, []])
def test_what_is_no_markup_is_a_fault(said: Any) -> None:
    with pytest.raises(ValidationError, match="20%"):
        PlanSettings(markup=said)


def test_whose_provider_key_comes_first_is_the_plans_to_say() -> None:
    assert ring().identify(bearer(ALICE)).own_first
    assert not ring(plans={"free": {"user_keys_first": False}}).identify(bearer(ALICE)).own_first


# Expiry


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("2027-01-15T08:00:00Z", 1_800_000_000.0),
        ("2027-01-15T10:00:00+02:00", 1_800_000_000.0),
        ("2027-01-15 08:00:00", 1_800_000_000.0),
        ("2027-01-15", 1_799_971_200.0),
        (1_800_000_000, 1_800_000_000.0),
    ],
)
def test_a_moment_is_a_date_or_a_time_in_utc(said: Any, means: float) -> None:
    assert VirtualKey(name="a", key=Secret(ALICE), expires=said).expires == means


@pytest.mark.parametrize("said", ["tomorrow", "2027-13-01", True, -5, "", float("inf")])
def test_what_is_no_moment_is_a_fault(said: Any) -> None:
    with pytest.raises(ValidationError, match="2027-01-31"):
        VirtualKey(name="a", key=Secret(ALICE), expires=said)


def test_a_key_that_has_expired_opens_nothing_though_it_was_seen_before() -> None:
    clock = Clock()
    for more in ({}, {"user_keys": True}, {"mode": "open"}):
        clock.now = 1_800_000_000.0
        keyring = ring([{"name": "alice", "key": ALICE, "expires": clock.now + 10}], clock=clock, **more)
        headers = bearer(ALICE)
        fields = dict(headers)
        assert keyring.recognise(headers, fields) is keyring.recognise(headers, fields)
        clock.now += 10
        for _ in range(2):
            with pytest.raises(Refused) as refused:
                keyring.recognise(headers, fields)
            assert refused.value.fault.status == 401


# Keys of a store


def test_a_stored_key_opens_until_it_is_revoked_and_then_nothing() -> None:
    keyring = ring(user_keys=True)
    keyring.adopt(
        Snapshot(1, (row(BOB, settings='{"plan": "free", "limits": {"requests": "1/hour"}}', tenant="acme"),))
    )
    identity = keyring.identify(bearer(BOB))
    assert (identity.tenant, identity.key, identity.plan) == ("acme", "bob", "free")
    assert bounds(identity) == {"key/bob/requests": 1}
    assert keyring.tenants() == ["alice", ANONYMOUS]  # labels are the file's
    keyring.adopt(Snapshot(2, (row(BOB, revoked=1.0),)))
    for _ in range(2):
        assert status_of(keyring, bearer(BOB)) == 401  # and it is nobody's provider key either
    assert keyring.identify(bearer(ALICE)).tenant == "alice"


def test_an_older_snapshot_does_not_bring_a_revoked_key_back() -> None:
    keyring = ring()
    keyring.adopt(Snapshot(5, (row(BOB, revoked=1.0),)))
    keyring.adopt(Snapshot(4, (row(BOB),)))
    assert status_of(keyring, bearer(BOB)) == 401


def test_who_was_found_before_a_revocation_is_not_remembered_after_it() -> None:
    keyring = ring([], mode="hub")
    keyring.adopt(Snapshot(1))
    question = keyring.recognise(bearer("hf_somebodysomebody00"))
    assert isinstance(question, Question)
    keyring.adopt(Snapshot(2))
    keyring.remember(question, Identity("hf:late"))  # the answer came after all was replaced
    assert isinstance(keyring.recognise(bearer("hf_somebodysomebody00")), Question)


def test_while_threads_bring_snapshots_a_revoked_key_never_opens_again() -> None:
    keyring = ring()
    keyring.adopt(Snapshot(1, (row(BOB),)))
    headers = bearer(BOB)
    fields = dict(headers)
    assert keyring.identify(headers, fields).tenant == "bob"
    done = threading.Event()

    def bring() -> None:
        for generation in range(2, 400):
            keyring.adopt(Snapshot(generation, (row(BOB, revoked=1.0),)))
        done.set()

    keyring.adopt(Snapshot(2, (row(BOB, revoked=1.0),)))
    thread = threading.Thread(target=bring)
    thread.start()
    while not done.is_set():
        with pytest.raises(Refused):
            keyring.identify(headers, fields)
    thread.join()


def test_a_key_that_stands_in_the_file_and_in_the_store_is_the_files() -> None:
    keyring = ring()
    keyring.adopt(Snapshot(1, (row(ALICE, "mallory"),)))
    assert keyring.identify(bearer(ALICE)).tenant == "alice"
    keyring.adopt(Snapshot(2, (row(ALICE, "mallory", revoked=1.0),)))
    assert keyring.identify(bearer(ALICE)).tenant == "alice"


def test_a_row_that_makes_no_sense_is_passed_over_and_counted() -> None:
    keyring = ring()
    bad = (row(BOB, settings='{"colour": "red"}'), row(ALICE, settings="[]"), row(mint("sk"), name="b c"))
    good = row(mint("hf"), "zoe")
    assert keyring.adopt(Snapshot(1, (*bad, good, msgspec.structs.replace(good, digest="xx")))) == 4
    assert status_of(keyring, bearer(BOB)) == 401


def test_while_the_stores_keys_are_not_known_nobody_is_told_that_its_key_is_wrong() -> None:
    for more in ({}, {"user_keys": True}, {"user_keys": True, "mode": "open"}):
        keyring = ring(stored=True, **more)
        assert keyring.identify(bearer(ALICE)).tenant == "alice"
        with pytest.raises(Refused) as refused:
            keyring.identify(bearer(BOB))
        fault = refused.value.fault
        assert (fault.status, fault.code) == (503, "keys_unavailable") and fault.retry_after
        keyring.adopt(Snapshot(0))
        if not more:
            assert status_of(keyring, bearer(BOB)) == 401
    assert status_of(ring(stored=True), []) == 401
    assert ring(stored=True, mode="open").identify(bearer(BOB)).tenant == ANONYMOUS


def test_a_ring_is_open_only_while_no_store_has_ever_had_a_key() -> None:
    keyring = ring([])
    assert keyring.identify([]).tenant == ANONYMOUS
    keyring.adopt(Snapshot(1, (row(BOB),)))
    assert status_of(keyring, []) == 401
    keyring.adopt(Snapshot(2, (row(BOB, revoked=1.0),)))
    assert status_of(keyring, []) == 401 and status_of(keyring, bearer(BOB)) == 401
    waiting = ring([], stored=True)
    assert status_of(waiting, []) == 401 and status_of(waiting, bearer(BOB)) == 503
    waiting.adopt(Snapshot(0))
    assert waiting.identify([]).tenant == ANONYMOUS


@pytest.mark.parametrize(
    "more", [{"loopback": False}, {"mode": "hub"}, {"jwt": {"issuer": "http://x", "audience": "y"}}]
)
def test_a_ring_that_others_can_reach_or_that_knows_another_way_in_is_never_open(more: dict[str, Any]) -> None:
    assert status_of(ring([], **more), []) == 401


# Who else is asked


def test_who_else_is_asked_depends_on_the_shape_of_the_bearer() -> None:
    keyring = ring(mode="hub", jwt={"issuer": "http://x", "audience": "y"}, user_keys=True)

    def kind(value: str) -> str:
        found = keyring.recognise(bearer(value))
        return found.kind if isinstance(found, Question) else found.tenant

    assert kind("hf_somebodysomebody00") == "hub" and kind("a.b.c") == "jwt"
    assert kind("hf_short") == ANONYMOUS and kind("sk-somebodysomebody00") == ANONYMOUS
    assert kind(ALICE) == "alice"
    question = keyring.recognise(bearer("hf_somebodysomebody00"))
    assert "somebody" not in repr(question)
    assert isinstance(ring().recognise(bearer(ALICE)), Identity)
    assert status_of(ring(), bearer("hf_somebodysomebody00")) == 401 == status_of(ring(mode="hub"), bearer("a.b.c"))
