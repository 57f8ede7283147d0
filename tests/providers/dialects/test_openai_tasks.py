"""Whatever a body holds, OpenAI's task codecs read it or refuse it by name, and what they read they can send."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects import DIALECTS
from providers.dialects.openai_tasks import TASKS
from providers.spec import Blob, Body, Unreadable, raw

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.sampled_from(["", "1", "512x512", "url", "word", "verbose_json", "auto", "data:,", "https://a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
NAMES = st.sampled_from(
    ["model", "input", "prompt", "query", "documents", "image", "mask", "n", "size", "response_format", "quality",
     "output_format", "encoding_format", "dimensions", "user", "voice", "speed", "language", "temperature", "top_n",
     "timestamp_granularities[]", "return_documents", "stream", "seed", "include[]"],
) | st.text(max_size=5)  # fmt: skip
VALUES = JSON.map(raw) | st.binary(max_size=8).map(msgspec.Raw)
FILES = st.dictionaries(st.sampled_from(["file", "image", "image[]", "mask", "x"]), st.binary(max_size=9).map(Blob))
BODIES = st.builds(
    Body, fields=st.dictionaries(NAMES, VALUES, max_size=6), file=st.none() | st.just(Blob(b"x")), files=FILES
)
GOOD: dict[str, Body] = {
    "feature-extraction": Body({"input": raw("a")}),
    "text-to-image": Body({"prompt": raw("a")}),
    "image-to-image": Body({"prompt": raw("a")}, files={"image": Blob(b"x")}),
    "text-to-speech": Body({"input": raw("a")}),
    "automatic-speech-recognition": Body(files={"file": Blob(b"x")}),
    "text-ranking": Body({"query": raw("a"), "documents": raw(["b"])}),
}


def test_the_dialect_has_them() -> None:
    assert DIALECTS["openai"].tasks.items() >= TASKS.items()
    assert set(TASKS) == set(GOOD)


@pytest.mark.parametrize("task", TASKS)
@given(body=BODIES)
def test_reading_raises_nothing_but_unreadable(task: str, body: Body) -> None:
    with contextlib.suppress(Unreadable):
        ask, _ = TASKS[task].read(body)
        assert ask.task == task and None not in ask.parameters.values()


@pytest.mark.parametrize("task", TASKS)
@given(extra=st.dictionaries(NAMES, JSON.map(raw), max_size=4))
def test_what_is_read_can_be_sent_and_read_again(task: str, extra: dict[str, Any]) -> None:
    good = GOOD[task]
    try:
        ask, _ = TASKS[task].read(Body({**extra, **good.fields}, files=good.files))
        send = TASKS[task].encode(ask)
    except Unreadable:
        return
    assert send.path == "" and send.body
    if send.mime == "application/json":
        fields = msgspec.json.decode(send.body, type=dict[str, msgspec.Raw])
        again, _ = TASKS[task].read(Body(fields))
        assert (again.inputs, again.parameters, again.accept) == (ask.inputs, ask.parameters, ask.accept)
