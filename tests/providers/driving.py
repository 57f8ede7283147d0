"""Plays a provider's generator by hand: scripted replies in, every step and the end out; what a Send is on the wire."""

import json
from collections.abc import Generator, Iterable
from typing import Any
from urllib.parse import quote

import msgspec

from providers.spec import Ask, Failed, Play, Provider, Reply, Result, Send, Step, Wait

NOTHING = Reply(200, {}, b"")


def play_of(provider: Provider, ask: Ask) -> Play:
    play = provider.adapters[ask.task, ""].play
    assert play is not None
    return play(ask)


def reply_of(value: Any, mime: str = "") -> Reply:
    """A Reply as it is, bytes as a file, and anything else as JSON."""
    if isinstance(value, Reply):
        return value
    if isinstance(value, bytes):
        return Reply(200, {"content-type": mime} if mime else {}, value)
    return Reply(200, {"content-type": "application/json"}, msgspec.json.encode(value))


def drive(play: Play, replies: Iterable[Any] = ()) -> tuple[list[Step], Result]:
    """Every Send and Fetch is answered by the next of `replies`, every Wait by nothing. Raises what the play raises.

    Asserts that the play asks for as many replies as there are.
    """
    steps, end = ended(play, replies)
    if isinstance(end, Failed):
        raise end
    return steps, end


def ended(play: Play, replies: Iterable[Any] = ()) -> tuple[list[Step], Result | Failed]:
    """As `drive`, but a play that ends with Failed gives it, and the steps before it."""
    steps: list[Step] = []
    script = [reply_of(value) for value in replies]
    end: Result | Failed | None = None

    def recorded() -> Generator[Step, Reply, None]:
        nonlocal end
        try:
            end = yield from play
        except Failed as failed:
            end = failed

    recording = recorded()
    step = next(recording, None)
    while step is not None:
        steps.append(step)
        assert script or isinstance(step, Wait), f"no reply was scripted for {step}"
        try:
            step = recording.send(NOTHING if isinstance(step, Wait) else script.pop(0))
        except StopIteration:
            step = None
    assert not script, "the play ended before the script"
    assert end is not None
    return steps, end


def on_the_wire(provider: Provider, send: Send, provider_id: str) -> dict[str, Any]:
    """A Send as it goes out with the key KEY: method, url, headers, and the body, parsed where it is JSON."""
    assert not send.origin or send.origin in provider.origins
    assert send.path.startswith("/")
    header, prefix = provider.auth
    body: Any = send.body
    if body is not None and send.mime == "application/json":
        body = json.loads(body)
    return {
        "method": send.method,
        "url": (send.origin or provider.base_url or "") + send.path.replace("{id}", quote(provider_id, safe="/:")),
        "headers": {**provider.headers, **send.headers, header: f"{prefix}KEY"},
        "body": body,
    }
