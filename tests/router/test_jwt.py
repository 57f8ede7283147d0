"""JSON web tokens signed with real keys: which are taken, whom they name, and what happens when keys change or go."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pydantic import ValidationError

from router.errors import Refused
from router.jwt import Bearer, Unreachable, Verifier
from router.plans import JwtSettings

ISSUER = "https://login.example"
NOW = 1_800_000_000.0
RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
SECRET = "canary-secret-that-both-sides-have-0123456789"


def published(key: Any, kid: str, algorithm: str, **more: str) -> dict[str, Any]:
    """The public half, as a JWKS has it."""
    kind = {"RS": "RSAAlgorithm", "ES": "ECAlgorithm", "Ed": "OKPAlgorithm"}[algorithm[:2]]
    found = json.loads(getattr(jwt.algorithms, kind).to_jwk(key.public_key()))
    return {**found, "kid": kid, "use": "sig", **more}


class Signer:
    """A JWKS that can be changed and taken away. Time stands still until it is moved."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = list(keys)
        self.asked: list[str] = []
        self.away = False
        self.now = 1000.0
        self.discovery: dict[str, Any] = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        await asyncio.sleep(0)
        if self.away:
            raise Unreachable
        return json.dumps(self.discovery if url.endswith("configuration") else {"keys": self.keys}).encode()

    def verifier(self, **more: Any) -> Verifier:
        settings = JwtSettings(**{"issuer": ISSUER, "audience": "router", "jwks": f"{ISSUER}/keys", **more})
        return Verifier(settings, self.fetch, now=lambda: self.now)


@pytest.fixture(autouse=True)
def _stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyJWT asks the wall's clock itself."""

    class Stopped(jwt.api_jwt.datetime):  # type: ignore[misc, name-defined]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return super().fromtimestamp(NOW, tz)

    monkeypatch.setattr(jwt.api_jwt, "datetime", Stopped)


def claims(**more: Any) -> dict[str, Any]:
    found = {"iss": ISSUER, "aud": "router", "sub": "alice", "exp": NOW + 300, "plan": "pro", **more}
    return {name: each for name, each in found.items() if each is not None}


def signed(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "one", **more: Any) -> bytes:
    head = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(**more), key, algorithm, headers=head).encode()


def verify(verifier: Verifier, token: bytes) -> Bearer:
    return asyncio.run(verifier.verify(token))


def refused(verifier: Verifier, token: bytes) -> int:
    with pytest.raises(Refused) as caught:
        verify(verifier, token)
    assert token.decode("latin-1") not in str(caught.value.fault)
    return caught.value.fault.status


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")])
def test_a_token_that_its_issuer_signed_names_a_tenant(key: Any, algorithm: str) -> None:
    verifier = Signer(published(key, "one", algorithm)).verifier()
    token = signed(key, algorithm, orgs=["acme", 7, "b"])
    assert verify(verifier, token) == Bearer("jwt:alice", "pro", ("acme", "b"), NOW + 330)
    assert verify(verifier, signed(key, algorithm, orgs="acme b")).orgs == ("acme", "b")


@pytest.mark.parametrize(
    "wrong",
    [
        {"exp": NOW - 31},
        {"exp": None},
        {"exp": "soon"},
        {"nbf": NOW + 31},
        {"iat": NOW + 31},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"aud": []},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 201},
    ],
)
def test_a_claim_that_is_wrong_is_the_same_401(wrong: dict[str, Any]) -> None:
    verifier = Signer(published(RSA, "one", "RS256")).verifier()
    assert refused(verifier, signed(**wrong)) == 401


def test_clocks_may_differ_by_the_leeway() -> None:
    verifier = Signer(published(RSA, "one", "RS256")).verifier()
    for near in ({"exp": NOW - 29}, {"nbf": NOW + 29}, {"aud": ["x", "router"]}):
        assert verify(verifier, signed(**near)).tenant == "jwt:alice"


def part(value: Any) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def with_hmac_of_the_public_key() -> bytes:
    """The old trick: the public key as a secret that is no secret."""
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    body = part({"alg": "HS256", "kid": "one"}) + b"." + part(claims())
    return body + b"." + base64.urlsafe_b64encode(hmac.digest(pem, body, hashlib.sha256)).rstrip(b"=")


