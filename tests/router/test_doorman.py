"""Tokens of the Hub's users, asked about at a scripted Hub on loopback, and signed tokens through real HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import huggingface_hub
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from router import doorman
from router.doorman import Doorman, Heard
from router.errors import Refused
from router.keys import ANONYMOUS, AuthSettings, Headers, Identity, Keyring, PlanSettings, VirtualKey
from router.plans import Snapshot
from router.secrets import Secret

TOKEN = "hf_canaryTokenOfAlice0000"
OURS = "hf_canaryVirtualKey000000"
NOW = 1_800_000_000.0
ALICE: dict[str, Any] = {
    # As the Hub answers (wire/contract.md §1.1.1).
    "type": "user",
    "id": "64",
    "name": "alice",
    "fullname": "Alice",
    "email": "a@x",
    "emailVerified": True,
    "canPay": False,
    "billingMode": "prepaid",
    "periodEnd": 1735689600,
    "isPro": False,
    "avatarUrl": "…",
    "orgs": [{"type": "org", "name": "acme", "fullname": "Acme", "roleInOrg": "admin"}],
    "auth": {"type": "access_token", "accessToken": {"displayName": "router", "role": "read"}},
}
PLANS = {name: PlanSettings(requests="300/hour") for name in ("free", "pro", "team")}
KEY = rsa.generate_private_key(65537, 2048)


class Site:
    """A server on loopback that answers by the token, or as it is told to: a status, silence, or no server at all."""

    def __init__(self) -> None:
        self.users: dict[str, Any] = {TOKEN: ALICE}
        self.asked: list[tuple[str, str]] = []  # path, credential
        self.status = 0  # 0: by the token
        self.body = b'{"error":"busy"}'
        self.extra = ""
        self.silent = False
        self.running = self.most = 0
        self.base = ""
        self._server: asyncio.Server | None = None
        self._closed = asyncio.Event()

    async def open(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.base = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        assert self._server is not None
        self._closed.set()
        self._server.close()
        for _ in range(5):
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split()[1]
        lines = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
        at = head.find("Bearer ")
        token = head[at + 7 :].split()[0] if at > 0 else ""
        assert lines["accept-encoding"] == "identity"
        self.asked.append((path, token))
        self.running += 1
        self.most = max(self.most, self.running)
        await (self._closed.wait() if self.silent else asyncio.sleep(0.001))
        self.running -= 1
        status, body = self._answer(path, token)
        writer.write(
            f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{self.extra}\r\n".encode()
            + body
        )
        writer.close()

    def _answer(self, path: str, token: str) -> tuple[int, bytes]:
        if path == "/keys":
            data = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key()))
            return 200, json.dumps({"keys": [{**data, "kid": "one"}]}).encode()
        if self.status:
            return self.status, self.body
        if token in self.users:
            return 200, json.dumps(self.users[token]).encode()
        return 401, b'{"error":"Invalid credentials in Authorization header"}'


class Door:
    """A doorman before a site, with a clock that is moved by hand."""

    def __init__(self, site: Site, heard: Heard | None = None, **auth: Any) -> None:
        self.now = NOW
        self.site = site
        plans = auth.pop("plans", {"free": "free", "pro": "pro", "acme": "team"})
        hub = {"endpoint": site.base, "plans": plans}
        settings = AuthSettings(**{"mode": "hub", "hub": hub, **auth})
        ours = VirtualKey(name="ours", key=Secret(OURS))
        self.keyring = Keyring(settings, PLANS, [ours], clock=lambda: self.now)
        self.doorman = Doorman(self.keyring, settings, heard or Heard(), clock=lambda: self.now)

    async def who(self, token: str = TOKEN) -> Identity:
        return await self.doorman.identify(bearer(token))

    async def refused(self, token: str = TOKEN) -> tuple[int, str]:
        with pytest.raises(Refused) as caught:
            await self.who(token)
        assert "canary" not in str(caught.value.fault)
        assert (caught.value.fault.retry_after is not None) == (caught.value.fault.status == 503)
        return caught.value.fault.status, caught.value.fault.code

    async def settle(self) -> None:
        """Until what runs behind callers' backs has ended."""
        await asyncio.gather(*self.doorman._asking.values(), return_exceptions=True)


