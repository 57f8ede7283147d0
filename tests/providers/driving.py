"""Plays a provider's generator by hand: scripted replies in, every step and the result out."""

from collections.abc import Generator, Iterable
from typing import Any

import msgspec

from providers.spec import Play, Reply, Result, Step, Wait

NOTHING = Reply(200, {}, b"")


def reply_of(value: Any, mime: str = "") -> Reply:
    """A Reply as it is, bytes as a file, and anything else as JSON."""
    if isinstance(value, Reply):
        return value
    if isinstance(value, bytes):
        return Reply(200, {"content-type": mime} if mime else {}, value)
    return Reply(200, {"content-type": "application/json"}, msgspec.json.encode(value))


def drive(play: Play, replies: Iterable[Any]) -> tuple[list[Step], Result]:
    """Every Send and Fetch is answered by the next of `replies`, every Wait by nothing. Failed is left to the caller.

    Asserts that the play asks for as many replies as there are.
    """
    steps: list[Step] = []
    script = [reply_of(value) for value in replies]
    result: Result | None = None

    def recorded() -> Generator[Step, Reply, None]:
        nonlocal result
        result = yield from play

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
    assert result is not None
    return steps, result