FORGED = {
    "another key": lambda: signed(OTHER),
    "none": lambda: part({"alg": "none", "kid": "one"}) + b"." + part(claims()) + b".",
    "NONE": lambda: part({"alg": "NONE"}) + b"." + part(claims()) + b".",
    "hmac of the public key": with_hmac_of_the_public_key,
    "an algorithm that is not accepted": lambda: signed(algorithm="RS512"),
    "an algorithm that is no text": lambda: part({"alg": ["RS256"]}) + b"." + part(claims()) + b".x",
    "another body": lambda: b".".join([signed().split(b".")[0], part(claims(sub="root")), signed().split(b".")[2]]),
    "no signature": lambda: signed().rpartition(b".")[0] + b".",
    "a kid of another kind": lambda: signed(EC, "ES256"),
    "no JSON": lambda: b"a.b.c",
    "nothing": lambda: b"..",
    "not base64": lambda: b"\xff\xfe.\xff.\xff",
    "a deep one": lambda: part({"alg": "RS256", "kid": "one"}) + b"." + b"W" * 3000 + b".x",
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_what_the_issuer_did_not_sign_is_a_401(forge: Callable[[], bytes]) -> None:
    signer = Signer(published(RSA, "one", "RS256"))
    verifier = signer.verifier()
    assert refused(verifier, forge()) == 401
    assert verify(verifier, signed()).tenant == "jwt:alice"


def test_only_a_token_that_says_so_is_this_issuers() -> None:
    verifier = Signer().verifier()
    assert verifier.theirs(signed()) and not verifier.theirs(signed(iss="https://other.example"))
    assert not any(verifier.theirs(each) for each in (b"", b"..", b"a.b.c", b"x." + part([ISSUER]) + b".y"))


def test_a_key_that_is_new_is_fetched_and_others_at_most_every_half_minute() -> None:
    signer = Signer(published(RSA, "one", "RS256"))
    verifier = signer.verifier()
    for _ in range(3):
        verify(verifier, signed())
    assert len(signer.asked) == 1
    signer.keys.append(published(OTHER, "two", "RS256"))
    assert refused(verifier, signed(OTHER, kid="two")) == 401 and len(signer.asked) == 1
    signer.now += 30
    assert verify(verifier, signed(OTHER, kid="two")).tenant == "jwt:alice"
    for number in range(50):
        assert refused(verifier, signed(OTHER, kid=f"junk-{number}")) == 401
    assert len(signer.asked) == 2


def test_many_tokens_at_once_are_one_question_to_the_signer() -> None:
    signer = Signer(published(RSA, "one", "RS256"))
    verifier = signer.verifier()

    async def many() -> list[Bearer]:
        return await asyncio.gather(*(verifier.verify(signed()) for _ in range(20)))

    assert {each.tenant for each in asyncio.run(many())} == {"jwt:alice"} and len(signer.asked) == 1


def test_keys_stay_through_an_outage_and_without_any_it_is_nobodys_fault() -> None:
    signer = Signer(published(RSA, "one", "RS256"))
    signer.away = True
    verifier = signer.verifier()
    assert refused(verifier, signed()) == 503 and refused(verifier, signed()) == 503
    assert len(signer.asked) == 1  # and it is left alone for two seconds
    signer.away, signer.now = False, signer.now + 2
    assert verify(verifier, signed()).tenant == "jwt:alice"
    signer.away, signer.now = True, signer.now + 10_000
    assert verify(verifier, signed()).tenant == "jwt:alice"


def test_a_key_that_was_withdrawn_is_gone_after_ten_minutes() -> None:
    signer = Signer(published(RSA, "one", "RS256"), published(OTHER, "two", "RS256"))
    verifier = signer.verifier()

    async def withdrawn() -> None:
        await verifier.verify(signed())
        signer.keys.pop(0)
        signer.now += 600
        await verifier.verify(signed())  # asks behind its back
        for _ in range(5):
            await asyncio.sleep(0)
        with pytest.raises(Refused):
            await verifier.verify(signed())

    asyncio.run(withdrawn())


def test_without_an_address_of_the_keys_the_issuer_is_asked_for_it() -> None:
    signer = Signer(published(RSA, "one", "RS256"))
    assert verify(signer.verifier(jwks=""), signed()).tenant == "jwt:alice"
    assert signer.asked == [f"{ISSUER}/.well-known/openid-configuration", f"{ISSUER}/keys"]
    for wrong in ({"issuer": "https://evil.example"}, {"jwks_uri": "http://login.example/keys"}, {"jwks_uri": 7}):
        signer.discovery = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys", **wrong}
        assert refused(signer.verifier(jwks=""), signed()) == 503


def test_an_issuers_name_is_taken_to_the_letter() -> None:
    signer = Signer(published(RSA, "one", "RS256"))
    signer.discovery["issuer"] = f"{ISSUER}/"
    verifier = signer.verifier(jwks="", issuer=f"{ISSUER}/")
    assert verify(verifier, signed(iss=f"{ISSUER}/")).tenant == "jwt:alice"
    assert signer.asked[0] == f"{ISSUER}/.well-known/openid-configuration"
    assert refused(verifier, signed()) == 401


def test_a_token_without_a_name_for_its_key_is_taken_where_one_key_fits() -> None:
    rsa_key, ec_key = published(RSA, "one", "RS256"), published(EC, "two", "ES256")
    assert verify(Signer(rsa_key, ec_key).verifier(), signed(kid=None)).tenant == "jwt:alice"
    assert refused(Signer(rsa_key, published(OTHER, "two", "RS256")).verifier(), signed(kid=None)) == 401


def test_what_is_no_key_for_signatures_is_passed_over() -> None:
    odd: list[Any] = [
        {"kty": "XX", "kid": "one"},
        {"kty": "oct", "k": "AAAA", "kid": "one"},
        7,
        {},
        {"kty": "RSA", "n": "?"},
    ]
    keys = [*odd, published(OTHER, "one", "RS256", use="enc"), published(RSA, "one", "RS256")]
    assert verify(Signer(*keys).verifier(), signed()).tenant == "jwt:alice"
    assert refused(Signer(published(RSA, "one", "RS256", alg="RS512")).verifier(), signed()) == 401
    assert refused(Signer(*odd).verifier(), signed()) == 503


@pytest.mark.parametrize(
    ("claim", "settings", "plan"),
    [
        ("pro", {}, "pro"),
        (None, {}, None),
        (None, {"default_plan": ""}, ""),
        (None, {"default_plan": "free"}, "free"),
        ("pro", {"default_plan": "free"}, "pro"),
        ("gold", {"plans": {"gold": "pro"}}, "pro"),
        (["x", "gold", "staff"], {"plans": {"staff": "all", "gold": "pro"}}, "all"),
        ("pro", {"plans": {"gold": "pro"}}, None),
        (None, {"plans": {"gold": "pro"}}, None),
        ("x", {"plans": {"gold": "pro"}, "default_plan": "free"}, "free"),
        (7, {"plans": {"gold": "pro"}}, None),
    ],
)
def test_the_plan_is_what_the_claim_says_or_means(claim: Any, settings: dict[str, Any], plan: str | None) -> None:
    verifier = Signer(published(RSA, "one", "RS256")).verifier(**settings)
    assert verify(verifier, signed(plan=claim)).plan == plan


def test_the_names_of_claims_are_the_configurations() -> None:
    verifier = Signer(published(RSA, "one", "RS256")).verifier(tenant="email", plan="tier", orgs="groups")
    found = verify(verifier, signed(email="al/ice\n@x.org", tier="pro", plan=None, groups=["g"]))
    assert (found.tenant, found.plan, found.orgs) == ("jwt:al%2Fice%0A@x.org", "pro", ("g",))
    assert refused(verifier, signed()) == 401


def test_a_secret_of_both_sides_takes_the_place_of_public_keys() -> None:
    signer = Signer()
    verifier = signer.verifier(secret=SECRET)
    assert verify(verifier, signed(SECRET, "HS256")).tenant == "jwt:alice" and signer.asked == []
    assert refused(verifier, signed(SECRET + "x", "HS256")) == 401 and refused(verifier, signed()) == 401


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"algorithms": ["none"]}, "none cannot be used here"),
        ({"algorithms": ["RS256", "HS256"]}, "HS256 cannot be used here"),
        ({"secret": SECRET, "algorithms": ["RS256"]}, "RS256 cannot be used here"),
        ({"secret": "canary"}, "fewer than 32"),
        ({"issuer": "login.example"}, "expected an address"),
        ({"jwks": "file:///etc/passwd"}, "expected an address"),
        ({"leeway": "-1s"}, "expected a duration"),
    ],
)
def test_settings_that_cannot_be_right_are_a_fault(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        JwtSettings(**{"issuer": ISSUER, "audience": "router", **settings})
    assert "canary" not in str(caught.value)