def bearer(token: str) -> Headers:
    return [(b"authorization", f"Bearer {token}".encode())]


@asynccontextmanager
async def opened(**auth: Any) -> AsyncIterator[Door]:
    site = Site()
    await site.open()
    door = Door(site, **auth)
    try:
        yield door
    finally:
        await door.doorman.close()
        await site.close()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_a_token_of_the_hub_is_a_tenant_with_the_plan_that_fits() -> None:
    async def story() -> None:
        async with opened() as door:
            identity = await door.who()
            assert (identity.tenant, identity.plan, identity.orgs) == ("hf:alice", "team", frozenset({"acme"}))
            assert [bound.name for bound, _ in identity.admission] == ["tenant/hf:alice/requests"]
            assert identity.billed(b"acme") == "acme"
            with pytest.raises(Refused):
                identity.billed(b"evil")
            assert door.site.asked == [("/api/whoami-v2", TOKEN)]
            assert door.keyring.recognise(bearer(TOKEN)) is identity  # from now on without a question
            assert (await door.who(OURS)).tenant == "ours" and len(door.site.asked) == 1

    run(story())


@pytest.mark.parametrize(
    ("told", "plans", "plan"),
    [
        ({"isPro": True, "orgs": []}, {"free": "free", "pro": "pro"}, "pro"),
        ({"isPro": True}, {"free": "free", "pro": "pro", "acme": "team"}, "team"),
        ({"isPro": False, "orgs": []}, {"free": "free", "pro": "pro"}, "free"),
        ({"isPro": True, "orgs": []}, {"free": "free"}, "free"),
        ({"isPro": False, "orgs": []}, {"pro": "pro", "acme": "team"}, None),
        ({"orgs": [{"name": "b"}, {"name": "a"}]}, {"a": "pro", "b": "team"}, "pro"),
        ({"orgs": [{"name": "pro"}, {"name": "free"}]}, {"pro": "pro"}, None),
        ({"isPro": True}, {}, ""),
    ],
)
def test_an_organisation_comes_before_pro_and_pro_before_free(
    told: dict[str, Any], plans: dict[str, str], plan: str | None
) -> None:
    async def story() -> None:
        async with opened(plans=plans) as door:
            door.site.users[TOKEN] = {**ALICE, **told}
            if plan is None:
                assert await door.refused() == (403, "no_plan")
            else:
                assert (await door.who()).plan == plan

    run(story())


