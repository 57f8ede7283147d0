"""Who calls, by what key, and which of our keys is lent next."""

import hashlib
from typing import Any

import pytest
from pydantic import ValidationError

from router.errors import Refused
from router.health import Resting
from router.keypool import KeyPool
from router.keys import ANONYMOUS, AuthSettings, Headers, Keyring, PlanSettings, VirtualKey
from router.secrets import Secret

ALICE = "hf_alicealicealicealice"
BOB = "sk-bobbobbobbobbobbobbob"
ADMIN = "admin-canary-0123456789"


def ring(keys: list[dict[str, Any]] | None = None, plans: dict[str, Any] | None = None, **auth: Any) -> Keyring:
    keys = [{"name": "alice", "key": ALICE, "plan": "free"}] if keys is None else keys
    plans = plans or {"free": {}}
    return Keyring(
        AuthSettings(**auth),
        {name: PlanSettings(**each) for name, each in plans.items()},
        [VirtualKey(**each) for each in keys],
    )


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
