"""huggingface_hub as the oracle of every provider and task that it knows: the same requests, and the same answers.

Where we send something else on purpose, DIFFERENCES says what and why; whatever it does not say must be the same.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from huggingface_hub import set_client_factory
from huggingface_hub.utils._http import default_client_factory

from providers import media
from providers.dialects import DIALECTS
from providers.spec import Blob, Fetch, Send, Wait
from tests.providers import oracle
from tests.providers.driving import NOTHING, on_the_wire, reply_of
from tests.providers.hub_calls import CALLS, HubCall
from tests.providers.hub_replies import Replies, replies_of
from tests.providers.oracle import HUB, Wire

PAIRS = oracle.pairs()
KNOWN = 74  # provider × task of huggingface_hub 2.4


@dataclass(frozen=True)
class Difference:
    """`change` makes ours of theirs."""

    reason: str
    change: Callable[[dict[str, Any], HubCall], dict[str, Any]]


def timed(body: dict[str, Any], call: HubCall) -> dict[str, Any]:
    if "return_timestamps" not in call.parameters:
        return body
    asked = [("response_format", "verbose_json"), ("timestamp_granularities[]", "segment")]
    return body | {"form": [part for part in body["form"] if part[0] != "return_timestamps"] + asked}


def completed(body: dict[str, Any], call: HubCall) -> dict[str, Any]:
    kept = {name: value for name, value in body.items() if name not in ("max_new_tokens", "do_sample")}
    return kept | {"max_tokens": call.parameters["max_new_tokens"], "stream": False}


def with_lora(body: dict[str, Any], call: HubCall) -> dict[str, Any]:
    return body | {"loras": [{"path": "org/model", "scale": 1}]} if call.weights else body


def named(body: dict[str, Any], call: HubCall) -> dict[str, Any]:
    if getattr(call.inputs, "mime_type", None) == "image/png":
        body = body | {"image": body["image"].replace("image/jpeg", "image/png")}
    return with_lora(body, call)


def replicate_lora(body: dict[str, Any], call: HubCall) -> dict[str, Any]:
    lora = {"lora_weights": "https://huggingface.co/org/model"} if call.weights else {}
    return body | {"input": body["input"] | lora}


def unfolded(body: dict[str, Any], call: HubCall) -> dict[str, Any]:
    kept = {name: value for name, value in body.items() if name != "target_size"}
    return {**kept, **body.get("target_size", {})}


def with_width(body: dict[str, Any], call: HubCall) -> dict[str, Any]:
    return body | ({"width": call.parameters["width"]} if "height" not in call.parameters and call.parameters else {})


def in_inputs(body: dict[str, Any], call: HubCall) -> dict[str, Any]:
    return {"inputs": {"image": body["image"], "question": body["question"]}, "parameters": body["parameters"]}


def in_data(body: dict[str, Any], call: HubCall) -> dict[str, Any]:
    return {"inputs": {"data": body["table"]}, "parameters": body["parameters"]}


_COMPLETIONS = Difference(
    "a completions API knows max_tokens and no do_sample, which is said by the temperature; two helpers of the four "
    "rename the former, and what they leave these APIs ignore, so that an answer ends after their 16 tokens",
    completed,
)
_LORA = "huggingface_hub leaves the LoRA out, and gets the base model's work; as huggingface.js does it"

DIFFERENCES: dict[tuple[str, str], Difference] = {
    ("deepinfra", "automatic-speech-recognition"): Difference(
        "return_timestamps is the Hub's word and unknown there; verbose_json is what has the times", timed
    ),
    **{(name, "text-generation"): _COMPLETIONS for name in ("deepinfra", "featherless-ai", "novita", "together")},
    ("hf-inference", "tabular-classification"): Difference(
        "one form of the two that the Hub's clients send, huggingface.js's; its own caller's body goes up as it came",
        in_data,
    ),
    ("hf-inference", "visual-question-answering"): Difference(
        "the picture once, as huggingface.js sends it, not twice; its own caller's body goes up as it came", in_inputs
    ),
    ("replicate", "image-to-image"): Difference(_LORA, replicate_lora),
    ("together", "image-to-image"): Difference(
        "target_size is the Hub's word; the helper unfolds it for films and forgets it for pictures", unfolded
    ),
    **{("wavespeed", task): Difference(_LORA, with_lora) for task in ("text-to-image", "text-to-video")},
    **{
        ("wavespeed", task): Difference(f"{_LORA}; and a PNG is called a PNG, not a JPEG", named)
        for task in ("image-to-image", "image-to-video")
    },
    ("zai-org", "text-to-image"): Difference("the helper drops a width that stands alone without a word", with_width),
}


def calls_of(name: str, task: str) -> Iterator[HubCall]:
    """hf-inference's helper downloads what is given by URL."""
    for call in CALLS[task]:
        if name != HUB or not str(call.inputs).startswith("https://"):
            yield call


def both(monkeypatch: pytest.MonkeyPatch, name: str, task: str, call: HubCall) -> tuple[Wire, Wire]:
    request = oracle.prepared(monkeypatch, name, task, call, oracle.helper_of(name, task))
    theirs = oracle.theirs(request)
    # Bytes of no kind that anybody knows go without a type there, and with the one that says so here.
    theirs["headers"].setdefault("content-type", "application/octet-stream")
    return theirs, oracle.ours(name, task, call, oracle.hub_body(monkeypatch, task, call))


