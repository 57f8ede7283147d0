"""What a provider's answer may send us to fetch, and what never: FAULTS §3.1 A2, with a honeypot on loopback."""

import asyncio
import contextlib
import socket
from collections.abc import Iterable

import pytest

from router.upstream.answer import Answer
from router.upstream.faults import Silence
from router.upstream.fetch import Allowed, Fetcher, Forbidden
from router.upstream.names import Names
from tests.router.upstream.scripted import HELLO, Scripted, later, looped

FORBIDDEN = [
    "http://127.0.0.1:{port}/", "https://127.0.0.1:{port}/", "https://127.0.0.1/", "http://localhost:{port}/",
    "https://localhost./", "https://[::1]:{port}/", "https://[::1]/", "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/", "https://0.0.0.0/", "https://[::]/", "https://127.1/", "https://2130706433/",
    "https://0x7f.1/", "https://0x7f000001/", "https://0177.0.0.1/", "https://017700000001/",
    "https://169.254.169.254/latest/meta-data", "https://metadata.google.internal./", "https://[fd00:ec2::254]/",
    "https://10.0.0.1/", "https://172.16.0.1/", "https://192.168.1.1/", "https://100.64.0.1/", "https://[fe80::1]/",
    "https://[fe80::1%25lo]/", "https://[::7f00:1]/", "https://[::ffff:0:7f00:1]/", "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b:1::a00:1]/", "https://[2002:7f00:1::]/", "https://[fec0::1]/", "https://224.0.0.1/",
    "https://a@127.0.0.1/", "https://ok.example@127.0.0.1/",
    "https://127.0.0.1#@ok.example/", "https://ok.example\\@127.0.0.1/", "//evil.example/", "https:/\\evil.example",
    "https:evil.example", "file:///etc/passwd", "gopher://127.0.0.1:6379/_x", "unix:/run/x.sock", "ftp://ok.example/",
    "https://ok.example:22/", "https://ok.example:25/", "https://ok.example:6379/", "http://ok.example/",
    "https://rebinding.example/", "https://mixed.example/", "https://127。0。0。1/", "https://１２７.0.0.1/",
    "https://ok.example/\r\nX: y", "https://ok.example/ x", "https://ok.example\t/", "https://", "", "https://./",
    "https://a..b/", "https://" + "a" * 64 + ".example/", "https://user:pw@ok.example/", "javascript:alert(1)",
]  # fmt: skip


def resolver(answers: dict[str, list[str]]) -> Names:
    def ask(host: str) -> list[str]:
        found = answers.get(host.rstrip(".").lower())
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "no name")
        return found

    return Names(ask)


HOSTS = {
    "ok.example": ["93.184.216.34"],
    "localhost": ["127.0.0.1", "::1"],
    "metadata.google.internal": ["169.254.169.254"],
    "rebinding.example": ["127.0.0.1"],
    "mixed.example": ["93.184.216.34", "10.0.0.1"],
    "evil.example": ["127.0.0.1"],
}


@pytest.mark.parametrize("url", FORBIDDEN)
def test_what_is_not_public_https_is_not_fetched_and_nobody_is_asked(url: str) -> None:
    @looped
    async def story() -> None:
        async with Scripted([HELLO]) as honeypot:
            fetcher = Fetcher(resolver(HOSTS))
            with contextlib.suppress(Forbidden):
                opened = await fetcher.open(url.replace("{port}", str(honeypot.port)), Allowed(), later(5))
                assert isinstance(opened, Silence) and opened.reason == "dns", "it was fetched"
            assert honeypot.accepted == 0

    story()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1::1", True), ("64:ff9b::5db8:d822", True), ("10.0.0.1", False),
        ("::7f00:1", False), ("::ffff:0:7f00:1", False), ("64:ff9b::a9fe:a9fe", False), ("64:ff9b:1::a00:1", False),
        ("2002:a00:1::1", False), ("fec0::1", False), ("ff0e::1", False), ("fd00::1", False),
    ],
)  # fmt: skip
def test_an_address_is_public_only_where_what_is_written_inside_it_is_too(address: str, public: bool) -> None:
    assert Allowed().address(address) is public


def test_a_name_is_looked_up_once_and_the_address_that_was_looked_at_is_connected_to() -> None:
    asked: list[str] = []

    def ask(host: str) -> list[str]:
        asked.append(host)
        return ["93.184.216.34"] if len(asked) == 1 else ["127.0.0.1"]

    connected: list[str] = []

    @looped
    async def story() -> None:
        loop = asyncio.get_running_loop()

        async def connect(_: object, host: str, *args: object, **kwargs: object) -> None:
            connected.append(host)
            raise ConnectionRefusedError

        loop.create_connection = connect  # type: ignore[assignment, method-assign]
        opened = await Fetcher(Names(ask)).open("https://flips.example/", Allowed(), later(5))
        assert isinstance(opened, Silence) and opened.reason == "refused"

    story()
    assert asked == ["flips.example"] and connected == ["93.184.216.34"]


@pytest.mark.parametrize("entries", [["http://127.0.0.1:{port}"], ["127.0.0.0/8"]])
def test_what_the_operator_names_is_fetched(entries: Iterable[str]) -> None:
    @looped
    async def story() -> None:
        async with Scripted([HELLO]) as upstream:
            allowed = Allowed([each.replace("{port}", str(upstream.port)) for each in entries])
            opened = await Fetcher(Names()).open(f"http://127.0.0.1:{upstream.port}/a?b=c", allowed, later(5))
            assert isinstance(opened, Answer) and await opened.read(100) == b"hello"
            (request,) = upstream.requests
            assert request.startswith(b"GET /a?b=c HTTP/1.1\r\n") and b"authorization" not in request.lower()

    story()


def test_a_redirect_is_the_answer_and_is_not_followed() -> None:
    moved = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n"

    @looped
    async def story() -> None:
        async with Scripted([moved]) as upstream:
            opened = await Fetcher(Names()).open(
                f"http://127.0.0.1:{upstream.port}/", Allowed(["127.0.0.0/8"]), later(5)
            )
            assert isinstance(opened, Answer) and opened.status == 302
            assert upstream.accepted == 1

    story()
