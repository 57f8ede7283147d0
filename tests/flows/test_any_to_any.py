"""Whoever asks, in whatever shape, of whatever provider: the answer means the same, and the key is the provider's.

One cell is one way of asking at one kind of provider, with an upstream, a key and a model of its own.
"""

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import httpx2
import pytest

import providers
from providers import media, spec
from router.routing.table import KIN
from tests.flows.families import HEARD, LIKE, VECTORS, WORDS, Families, families, made
from tests.providers.hub_calls import FLAC, JPEG, b64
from tests.providers.hub_replies import SCORED
from tests.running import KEY, Running, serving

FAMILIES: Final = (
    "openai", "together", "deepinfra", "hf-inference", "tgi", "tei", "transformers", "diffusers", "fal-ai",
    "replicate", "wavespeed", "nscale", "zai-org", "black-forest-labs", "hyperbolic", "nebius", "novita", "sandbox",
)  # fmt: skip
PROMPT: Final = "hi"
QUERY, *TEXTS = VECTORS
RANKED: Final = [0, 1]


@dataclass(frozen=True)
class Call:
    """One way of asking. `body`: model → the request's body; `read`: what its answer comes to."""

    name: str
    task: str
    path: str
    body: Callable[[str], dict[str, Any]]
    read: Callable[[httpx2.Response], Any]


def json_of(**fields: Any) -> Callable[[str], dict[str, Any]]:
    return lambda model: {"json": {"model": model, **fields}}


def hub(inputs: Any, **more: Any) -> Callable[[str], dict[str, Any]]:
    return lambda model: {"json": {"inputs": inputs, **more}}


def form(name: str, file: tuple[str, bytes], **fields: str) -> Callable[[str], dict[str, Any]]:
    return lambda model: {"files": {name: file}, "data": {"model": model, **fields}}


def raw(data: bytes, kind: str) -> Callable[[str], dict[str, Any]]:
    return lambda model: {"content": bytes(data), "headers": {"content-type": kind}}


def events(answer: httpx2.Response) -> list[Any]:
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.headers
    lines = [line.removeprefix("data:").strip() for line in answer.text.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def chatted(answer: httpx2.Response) -> Any:
    return answer.json()["choices"][0]["message"]["content"]


def chatted_on(answer: httpx2.Response) -> Any:
    assert answer.text.rstrip().endswith("data: [DONE]")
    return "".join(each["choices"][0]["delta"].get("content") or "" for each in events(answer) if each["choices"])


def completed(answer: httpx2.Response) -> Any:
    return answer.json()["choices"][0]["text"]


def completed_on(answer: httpx2.Response) -> Any:
    assert answer.text.rstrip().endswith("data: [DONE]")
    return "".join(each["choices"][0]["text"] for each in events(answer) if each["choices"])


def whole(answer: httpx2.Response) -> Any:
    [said] = answer.json()
    assert said["generated_text"].startswith(PROMPT)  # the Hub gives the prompt back
    return said["generated_text"].removeprefix(PROMPT)


def tokens(answer: httpx2.Response) -> Any:
    *_, last = found = events(answer)
    assert last["generated_text"].endswith("".join(each["token"]["text"] for each in found))
    return "".join(each["token"]["text"] for each in found)


def ollama_on(answer: httpx2.Response) -> Any:
    *_, last = lines = [json.loads(line) for line in answer.text.splitlines()]
    assert last["done"]
    return "".join(each["response"] for each in lines)


def drawn(answer: httpx2.Response) -> Any:
    return base64.b64decode(answer.json()["data"][0]["b64_json"])


def file(answer: httpx2.Response) -> Any:
    assert answer.headers["content-type"] == media.sniff(answer.content)
    return answer.content


def reranked(answer: httpx2.Response) -> Any:
    return [(each["index"], round(each["relevance_score"], 6)) for each in answer.json()["results"]]


def ranked(answer: httpx2.Response) -> Any:
    return [(each["index"], round(each["score"], 6)) for each in answer.json()]


def labelled(answer: httpx2.Response) -> Any:
    [labels] = answer.json()
    return labels


CHAT: Final = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 5}
IMAGE: Final = ("a.jpg", bytes(JPEG))
OF: Final = "/models/{model}"
HUB_RANKING: Final = {"query": QUERY, "texts": TEXTS}
HUB_SENTENCES: Final = {"source_sentence": QUERY, "sentences": TEXTS}
GENERATION: Final = spec.TEXT_GENERATION

