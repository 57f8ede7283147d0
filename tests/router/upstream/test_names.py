"""Names are looked up beside the loop, once at a time, and remembered for as long as nobody knows better."""

import asyncio
import socket
import threading
import time

import pytest

from router.upstream.names import FRESH, STALE, Names
from tests.router.upstream.scripted import HELLO, Scripted, looped


class Server:
    """A name server: what it says, how often it was asked, and how long it takes."""

    def __init__(self, *answers: list[str] | OSError) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.go = threading.Event()
        self.go.set()

    def ask(self, host: str) -> list[str]:
        self.asked.append(host)
        self.go.wait(10)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        return answer


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


NOBODY = socket.gaierror(socket.EAI_NONAME, "unknown")


@looped
async def test_an_answer_is_believed_for_a_while_and_then_asked_for_again() -> None:
    server, clock = Server(["10.0.0.1"], ["10.0.0.2"]), Clock()
    names = Names(server.ask, clock)
    assert await names.find("a.example") == ["10.0.0.1"]
    clock.now += FRESH - 1
    assert await names.find("a.example") == ["10.0.0.1"] and len(server.asked) == 1
    clock.now += 2
    assert await names.find("a.example") == ["10.0.0.1"]  # at once, while the next is asked for
    await asyncio.sleep(0.2)
    assert await names.find("a.example") == ["10.0.0.2"] and len(server.asked) == 2


@looped
async def test_while_nobody_answers_the_last_answer_serves_and_not_for_ever() -> None:
    server, clock = Server(["10.0.0.1"], NOBODY), Clock()
    names = Names(server.ask, clock)
    await names.find("a.example")
    clock.now += STALE - 1
    assert await names.find("a.example") == ["10.0.0.1"]
    clock.now += 2
    with pytest.raises(socket.gaierror):
        await names.find("a.example")


@looped
async def test_one_that_hangs_holds_up_nobody_else_and_is_asked_once() -> None:
    server = Server(["10.0.0.1"])
    server.go.clear()
    names = Names(server.ask)
    waiting = [asyncio.create_task(names.find("slow.example")) for _ in range(50)]
    await asyncio.sleep(0.05)
    assert server.asked == ["slow.example"]
    began = time.monotonic()
    quick = Names(Server(["10.0.0.2"]).ask)
    assert await quick.find("quick.example") == ["10.0.0.2"]
    for each in waiting[:25]:
        each.cancel()
    server.go.set()
    assert await asyncio.gather(*waiting[25:]) == [["10.0.0.1"]] * 25
    assert time.monotonic() - began < 2


@looped
async def test_an_address_is_its_own_answer_and_nonsense_is_nobody() -> None:
    server = Server(NOBODY)
    names = Names(server.ask)
    assert await names.find("127.0.0.1") == ["127.0.0.1"] and await names.find("::1") == ["::1"]
    assert not server.asked
    with pytest.raises(socket.gaierror):
        await names.find("a.example")
    with pytest.raises(socket.gaierror):
        await Names().find("a" * 300)


@looped
async def test_where_the_first_address_takes_nobody_the_next_is_tried() -> None:
    async with Scripted([HELLO]) as upstream:
        pool = upstream.pool()
        names = Names(Server(["127.0.0.2", "127.0.0.1"]).ask)
        object.__setattr__(pool.dialer, "names", names)
        object.__setattr__(pool.dialer, "origin", type(pool.dialer.origin)("http", "two.example", upstream.port))
        answer = await pool.open(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"", first=5, deadline=1e9, replay=True)
        assert getattr(answer, "status", answer) == 200
        await pool.close()