def changed(theirs: Wire, name: str, task: str, call: HubCall) -> Wire:
    difference = DIFFERENCES.get((name, task))
    return theirs | {"body": difference.change(theirs["body"], call)} if difference else theirs


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_the_official_client_would_send_the_same(monkeypatch: pytest.MonkeyPatch, name: str, task: str) -> None:
    for call in calls_of(name, task):
        theirs, ours = both(monkeypatch, name, task, call)
        assert ours == changed(theirs, name, task, call)


def test_every_pair_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    agreeing = [
        (name, task)
        for name, task in PAIRS
        if all(
            ours == changed(theirs, name, task, call)
            for call in calls_of(name, task)
            for theirs, ours in [both(monkeypatch, name, task, call)]
        )
    ]
    print(f"{len(agreeing)}/{len(PAIRS)} pairs of provider and task send what huggingface_hub sends")
    for (name, task), difference in sorted(DIFFERENCES.items()):
        print(f"  but {name} {task}: {difference.reason}")
    assert (len(agreeing), len(PAIRS)) == (KNOWN, KNOWN)


@pytest.mark.parametrize(("name", "task"), sorted(DIFFERENCES))
def test_every_difference_is_one(monkeypatch: pytest.MonkeyPatch, name: str, task: str) -> None:
    sides = [both(monkeypatch, name, task, call) for call in calls_of(name, task)]
    assert any(theirs != ours for theirs, ours in sides)


# Answers


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The helpers' queues are looked after without the pauses between two looks."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    yield
    set_client_factory(default_client_factory)


def their_answer(monkeypatch: pytest.MonkeyPatch, name: str, task: str, replies: Replies) -> Any:
    def at(request: httpx2.Request) -> httpx2.Response:
        value = replies.at[str(request.url)]
        return httpx2.Response(200, content=value) if isinstance(value, bytes) else httpx2.Response(200, json=value)

    set_client_factory(lambda: httpx2.Client(transport=httpx2.MockTransport(at)))
    helper = oracle.helper_of(name, task)
    request = oracle.prepared(monkeypatch, name, task, CALLS[task][replies.call], helper)
    answer = helper.get_response(reply_of(replies.first).body, request)
    return answer if isinstance(answer, bytes) and task in _FILES else _parsed(answer)


_FILES = ("text-to-image", "image-to-image", "text-to-speech", "text-to-video", "image-to-video")


def _parsed(answer: Any) -> Any:
    return json.loads(answer) if isinstance(answer, bytes) else answer


def our_answer(monkeypatch: pytest.MonkeyPatch, name: str, task: str, replies: Replies) -> Any:
    call = CALLS[task][replies.call]
    if task == "conversational" or (name, task) == (HUB, "text-generation"):
        return replies.first  # relayed as it came: both ends speak one dialect
    body = oracle.hub_body(monkeypatch, task, call)
    if task == "text-generation":
        codec = DIALECTS["huggingface"].codecs[task]
        fields = oracle.hub_body(monkeypatch, task, HubCall("hi", {"return_full_text": False, "details": True})).fields
        (answer,) = json.loads(codec.write(replies.first, codec.read(fields)[1]))
        return answer
    ask, want = oracle.asked(name, task, call, body)
    play = oracle.play_of(name, ask)
    step = next(play)
    said = replies.first
    try:
        while True:
            step = play.send(NOTHING if isinstance(step, Wait) else reply_of(said))
            said = said if isinstance(step, Wait) else _at(name, call, replies, step)
    except StopIteration as end:
        result = end.value
    written = DIALECTS["huggingface"].tasks[task].write(result, want)
    if isinstance(written, Blob):
        return written.data
    return json.loads(written.body) if not isinstance(written, Fetch | Send) else _at(name, call, replies, written)


def _at(name: str, call: HubCall, replies: Replies, step: Send | Fetch) -> Any:
    """What the provider's URLs lead to; its own request once more is the answer to that, passed on as it came."""
    if isinstance(step, Fetch):
        return media.from_data_url(step.url).data if step.url.startswith("data:") else replies.at[step.url]
    if step.method == "POST":
        return replies.first
    return replies.at[on_the_wire(oracle.provider_of(name), step, oracle.id_of(name, call))["url"]]


def comparable(task: str, answer: Any) -> Any:
    """Of generated text what the client hands out: reasons for its end are words of OpenAI's there, of TGI's here."""
    return answer["generated_text"] if task == "text-generation" and isinstance(answer, dict) else answer


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_the_official_client_would_make_the_same_of_the_answer(
    monkeypatch: pytest.MonkeyPatch, name: str, task: str
) -> None:
    replies = replies_of(name, task)
    theirs = their_answer(monkeypatch, name, task, replies)
    assert comparable(task, our_answer(monkeypatch, name, task, replies)) == comparable(task, theirs)


@pytest.mark.usefixtures("unhurried")
def test_every_answer_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    agreeing = [
        (name, task)
        for name, task in PAIRS
        if comparable(task, our_answer(monkeypatch, name, task, replies_of(name, task)))
        == comparable(task, their_answer(monkeypatch, name, task, replies_of(name, task)))
    ]
    print(f"{len(agreeing)}/{len(PAIRS)} pairs of provider and task make the same of an answer")
    assert len(agreeing) == KNOWN