# fmt: off
CALLS: Final = (
    Call("chat", spec.CONVERSATIONAL, "/v1/chat/completions", json_of(**CHAT), chatted),
    Call("chat~", spec.CONVERSATIONAL, "/v1/chat/completions", json_of(**CHAT, stream=True), chatted_on),
    Call("compl", GENERATION, "/v1/completions", json_of(prompt=PROMPT), completed),
    Call("compl~", GENERATION, "/v1/completions", json_of(prompt=PROMPT, stream=True), completed_on),
    Call("hub", GENERATION, OF, hub(PROMPT), whole),
    Call("hub~", GENERATION, OF, hub(PROMPT, stream=True), tokens),
    Call("tgi", GENERATION, "/tgi/{model}/generate", hub(PROMPT), lambda answer: answer.json()["generated_text"]),
    Call("tgi~", GENERATION, "/tgi/{model}/generate_stream", hub(PROMPT), tokens),
    Call("ollama", GENERATION, "/api/generate", json_of(prompt=PROMPT, stream=False),
         lambda answer: answer.json()["response"]),
    Call("ollama~", GENERATION, "/api/generate", json_of(prompt=PROMPT), ollama_on),
    Call("embed", spec.FEATURE_EXTRACTION, "/v1/embeddings", json_of(input=[QUERY, *TEXTS]),
         lambda answer: [each["embedding"] for each in answer.json()["data"]]),
    Call("hub", spec.FEATURE_EXTRACTION, OF, hub([QUERY, *TEXTS]), httpx2.Response.json),
    Call("draw", spec.TEXT_TO_IMAGE, "/v1/images/generations", json_of(prompt=PROMPT, response_format="b64_json"),
         drawn),
    Call("hub", spec.TEXT_TO_IMAGE, OF, hub(PROMPT), file),
    Call("edit", spec.IMAGE_TO_IMAGE, "/v1/images/edits", form("image", IMAGE, prompt=PROMPT), drawn),
    Call("hub", spec.IMAGE_TO_IMAGE, OF, hub(b64(JPEG), parameters={"prompt": PROMPT}), file),
    Call("hub", spec.TEXT_TO_VIDEO, OF, hub(PROMPT), file),
    Call("hear", spec.SPEECH_RECOGNITION, "/v1/audio/transcriptions", form("file", ("a.flac", bytes(FLAC))),
         lambda answer: answer.json()["text"].strip()),
    Call("hub", spec.SPEECH_RECOGNITION, OF, raw(FLAC, "audio/flac"), lambda answer: answer.json()["text"].strip()),
    Call("say", spec.TEXT_TO_SPEECH, "/v1/audio/speech", json_of(input=PROMPT, voice="v"), file),
    Call("hub", spec.TEXT_TO_SPEECH, OF, hub(PROMPT), file),
    Call("rerank", spec.TEXT_RANKING, "/v1/rerank", json_of(query=QUERY, documents=TEXTS), reranked),
    Call("hub", spec.TEXT_RANKING, OF + "/pipeline/text-ranking", hub(HUB_RANKING), ranked),
    Call("hub", spec.SENTENCE_SIMILARITY, OF + "/pipeline/sentence-similarity", hub(HUB_SENTENCES),
         lambda answer: [round(each, 6) for each in answer.json()]),
    Call("hub", "text-classification", OF, hub(PROMPT), labelled),
)
# fmt: on
TITLES: Final[dict[str, str]] = {
    spec.FEATURE_EXTRACTION: "features",
    spec.TEXT_TO_IMAGE: "paint",
    spec.IMAGE_TO_IMAGE: "change",
    spec.TEXT_TO_VIDEO: "film",
    spec.SPEECH_RECOGNITION: "hear",
    spec.TEXT_TO_SPEECH: "speak",
    spec.TEXT_RANKING: "rank",
    spec.SENTENCE_SIMILARITY: "compare",
    "text-classification": "classify",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    place: str  # the names of its upstream and its model too
    family: str
    has: str  # the provider's task that serves it
    call: Call

    @property
    def refused(self) -> bool:
        """The Inference toolkit does not stream."""
        return (self.family, self.call.task) == ("transformers", GENERATION) and self.call.name.endswith("~")

    def means(self) -> Any:
        task = self.call.task
        if task in (spec.CONVERSATIONAL, GENERATION):
            return WORDS
        if task == spec.SPEECH_RECOGNITION:
            return HEARD
        if task == spec.FEATURE_EXTRACTION:
            return list(VECTORS.values())
        if task == spec.SENTENCE_SIMILARITY:
            return LIKE
        if task == spec.TEXT_RANKING:
            return list(zip(RANKED, LIKE, strict=True))
        return SCORED if task == "text-classification" else made(self.family, task)


def has(family: str, task: str) -> str:
    """The task of the provider's that stands nearest; empty where it has none."""
    provider = providers.find(family)
    assert provider is not None
    stand_in = {GENERATION: (spec.CONVERSATIONAL,), **KIN}.get(task, ())
    return next((each for each in (task, *stand_in) if each in provider.tasks()), "")


CELLS: Final = [
    Cell(f"p{number}", family, has(family, call.task), call)
    for number, (family, call) in enumerate((family, call) for family in FAMILIES for call in CALLS)
    if has(family, call.task)
]


def config(base: str) -> str:
    def upstream(cell: Cell) -> dict[str, Any]:
        if cell.family == "sandbox":
            return {"provider": "sandbox"}
        given = {"provider": cell.family, "base_url": f"{base}/{cell.place}", "keys": [key_of(cell)]}
        return given | {"fetch_from": ["127.0.0.0/8"]}

    def route(cell: Cell) -> dict[str, Any]:
        known = "sandbox/echo" if cell.family == "sandbox" else "vendor/model-x"
        return {"task": cell.has, "deployments": [{"upstream": cell.place, "provider_id": known}]}

    settings = {
        "virtual_keys": [{"name": "alice", "key": KEY}],
        "upstreams": {cell.place: upstream(cell) for cell in CELLS},
        "models": {f"org/{cell.place}": route(cell) for cell in CELLS},
    }
    return json.dumps(settings)


def key_of(cell: Cell) -> str:
    return f"canary-of-{cell.family}-{cell.place}-0000"


@pytest.fixture(scope="module")
def speaking() -> Iterator[Families]:
    with families({cell.place: (cell.family, cell.has) for cell in CELLS}) as known:
        yield known


@pytest.fixture(scope="module")
def running(speaking: Families, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(config(speaking.base), tmp_path_factory.mktemp("any-to-any")) as running:
        yield running


def fault(cell: Cell, client: httpx2.Client, known: Families) -> str:
    """What is wrong with it; empty for nothing."""
    try:
        model = f"org/{cell.place}"
        answer = client.post(cell.call.path.format(model=model), **cell.call.body(model))
        if cell.refused:
            assert answer.status_code in (400, 422) and answer.json()["error"], answer.text
            assert cell.place not in known.asked, "it was asked all the same"
            return ""
        if answer.status_code != 200:
            return f"{answer.status_code} {answer.text[:200]}"
        found = cell.call.read(answer)
    except (AssertionError, ValueError, LookupError, TypeError, httpx2.HTTPError) as error:
        return f"{type(error).__name__}: {error}"
    if cell.family == "sandbox":
        return "" if sandbox_means(cell.call.task, found) else f"it came to {found!r:.200}"
    if found != cell.means():
        return f"it came to {found!r:.200}, not {cell.means()!r:.200}"
    return wrong_keys(cell, known)


def wrong_keys(cell: Cell, known: Families) -> str:
    provider = providers.find(cell.family)
    assert provider is not None
    name, prefix = provider.auth
    heads = [each.head for each in known.asked[cell.place]]
    ours = all(f"{name}: {prefix}{key_of(cell)}" in head and head.count("canary") == 1 for head in heads)
    return "" if ours and KEY not in "".join(heads) else f"another key went up: {heads}"


def sandbox_means(task: str, found: Any) -> bool:
    """The sandbox makes its own, and its answers are tested where it stands."""
    match task:
        case spec.CONVERSATIONAL | spec.TEXT_GENERATION:
            return bool(found == PROMPT)
        case spec.SPEECH_RECOGNITION:
            return bool(found.startswith("heard"))
        case spec.FEATURE_EXTRACTION:
            return [len(each) for each in found] == [len(found[0])] * len(VECTORS)
        case spec.SENTENCE_SIMILARITY:
            return len(found) == len(TEXTS) and all(-1 <= each <= 1 for each in found)
        case spec.TEXT_RANKING:
            return [index for index, _ in found] == RANKED
        case "text-classification":
            return len(found) > 1
    return media.sniff(found) in ("image/png", "audio/wav", "video/mp4")


def test_every_shape_reaches_every_provider_that_has_the_task(running: Running, speaking: Families) -> None:
    headers = {"authorization": f"Bearer {KEY}", "x-use-cache": "0"}
    with httpx2.Client(base_url=running.base, headers=headers, timeout=30) as client, ThreadPoolExecutor(16) as pool:
        slow_first = sorted(CELLS, key=lambda cell: cell.family != "zai-org")
        found = dict(zip(slow_first, pool.map(lambda cell: fault(cell, client, speaking), slow_first), strict=True))
    print(grid(found))
    for each in speaking.asked["files"]:
        assert "canary" not in each.head.lower(), each
    faults = {f"{cell.family}: {cell.call.task} by {cell.call.name}": said for cell, said in found.items() if said}
    assert not faults, "\n".join(f"{where}: {said}" for where, said in faults.items())


def grid(found: dict[Cell, str]) -> str:
    """A row a provider, a column a way of asking. ~: a stream; no: refused, as it has to be."""
    width = [max(len(call.name), len(TITLES.get(call.task, ""))) for call in CALLS]
    signs = {
        (cell.family, cell.call): "FAIL" if said else "no" if cell.refused else "ok" for cell, said in found.items()
    }
    rows = [("", [TITLES.get(call.task, "text") for call in CALLS]), ("", [call.name for call in CALLS])]
    rows += [(family, [signs.get((family, call), "·") for call in CALLS]) for family in FAMILIES]
    lines = [
        f"{name:18}" + " ".join(f"{sign:{wide}}" for sign, wide in zip(row, width, strict=True)) for name, row in rows
    ]
    return "\n".join(
        ["", *(line.rstrip() for line in lines), f"{len(found)} cells, {sum(map(bool, found.values()))} wrong"]
    )