def test_what_huggingface_hub_reads_is_what_we_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same Hub answers its own client."""

    async def story() -> None:
        async with opened() as door:
            api = huggingface_hub.HfApi(endpoint=door.site.base, token=TOKEN)
            told = await asyncio.to_thread(api.whoami)
            identity = await door.who()
            assert identity.tenant == f"hf:{told['name']}"
            assert sorted(identity.orgs) == [each["name"] for each in told["orgs"]]

    # The scripted Hub is strict about what our look-up sends; the Hub's own client asks for more encodings.
    monkeypatch.setattr(Site, "_serve", _lenient(Site._serve))
    run(story())


def _lenient(serve: Callable[..., Any]) -> Callable[..., Any]:
    async def lenient(self: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = [each for each in head.split(b"\r\n") if each and not each.lower().startswith(b"accept-encoding")]
        fed = asyncio.StreamReader()
        fed.feed_data(b"\r\n".join([*lines, b"accept-encoding: identity", b"", b""]))
        await serve(self, fed, writer)

    return lenient


def test_an_answer_is_believed_for_the_ttl_and_renewed_before_its_end_behind_the_callers_back() -> None:
    async def story() -> None:
        async with opened(ttl="100s") as door:
            first = await door.who()
            door.now += 79
            assert await door.who() is first and len(door.site.asked) == 1
            door.now += 2
            door.site.users[TOKEN] = {**ALICE, "orgs": [], "isPro": True}
            assert (await asyncio.gather(*(door.who() for _ in range(20))))[0] is first  # nobody waits
            await door.settle()
            assert len(door.site.asked) == 2
            assert (await door.who()).plan == "pro" and len(door.site.asked) == 2
            door.now += 101
            door.site.users[TOKEN] = ALICE
            assert (await door.who()).plan == "team"  # too old: it is waited for

    run(story())


def test_a_token_that_the_hub_revoked_opens_nothing_after_the_ttl_and_a_no_is_believed_for_half_a_minute() -> None:
    async def story() -> None:
        async with opened(ttl="100s") as door:
            await door.who()
            del door.site.users[TOKEN]
            door.now += 81
            await door.who()
            await door.settle()
            for _ in range(5):
                assert await door.refused() == (401, "invalid_api_key")
            assert len(door.site.asked) == 2
            door.site.users[TOKEN] = ALICE
            door.now += 30
            assert (await door.who()).tenant == "hf:alice"

    run(story())


def test_many_callers_with_one_token_are_one_question() -> None:
    async def story() -> None:
        async with opened() as door:
            found = await asyncio.gather(*(door.who() for _ in range(50)))
            assert {each.tenant for each in found} == {"hf:alice"} and len(door.site.asked) == 1

    run(story())


def test_not_more_than_so_many_questions_are_asked_at_once() -> None:
    async def story() -> None:
        async with opened() as door:
            tokens = [f"hf_canaryTokenNumber{number:04}" for number in range(150)]
            door.site.users |= {each: {**ALICE, "name": each[-4:]} for each in tokens}
            found = await asyncio.gather(*(door.who(each) for each in tokens))
            assert [each.tenant for each in found] == [f"hf:{each[-4:]}" for each in tokens]
            assert 2 <= door.site.most <= doorman.AT_ONCE

    run(story())


OUTAGES: dict[str, dict[str, Any]] = {
    "500": {"status": 500},
    "429": {"status": 429, "extra": "retry-after: 7\r\n"},
    "a redirect": {"status": 302, "extra": "location: http://127.0.0.1:9/steal\r\n"},
    "no JSON": {"status": 200, "body": b"<html>"},
    "no name": {"status": 200, "body": b'{"isPro": true}'},
    "too much": {"status": 200, "body": b'{"name":"' + b"a" * 2**21 + b'"}'},
    "a wall": {"status": 403, "body": b"<html>blocked"},
}


@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES)
def test_while_the_hub_is_away_whom_it_knew_is_known_for_a_day_and_nobody_is_called_unknown(
    outage: dict[str, Any],
) -> None:
    async def story() -> None:
        async with opened(ttl="100s") as door:
            await door.who()
            for name, value in outage.items():
                setattr(door.site, name, value)
            door.now += 86_000
            for _ in range(5):
                assert (await door.who()).tenant == "hf:alice"
            assert len(door.site.asked) == 2  # it is left alone for a while
            assert await door.refused("hf_canarySomebodyElse000") == (503, "identity_unavailable")
            door.now += 401
            assert await door.refused() == (503, "identity_unavailable")
            door.site.status = 0
            door.now += 61
            door.site.extra = ""
            assert (await door.who()).tenant == "hf:alice"
            assert {path for path, _ in door.site.asked} == {"/api/whoami-v2"}

    run(story())


def test_a_hub_that_is_not_there_or_says_nothing_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorman, "TIMEOUT", 0.05)

    async def story() -> None:
        async with opened(ttl="100s") as door:
            await door.who()
            door.site.silent = True
            door.now += 200
            assert (await door.who()).tenant == "hf:alice"
            door.now += 3
            assert await door.refused("hf_canarySomebodyElse000") == (503, "identity_unavailable")
            await door.site.close()
            door.now += 3
            assert await door.refused("hf_canarySomebodyElse000") == (503, "identity_unavailable")
            assert (await door.who(OURS)).tenant == "ours"

    run(story())


def test_a_caller_who_leaves_does_not_spoil_the_answer_for_others() -> None:
    async def story() -> None:
        async with opened() as door:
            leaving = asyncio.create_task(door.who())
            staying = asyncio.create_task(door.who())
            await asyncio.sleep(0)
            leaving.cancel()
            assert (await staying).tenant == "hf:alice" and len(door.site.asked) == 1

    run(story())


def test_what_was_heard_outlives_a_configuration_but_not_the_hub_that_said_it() -> None:
    async def story() -> None:
        heard = Heard()
        async with opened(heard=heard) as door:
            await door.who()
            after = Door(door.site, heard, plans={"free": "free"})
            assert (await after.who()).plan == "free" and len(door.site.asked) == 1
            async with opened(heard=heard) as another:
                another.site.users = {}
                assert await another.refused() == (401, "invalid_api_key")

    run(story())


def test_at_most_so_many_tokens_are_kept_and_junk_drives_no_user_out() -> None:
    heard = Heard()
    assert heard.users.maxsize == doorman.KEPT and heard.nobody.maxsize == doorman.KEPT_NO
    for number in range(doorman.KEPT_NO + 10):
        heard.nobody[number.to_bytes(4)] = NOW
    assert len(heard.nobody) == doorman.KEPT_NO and not heard.users


def test_nothing_that_is_kept_holds_a_token() -> None:
    async def story() -> None:
        heard = Heard()
        async with opened(heard=heard) as door:
            await door.who()
            await door.refused("hf_canarySomebodyElse000")
            kept = repr([heard.users, heard.nobody, door.doorman.__dict__])
            assert "canary" not in kept

    run(story())


def test_while_the_stores_keys_are_unknown_a_no_of_the_hub_is_no_401() -> None:
    async def story() -> None:
        async with opened() as door:
            waiting = Keyring(AuthSettings(mode="hub"), PLANS, [], stored=True, clock=lambda: door.now)
            settings = AuthSettings.model_validate({"mode": "hub", "hub": {"endpoint": door.site.base}})
            other = Doorman(waiting, settings, Heard(), clock=lambda: door.now)
            for token, code in (("hf_canarySomebodyElse000", "keys_unavailable"), (TOKEN, "")):
                if code:
                    with pytest.raises(Refused) as caught:
                        await other.identify(bearer(token))
                    assert caught.value.fault.code == code
                else:
                    assert (await other.identify(bearer(token))).tenant == "hf:alice"
            waiting.adopt(Snapshot(0))
            with pytest.raises(Refused) as caught:
                await other.identify(bearer("hf_canarySomebodyElse000"))
            assert caught.value.fault.status == 401
            await other.close()

    run(story())


# Signed tokens, beside keys and beside the Hub


def token_of(base: str, **more: Any) -> str:
    claims = {"iss": base, "aud": "router", "sub": "carol", "exp": 4_000_000_000, "plan": "pro", "orgs": ["acme"]}
    return jwt.encode({**claims, **more}, KEY, "RS256", headers={"kid": "one"})


@pytest.mark.parametrize("mode", ["keys", "hub", "open"])
def test_a_signed_token_is_verified_once_and_then_known_until_it_ends(mode: str) -> None:
    async def story() -> None:
        site = Site()
        await site.open()
        door = Door(site, mode=mode, jwt={"issuer": site.base, "audience": "router", "jwks": f"{site.base}/keys"})
        token = token_of(site.base)
        identity = await door.who(token)
        assert (identity.tenant, identity.plan, identity.orgs) == ("jwt:carol", "pro", frozenset({"acme"}))
        assert door.keyring.recognise(bearer(token)) is identity
        door.now += 601
        again = await door.who(token)
        assert again is not identity and again.tenant == "jwt:carol"
        assert site.asked == [("/keys", "")]
        await site.close()
        assert (await door.who(token_of(site.base, sub="dora"))).tenant == "jwt:dora"  # the keys are kept
        assert await door.refused(token[:-4] + "AAAA") == (401, "invalid_api_key")
        assert await door.refused(token_of(site.base, plan="gold")) == (403, "no_plan")
        if mode == "open":
            assert (await door.who(token_of("https://other.example"))).tenant == ANONYMOUS
        else:
            assert await door.refused(token_of("https://other.example")) == (401, "invalid_api_key")
        await door.doorman.close()

    run(story())


def test_a_token_of_another_issuer_may_be_the_callers_own_provider_key() -> None:
    async def story() -> None:
        async with opened(
            user_keys=True, jwt={"issuer": "https://login.example", "audience": "router"}, mode="keys"
        ) as door:
            found = await door.who("a.b.c")
            assert found.user_key == Secret("a.b.c")

    run(story())
