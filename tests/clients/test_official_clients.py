"""The official openai and huggingface_hub clients, unmodified, against the running server."""

import asyncio
import io
import wave
from collections.abc import Iterator

import httpx2
import openai
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from openai.types.chat import ChatCompletionUserMessageParam

from tests.running import KEY, Running, serving

CONFIG = f"""
virtual_keys: [{{name: alice, key: {KEY}}}]
upstreams: {{sandbox: {{provider: sandbox}}}}
models:
  plain-chat: {{task: conversational, deployments: [{{upstream: sandbox, provider_id: sandbox/echo}}]}}
"""
ECHO = "sandbox/echo"
SAY: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "hello big world"}]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(CONFIG, tmp_path_factory.mktemp("clients")) as running:
        yield running


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=running.base + "/v1", api_key=KEY, max_retries=0) as client:
        yield client


def sound() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(b"\0\0" * 8000)
    return file.getvalue()


def test_openai_chats(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model=ECHO, messages=SAY)
    assert reply.choices[0].message.content == "hello big world"
    assert reply.usage is not None and reply.usage.completion_tokens == 3


def test_openai_streams_and_gets_usage_only_when_it_asks(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model=ECHO, messages=SAY, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "hello big world"
    asked = list(
        client.chat.completions.create(model=ECHO, messages=SAY, stream=True, stream_options={"include_usage": True})
    )
    assert asked[-1].choices == [] and asked[-1].usage is not None


def test_openai_async_streams(running: Running) -> None:
    async def talk() -> str:
        async with openai.AsyncOpenAI(base_url=running.base + "/v1", api_key=KEY) as client:
            stream = await client.chat.completions.create(model=ECHO, messages=SAY, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(talk()) == "hello big world"


def test_openai_completes(client: openai.OpenAI) -> None:
    assert client.completions.create(model=ECHO, prompt="a b c").choices[0].text == "a b c"
    chunks = client.completions.create(model=ECHO, prompt="a b c", stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "a b c"


def test_openai_embeds(client: openai.OpenAI) -> None:
    vectors = client.embeddings.create(model=ECHO, input=["one", "two"]).data
    plain = client.embeddings.create(model=ECHO, input="one", encoding_format="float").data
    assert len(vectors) == 2
    assert vectors[0].embedding == pytest.approx(plain[0].embedding, abs=1e-6)


def test_openai_paints_and_edits(client: openai.OpenAI) -> None:
    painted = client.images.generate(model=ECHO, prompt="a cat", response_format="b64_json").data
    edited = client.images.edit(model=ECHO, image=("a.png", b"\x89PNG\r\n\x1a\n" + b"0" * 99), prompt="blue").data
    assert painted and painted[0].b64_json and edited and edited[0].b64_json


def test_openai_speaks_and_listens(client: openai.OpenAI) -> None:
    assert (
        client.audio.speech.create(model=ECHO, voice="alloy", input="hi", response_format="wav").content[:4] == b"RIFF"
    )
    heard = client.audio.transcriptions.create(model=ECHO, file=("a.wav", sound()))
    assert heard.text == f"heard {len(sound())} bytes of a.wav"


def test_a_file_that_stands_before_the_model_is_heard_too(running: Running) -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + sound()
    body += b'\r\n--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nsandbox/echo\r\n--B--\r\n'
    headers = {"authorization": f"Bearer {KEY}", "content-type": "multipart/form-data; boundary=B"}
    reply = httpx2.post(running.base + "/v1/audio/transcriptions", content=body, headers=headers)
    assert reply.json()["text"] == f"heard {len(sound())} bytes of a.wav"


def test_openai_lists_models_and_finds_one(client: openai.OpenAI) -> None:
    assert ECHO in {model.id for model in client.models.list().data}
    assert client.models.retrieve(ECHO).id == ECHO


def test_openai_responds_and_moderates(client: openai.OpenAI) -> None:
    assert client.responses.create(model=ECHO, input="hi there").output_text == "hi there"
    events = [event.type for event in client.responses.create(model=ECHO, input="hi there", stream=True)]
    assert events[0] == "response.created" and events[-1] == "response.completed"
    assert client.moderations.create(model=ECHO, input="hi").results[0].flagged is False


def test_openai_reads_our_errors(running: Running, client: openai.OpenAI) -> None:
    with openai.OpenAI(base_url=running.base + "/v1", api_key="hf_" + "x" * 30, max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError):
            stranger.models.list()
        with pytest.raises(openai.AuthenticationError):
            stranger.chat.completions.create(model=ECHO, messages=SAY)
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="no/such", messages=SAY)
    assert missing.value.code == "model_not_found" and missing.value.param == "model"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=ECHO, messages=SAY, extra_body={"stream": "yes"})
    assert wrong.value.param == "stream"


@pytest.mark.parametrize("model", ["sandbox/echo", "plain-chat"])  # relayed; through the canonical form
def test_hub_generates_text_as_tgi_does(running: Running, model: str) -> None:
    client = InferenceClient(model=f"{running.base}/models/{model}", token=KEY)
    assert client.text_generation("hello there", max_new_tokens=5, return_full_text=False) == "hello there"
    told = client.text_generation("hello there", max_new_tokens=5, details=True)
    assert told.details is not None and told.details.generated_tokens == 2
    assert "".join(client.text_generation("hello there", max_new_tokens=5, stream=True)) == "hello there"
    last = list(client.text_generation("hello there", max_new_tokens=5, stream=True, details=True))[-1]
    assert last.details is not None and last.details.finish_reason == "eos_token"


def test_hub_chats(running: Running) -> None:
    client = InferenceClient(base_url=running.base + "/v1", api_key=KEY)
    assert (
        client.chat_completion([dict(each) for each in SAY], model=ECHO).choices[0].message.content == "hello big world"
    )
    chunks = client.chat_completion([dict(each) for each in SAY], model=ECHO, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "hello big world"


def test_hub_async_generates_and_chats(running: Running) -> None:
    async def talk() -> tuple[str, str | None]:
        async with AsyncInferenceClient(model=f"{running.base}/models/{ECHO}", token=KEY) as tasks:
            text = await tasks.text_generation("hello there", return_full_text=False)
        async with AsyncInferenceClient(base_url=running.base + "/v1", api_key=KEY) as chats:
            reply = await chats.chat_completion([dict(each) for each in SAY], model=ECHO)
        return text, reply.choices[0].message.content

    assert asyncio.run(talk()) == ("hello there", "hello big world")


@pytest.mark.parametrize(
    ("path", "body", "read"),
    [
        (
            "/models/plain-chat",
            {"inputs": "a b", "parameters": {"return_full_text": False}},
            [{"generated_text": "a b"}],
        ),
        (
            "//models/sandbox/echo",
            {"parameters": {"return_full_text": False}, "inputs": "a b"},
            [{"generated_text": "a b"}],
        ),
        ("/tgi/plain-chat/generate", {"inputs": "a b"}, {"generated_text": "a b"}),
        ("/api/generate", {"model": ECHO, "prompt": "a b", "stream": False}, {"response": "a b"}),
    ],
)
def test_code_completion_gets_what_its_four_backends_read(
    running: Running, path: str, body: dict[str, object], read: dict[str, str] | list[dict[str, str]]
) -> None:
    reply = httpx2.post(running.base + path, json=body, headers={"authorization": f"Bearer {KEY}"}).json()
    if isinstance(read, list):
        assert reply == read
    else:
        assert read.items() <= reply.items()


def test_code_completion_reads_an_error_that_is_one_string(running: Running) -> None:
    reply = httpx2.post(
        running.base + "/models/no/such", json={"inputs": "x"}, headers={"authorization": f"Bearer {KEY}"}
    )
    assert reply.status_code == 404 and isinstance(reply.json()["error"], str)


def test_each_request_left_one_record(running: Running) -> None:
    before = running.written()
    for _ in range(3):
        httpx2.get(running.base + "/health")
        httpx2.post(running.base + "/v1/embeddings", json={"model": ECHO, "input": "x"}, headers={"api-key": KEY})
    records = running.records(before + 3)
    assert {record["tenant"] for record in records[-3:]} == {"alice"}
    assert KEY not in running.log.read_text() + running.errors.read_text()
